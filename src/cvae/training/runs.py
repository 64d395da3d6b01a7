"""A training run's folder: its settings and its history. No Keras in here."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypedDict

import msgspec

import cvae
from cvae import records
from cvae.data import files
from cvae.data.contents import RUN as RUN
from cvae.data.names import printable
from cvae.data.reading import Reading
from cvae.errors import OutputError, TrainingError, translated
from cvae.training.begin import Begin
from cvae.training.datasets import Dataset
from cvae.training.preset import Preset

CHECKPOINT = "checkpoint.weights.h5"
BEST = "best.weights.h5"  # the epoch of the smallest validation loss, where a preset has patience
HISTORY = "history.csv"
LINEAR = "linear.npz"
ROTATION = "rotation.npz"
SKIPPED = "skipped.txt"
FILES = (CHECKPOINT, BEST, HISTORY, LINEAR, ROTATION, RUN, SKIPPED)

_LIMITS = ("epochs", "minutes")  # of which a run that is resumed may have more

Row = dict[str, float]


class _Data(TypedDict):
    train: int  # images
    sha256: str


@dataclass(frozen=True)
class Run:
    """A training run's folder and the settings that `run.json` in it records."""

    folder: Path
    preset: Preset
    seed: int
    source: str  # where the data was read from
    data: dict[str, Any]  # what it is
    begin: str = ""  # the folder of the run, or the model file, whose weights this one started from
    begin_model: str = ""  # the id and sha256 of that file

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Reads `run.json`. Raises TrainingError when the folder holds no run."""
        expected = f"expected the folder of a training run, with a {RUN} in it"
        with translated(TrainingError, expected, folder, (OSError, ValueError, TrainingError)):
            values = records.parse((folder / RUN).read_bytes())
            preset = Preset.from_json(values.get("preset"))
            run = msgspec.convert({**values, "folder": folder, "preset": preset}, cls)
            # These raise where they are no data and no reading.
            msgspec.convert(run.data, _Data)
            _ = run.reading
            if "\0" in run.source:  # no path has it
                raise ValueError
            return run

    @property
    def reading(self) -> Reading | None:
        """How the images of a folder were read; None for other data."""
        return Reading.from_json(self.data["reading"]) if "reading" in self.data else None

    def settings(self) -> dict[str, Any]:
        """All that the weights are a function of."""
        return {
            **self.preset.to_json(),
            "seed": self.seed,
            "reading": str(self.reading),
            "fine-tune": f"{self.begin} ({self.begin_model})" if self.begin_model else self.begin,
            "data": self.data["sha256"][:12],
        }

    def is_longer(self, before: Run) -> bool:
        """Whether it has the limit of another run, epochs or minutes, and more of it."""
        ours, theirs = self.preset, before.preset
        if ours.minutes and theirs.minutes:
            return ours.minutes > theirs.minutes
        return not ours.minutes and not theirs.minutes and ours.epochs > theirs.epochs

    def save(self) -> None:
        values = {"cvae": cvae.__version__, **asdict(self)}
        del values["folder"]
        files.write_bytes(self.folder / RUN, records.dump(values, indent=2), True)


def start(
    folder: Path, preset: Preset, dataset: Dataset, seed: int, resume: bool, force: bool,
    begin: Begin | None = None,
) -> Run:  # fmt: skip
    """Makes the run's folder, or checks that the run in it is the one to `resume`.

    A run that is resumed may have more epochs, or minutes, than it had, and nothing else that is new.
    `force` replaces a run that is there; `begin` has the weights that this one starts from. Raises
    TrainingError when the folder holds a run already, or one with other settings, or when `begin` is
    neither a model nor another run.
    """
    other = (str(begin.path.resolve()), begin.model) if begin else ("", "")
    run = Run(folder, preset, seed, dataset.source, dataset.describe(), *other)
    if resume and _has_begun(folder):
        before = Run.open(folder)
        longer = run.is_longer(before)
        theirs, ours = before.settings(), run.settings()
        if longer:
            theirs |= {name: ours[name] for name in _LIMITS}
        changed = (
            f"{n} was {theirs[n]} and is now {ours[n]}" for n in ours if theirs[n] != ours[n]
        )
        if differing := ", ".join(changed):
            text = f"cannot resume with other settings: {differing}"
            raise TrainingError(text, where=folder, advice="--force starts the run anew")
        if longer:
            run.save()
        return run
    check_start(folder, resume, force, begin)
    with translated(OutputError, "cannot be made", folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    run.save()
    if dataset.skipped:
        text = "".join(f"{printable(line)}\n" for line in dataset.skipped)
        files.write_bytes(folder / SKIPPED, text.encode(), force=True)
    return run


def check_start(folder: Path, resume: bool, force: bool, begin: Begin | None) -> None:
    """Raises what `start` would, as far as it is known before the data is read."""
    if _has_begun(folder) and not resume and not force:
        advice = "--resume carries it on, --force starts it anew"
        raise TrainingError("holds a training run already", where=folder, advice=advice)
    if begin and not begin.model:
        Run.open(begin.path)
        where = f"--fine-tune {begin.path}"
        if begin.path.resolve() == folder.resolve():
            text = "expected another folder than the new run's, which -o names"
            raise TrainingError(text, where=where)
        if not (begin.path / CHECKPOINT).exists():
            raise TrainingError("no epoch of that run has finished", where=where)


def default_folder(preset: str, again: bool) -> Path:
    """`runs/PRESET`, or the first of `runs/PRESET-2`, ... in which no run has begun.

    `again` gives the last in which one has: what is resumed, or started anew.
    """
    names = (f"{preset}-{number}" if number > 1 else preset for number in count(1))
    last = Path("runs") / preset
    for folder in (Path("runs") / name for name in names):
        if not _has_begun(folder):
            return last if again else folder
        last = folder
    raise AssertionError  # names have no end


def _has_begun(folder: Path) -> bool:
    """Whether the folder holds more of a run than its settings, which a failure leaves behind."""
    return any((folder / name).exists() for name in FILES if name not in (RUN, SKIPPED))


def read_history(run: Run) -> list[Row]:
    """The losses of every finished epoch. Raises TrainingError when the file is damaged."""
    path = run.folder / HISTORY
    if not path.exists():
        return []
    caught, expected = (ValueError, TypeError, AttributeError), "expected a table of numbers"
    with translated(TrainingError, expected, path, caught), path.open(newline="") as file:
        return [
            {name: int(text) if name == "epoch" else float(text) for name, text in row.items()}
            for row in csv.DictReader(file)
        ]


def is_over(run: Run, history: list[Row]) -> bool:
    """Whether all epochs, or the minutes, of a run are over."""
    limit = 60 * run.preset.minutes
    return seconds(history) >= limit if limit else len(history) >= run.preset.epochs


def seconds(history: list[Row]) -> float:
    """How long all those epochs took."""
    return sum(row["seconds"] for row in history)


def write_history(run: Run, rows: list[Row]) -> None:
    """Replaces the history atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_bytes(run.folder / HISTORY, text.getvalue().encode(), force=True)
