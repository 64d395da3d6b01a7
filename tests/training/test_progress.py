"""What a training run says of how far it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("keras")

from cvae.training import progress
from cvae.training.presets import TINY
from cvae.training.progress import ProgressBar


class Clock:
    """Ten seconds a look, but for the second one, at the end of the first batch, which is compiled."""

    def __init__(self) -> None:
        self.now, self.looks = 0.0, 0

    def monotonic(self) -> float:
        self.looks += 1
        self.now += 50.0 if self.looks == 2 else 10.0
        return self.now


def said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, minutes: float
) -> list[str]:
    """The lines of the first epoch of ten, of 20 batches in which each looks once at the clock."""
    monkeypatch.setattr(progress, "time", Clock())
    with ProgressBar(replace(TINY, epochs=10, minutes=minutes), 0.0, quiet=False) as bar:
        bar.set_params({"steps": 20})
        bar.on_epoch_begin(0)
        for batch in range(20):
            bar.on_train_batch_end(batch)
        bar.on_epoch_end(0, {"loss": 2.0})
    return capsys.readouterr().err.splitlines()


def test_a_long_first_epoch_is_not_waited_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    early, end = said(capsys, monkeypatch, minutes=0.0)
    # 198 batches of ten seconds are left.
    assert early.startswith("epoch 1/10: 3 of 20 batches; all epochs take some 0:32:50 more")
    assert "--minutes M ends by the clock" in early
    assert end == "epoch 1/10: loss 2  0:12:00 left"


def test_a_limit_of_time_says_itself_how_long_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (end,) = said(capsys, monkeypatch, minutes=90.0)
    assert end.startswith("epoch 1: loss 2  1:2")
