"""`make fuzz`: `python -m tests.fuzz SEEDS [TARGET...]` tries each target for a minute.

With atheris, where it is installed, coverage guides the mutations; else hypothesis draws them. What
raises anything but CvaeError, or takes longer than `_PATIENCE`, ends the run, and lies in `SEEDS/failed`.
`FUZZ_SECONDS` is the time of a target.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ..malformed import make
from .targets import TARGETS

_SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
_PATIENCE = 5.0  # seconds of one input
_ROUND = 100  # inputs between two looks at the clock


def main(seeds: Path, names: list[str]) -> None:
    warnings.simplefilter("ignore")  # of Pillow, and of pictures that come back badly
    make.main(seeds)
    for name in names or TARGETS:
        if find_spec("atheris"):
            options = [f"-max_total_time={_SECONDS}", f"-artifact_prefix={seeds}/failed-"]
            command = [sys.executable, "-m", "tests.fuzz.guided", name, str(seeds / name), *options]
            subprocess.run(command, check=True)
        else:
            print(f"{name}: {_draw(name, seeds):,} inputs, no failure", flush=True)


def _draw(name: str, folder: Path) -> int:
    """Tries inputs near the seeds until the time is up; how many."""
    seeds = [path.read_bytes() for path in sorted((folder / name).iterdir())]
    end, count = time.monotonic() + _SECONDS, 0

    @settings(
        max_examples=_ROUND, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.sampled_from(seeds), st.lists(_EDITS, max_size=6))
    def tries(seed: bytes, edits: list[tuple[float, bytes, int]]) -> None:
        nonlocal count
        count += 1
        data, started = _edited(seed, edits), time.monotonic()
        try:
            TARGETS[name](data)
            assert (took := time.monotonic() - started) < _PATIENCE, f"took {took:.1f} s"
        except BaseException:
            (folder / "failed").write_bytes(data)
            raise

    while time.monotonic() < end:
        tries()
    return count


# Where, what is put there, and how many bytes of the seed it replaces.
_EDITS = st.tuples(
    st.floats(0, 1),
    st.binary(max_size=4) | st.sampled_from([b"\xff" * 4, bytes(64)]),
    st.integers(0, 40),
)


def _edited(data: bytes, edits: list[tuple[float, bytes, int]]) -> bytes:
    for place, new, replaced in edits:
        at = round(place * len(data))
        data = data[:at] + new + data[at + replaced :]
    return data


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
