"""A classifier of colours as ONNX files of many forms, and pictures for it."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper, parser
from torch import Tensor

CLASSES = ("blue", "dark", "green", "red")
SIDE = 8
WEIGHTS = np.array([[0, 0, 9], [0, 0, 0], [0, 9, 0], [9, 0, 0]], np.float32)  # of red, green, blue for each class
BIAS = np.array([0, 4, 0, 0], np.float32)  # dark wins where no colour is above 4/9


def network(
    *,
    opset: int = 20,
    inputs: str = f"float[N,3,{SIDE},{SIDE}] x",
    before: str = "",
    pooled: str = "x",
    after: str = "y = Identity (z)",
    outputs: str = "float[N,4] y",
    order: tuple[int, ...] = (0, 1, 2, 3),
    extra: str = "",
) -> bytes:
    """The classifier's file; its outputs are in the order of `CLASSES`, or in another.

    Args:
        before: nodes from `x` to the value `pooled`.
        after: nodes from the logits `z` to the output.
    """
    body = f"{before} p = GlobalAveragePool ({pooled}) f = Flatten (p) z = Gemm <transB = 1> (f, w, b) {after} {extra}"
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )
    index = list(order)
    model.graph.initializer.extend(
        [numpy_helper.from_array(WEIGHTS[index], "w"), numpy_helper.from_array(BIAS[index], "b")]
    )
    return model.SerializeToString()


def pictures(count: int = 160, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, side, side, 3) and labels (N,), every class as often."""
    labels = np.arange(count) % 4
    colours = np.array([[40, 40, 200], [30, 30, 30], [40, 200, 40], [200, 40, 40]])
    noise = np.random.default_rng(0).integers(-30, 31, (count, side, side, 3))
    return (colours[labels][:, None, None] + noise).clip(0, 255).astype(np.uint8), labels


def pixels(count: int = 20) -> Tensor:
    """Pixels (N, 3, SIDE, SIDE) in [0, 1]."""
    return torch.from_numpy(pictures(count)[0]).permute(0, 3, 1, 2) / 255


def saved(folder: Path, content: bytes, name: str = "model.onnx") -> Path:
    """The path of a file with this content."""
    path = folder / name
    path.write_bytes(content)
    return path


def archive(folder: Path, **changes: np.ndarray) -> str:
    """The path of an .npz file with labelled pictures."""
    images, labels = pictures()
    arrays = {"images": images, "labels": labels, "classes": np.array(CLASSES)} | changes
    np.savez(folder / "test.npz", **arrays)
    return str(folder / "test.npz")


def external(content: bytes, folder: Path) -> bytes:
    """The same model with its weights in another file."""
    model = onnx.load_from_string(content)
    onnx.save(model, folder / "e.onnx", save_as_external_data=True, size_threshold=0, location="weights")
    return (folder / "e.onnx").read_bytes()
