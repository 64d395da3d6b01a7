"""`cvae train`, which copies the folder of its run after the first epoch: OUT.killed, as if killed then."""

from __future__ import annotations

import shutil

from cvae.__main__ import main
from cvae.training import checkpoints
from cvae.training.runs import Run

save = checkpoints.save


def _save(run: Run, *arguments: object, **options: object) -> None:
    save(run, *arguments, **options)  # type: ignore[arg-type]
    copy = run.folder.with_name(f"{run.folder.name}.killed")
    if not copy.exists():
        shutil.copytree(run.folder, copy)


if __name__ == "__main__":
    checkpoints.save = _save
    main()
