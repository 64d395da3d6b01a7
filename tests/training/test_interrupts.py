"""Ctrl-C while a network trains."""

from __future__ import annotations

import os
import signal

import pytest

pytest.importorskip("keras")

from cvae.training.interrupts import Interrupts


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_test_batch_end", "on_epoch_end"])
def test_ctrl_c_ends_the_run_behind_the_batch_that_it_meets(hook: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        interrupts.on_train_batch_end(0)
        press()  # raises nothing here, where it might be lost
        with pytest.raises(KeyboardInterrupt):
            getattr(interrupts, hook)(1)
    assert signal.getsignal(signal.SIGINT) is before


def test_behind_the_last_batch_it_ends_what_would_follow() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        interrupts.on_epoch_end(0)
        press()


def test_the_first_one_is_answered_and_says_what_a_second_one_does(
    capfd: pytest.CaptureFixture[str],
) -> None:
    for quiet, answer in (
        (False, "\nstopping after this batch; Ctrl-C once more stops at once\n"), (True, ""),
    ):  # fmt: skip
        with pytest.raises(KeyboardInterrupt), Interrupts(quiet) as interrupts:
            interrupts.on_train_batch_end(0)
            press()
        assert capfd.readouterr().err == answer


def test_before_the_first_batch_and_a_second_time_it_ends_at_once() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            press()
        interrupts.on_train_batch_end(0)
        press()
        with pytest.raises(KeyboardInterrupt):
            press()
