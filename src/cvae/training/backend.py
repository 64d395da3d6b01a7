"""Loads Keras and its backend: one line when they are missing, none of their chatter when not."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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


def use(devices: str | None) -> AbstractContextManager[object]:
    """A context in which a model is made that trains on several devices at once, if there are any.

    Args:
        devices: such as "GPU:0,GPU:1"; None for all GPUs, or where there is none the processor.

    Raises:
        TrainingError: there are no such devices, or the backend has no way to share work among them.
    """
    import keras

    wanted = check_devices(devices)
    if keras.backend.backend() != "tensorflow":
        if keras.backend.backend() == "jax" and len(keras.distribution.list_devices()) > 1:
            keras.distribution.set_distribution(keras.distribution.DataParallel())
        return nullcontext()
    import tensorflow as tf

    if len(wanted) > 1:
        scope: AbstractContextManager[object] = tf.distribute.MirroredStrategy(wanted).scope()
        return scope
    # Not `tf.device`, which says where weights lie and not where steps are computed.
    return tf.distribute.OneDeviceStrategy(wanted[0]).scope() if devices else nullcontext()


def check_devices(devices: str | None) -> list[str]:
    """The devices that `use` takes, none for whatever the backend chooses.

    Raises:
        TrainingError: as `use` would.
    """
    import keras

    name = keras.backend.backend()
    if name != "tensorflow":
        if devices is not None:
            raise TrainingError(f"--devices: expected TensorFlow as the backend, found {name}")
        return []
    import tensorflow as tf

    there = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    if devices is None:
        return [device for device in there if device.startswith("GPU")]
    wanted = list(dict.fromkeys(name.strip().upper() for name in devices.split(",")))
    missing = [device for device in wanted if device not in there]
    if missing:
        raise TrainingError(
            f"--devices: expected some of {','.join(there)}, found {','.join(missing) or 'none'}"
        )
    return wanted


def replicas() -> int:
    """On how many devices at once a model trains that is made now, each on a part of a batch."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return 1  # other backends see whole batches
    import tensorflow as tf

    count: int = tf.distribute.get_strategy().num_replicas_in_sync
    return count


def whole_precision() -> None:
    """Ends what newer GPUs do to be fast: products of 10 bits, in which symbols come out others."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)


def require(*packages: str, extra: str = "train") -> None:
    """Raises MissingExtraError for a package that the end of a run would miss, before it begins."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(package, extra)


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
