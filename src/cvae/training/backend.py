"""Loads Keras and its backend: one line when they are missing, none of their chatter when not."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from cvae.errors import MissingExtraError, TrainingError


def load_keras() -> None:
    """Imports Keras and starts its backend (`KERAS_BACKEND`, TensorFlow by default).

    Raises:
        MissingExtraError: Keras or its backend is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        with _native_stderr_held_back():
            import keras

            keras.ops.zeros(1)  # the first operation makes the backend look for devices
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "tensorflow", "train") from error
    except ValueError as error:
        raise TrainingError(f"Keras does not start: {error}") from error


def require(*packages: str) -> None:
    """Raises MissingExtraError for a package that the end of a run would miss, before it begins."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(package, "train")


@contextmanager
def _native_stderr_held_back() -> Iterator[None]:
    """Native libraries log before any setting of theirs applies; what they said is shown on failure."""
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except ModuleNotFoundError:
            raise
        except BaseException:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
