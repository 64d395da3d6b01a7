"""Loads Keras and its backend quietly, and says in one line when they are missing."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from cvae.errors import MissingExtraError, TrainingError
from cvae.evaluation import fonts

_HOME = "KERAS_HOME"


@dataclass(frozen=True)
class Machine:
    """How a machine is used; no part of a run's settings."""

    devices: str | None = None  # see `use`
    xla: bool | None = None  # None: as Keras chooses
    tensorboard: bool = False  # write logs to the run's folder
    callbacks: tuple[Any, ...] = ()  # of Keras


def load_keras() -> None:
    """Imports Keras and starts its backend (`KERAS_BACKEND`, TensorFlow by default).

    Raises MissingExtraError when one of them is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        with _native_stderr_held_back(), _no_settings(), fonts.kept_apart():
            import keras

            keras.ops.zeros(1)  # the first operation makes the backend look for devices
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "tensorflow", "train") from error
    except ValueError as error:
        raise TrainingError(f"Keras does not start: {error}") from error


@contextmanager
def _no_settings() -> Iterator[None]:
    """Has Keras read its settings, but not write its defaults into the home folder where there are none."""
    if _HOME in os.environ:
        yield
        return
    home = _keras_home()
    with tempfile.TemporaryDirectory(prefix="cvae-") as folder:
        os.environ[_HOME] = str(home) if os.access(home / "keras.json", os.R_OK) else folder
        try:
            yield
        finally:
            del os.environ[_HOME]


def downloading() -> None:
    """Has Keras keep what it downloads in its folder in the home folder, where it looks the next time."""
    from keras.src.backend import config

    home = _keras_home()
    with suppress(OSError):  # a closed home folder: it takes another one
        home.mkdir(parents=True, exist_ok=True)
        config._KERAS_DIR = str(home)


def _keras_home() -> Path:
    return Path(os.environ.get(_HOME) or Path(os.path.expanduser("~"), ".keras"))  # noqa: PTH111


def use(devices: str | None) -> AbstractContextManager[object]:
    """A context for making a model that trains on devices such as "GPU:0,GPU:1", in parallel.

    None stands for all GPUs, or the processor where there is none. Raises TrainingError when there
    are no such devices, or the backend takes no choice of them.
    """
    import keras

    wanted, tf = check_devices(devices), _tensorflow()
    scope: AbstractContextManager[object] = nullcontext()
    # Not `tf.device`, which says where weights lie and not where steps are computed.
    if len(wanted) > 1:
        scope = tf.distribute.MirroredStrategy(wanted).scope()
    elif devices:
        scope = tf.distribute.OneDeviceStrategy(wanted[0]).scope()
    elif keras.backend.backend() == "jax" and len(keras.distribution.list_devices()) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    return scope


def check_devices(devices: str | None) -> list[str]:
    """The devices that `use` takes; empty for the backend's own choice. Raises TrainingError as `use`."""
    import keras

    tf = _tensorflow()
    if tf is None:
        if devices is None:
            return []
        name = keras.backend.backend()
        raise TrainingError(f"--devices: expected TensorFlow as the backend, found {name}")
    there = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    if devices is None:
        return [device for device in there if device.startswith("GPU")]
    wanted = list(dict.fromkeys(name.strip().upper() for name in devices.split(",")))
    missing = [device for device in wanted if device not in there]
    if missing:
        expected = f"expected some of {','.join(there)}"
        raise TrainingError(f"--devices: {expected}, found {','.join(missing) or 'none'}")
    return wanted


def precision() -> Literal["float32", "mixed_bfloat16"]:
    """What networks that gain by half precision train in: bfloat16 where the machine computes in it."""
    import keras

    if keras.distribution.list_devices("gpu") or _has_half_precision():
        return "mixed_bfloat16"
    return "float32"


def _has_half_precision() -> bool:
    """Whether the processor multiplies in bfloat16, as far as Linux says."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"} & {*flags})


def replicas() -> int:
    """How many devices share the batches of a model that is made now."""
    tf = _tensorflow()
    return int(tf.distribute.get_strategy().num_replicas_in_sync) if tf else 1


def whole_precision() -> None:
    """Disables TF32: its 10-bit mantissa changes symbols."""
    if tf := _tensorflow():
        tf.config.experimental.enable_tensor_float_32_execution(False)


def _tensorflow() -> Any:
    """The module `tensorflow` where it is Keras' backend, or None."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow

    return tensorflow


def require(*packages: str, extra: str = "train") -> None:
    """Raises MissingExtraError when one of the packages is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(package, extra)


@contextmanager
def _native_stderr_held_back() -> Iterator[None]:
    """Native libraries log before their settings apply; their output is shown on failure alone."""
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
