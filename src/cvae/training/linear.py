"""The linear codec's networks: PCA, fitted in closed form; no Keras."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from numpy.typing import NDArray

from cvae import arrays, files
from cvae.errors import TrainingError
from cvae.images import Pixels
from cvae.training.exported import Exported
from cvae.training.runs import Run

WEIGHTS = "linear.npz"


def fit(run: Run, train: Pixels) -> None:
    """Writes the mean and the leading eigenvectors of the pixels' covariance to the run's folder.

    Raises:
        TrainingError: the preset asks for more latents than images or pixels give.
    """
    dim = run.preset.latent_dim
    x = train.reshape(len(train), -1).astype(np.float64) / 255
    if dim > min(x.shape):
        raise TrainingError(
            f"{run.folder}: expected at most {min(x.shape)} latents for {len(x)} images of "
            f"{x.shape[1]} values, found {dim}"
        )
    mean = x.mean(axis=0)
    _, vectors = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    basis = vectors[:, ::-1][:, :dim]
    # Eigenvectors have no sign of their own; this one is the same on every machine.
    basis = basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(dim)])
    buffer = io.BytesIO()
    np.savez(buffer, mean=mean.astype(np.float32), basis=basis.astype(np.float32))
    files.write_bytes(run.folder / WEIGHTS, buffer.getvalue(), force=True)


def load(run: Run) -> Exported:
    """The fitted networks. Raises TrainingError when the run holds none."""
    path = run.folder / WEIGHTS
    mean, basis = arrays.read_npz(path, ["mean", "basis"], str(path), TrainingError)
    shape = run.preset.image_shape

    def analysis(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((x.reshape(len(x), -1) - mean) @ basis)

    def synthesis(y: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(np.clip(y @ basis.T + mean, 0, 1).reshape(-1, *shape))

    return Exported(
        analysis_graph=_analysis_graph(mean, basis, shape),
        synthesis_graph=_synthesis_graph(mean, basis, shape),
        analysis=analysis,
        synthesis=synthesis,
        # One step for all elements: reverse water-filling, in the field's words.
        widths=np.ones(basis.shape[1], np.float32),
        weights_hash=hashlib.sha256(mean.tobytes() + basis.tobytes()).hexdigest(),
    )


def _analysis_graph(mean: NDArray, basis: NDArray, shape: tuple[int, int, int]) -> bytes:
    from onnx import helper, numpy_helper

    return _model(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "basis", "bias"], ["latents"]),
        ],
        ("image", shape),
        ("latents", (basis.shape[1],)),
        [
            numpy_helper.from_array(basis, "basis"),
            numpy_helper.from_array(-mean @ basis, "bias"),
        ],
    )


def _synthesis_graph(mean: NDArray, basis: NDArray, shape: tuple[int, int, int]) -> bytes:
    from onnx import helper, numpy_helper

    return _model(
        [
            helper.make_node("Gemm", ["latents", "basis", "mean"], ["flat"], transB=1),
            helper.make_node("Clip", ["flat", "low", "high"], ["clipped"]),
            helper.make_node("Reshape", ["clipped", "shape"], ["image"]),
        ],
        ("latents", (basis.shape[1],)),
        ("image", shape),
        [
            numpy_helper.from_array(basis, "basis"),
            numpy_helper.from_array(mean, "mean"),
            numpy_helper.from_array(np.float32(0), "low"),
            numpy_helper.from_array(np.float32(1), "high"),
            numpy_helper.from_array(np.array([-1, *shape], np.int64), "shape"),
        ],
    )


def _model(nodes: list, given: tuple, result: tuple, constants: list) -> bytes:
    from onnx import TensorProto, checker, helper

    def value(name: str, shape: tuple[int, ...]):  # type: ignore[no-untyped-def]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])

    graph = helper.make_graph(nodes, "linear", [value(*given)], [value(*result)], constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="cvae"
    )
    checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data
