"""An eight-bit version of a victim that is only an ONNX file, by ONNX Runtime's own quantizer.

Preprocessing, softmax and logarithm keep 32 bits. Weights use seven bits, because with eight the sums of CPUs without VNNI
overflow.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from dcp_core.models.inference import to_pixels
from dcp_core.models.onnx_file import QuantizationError
from dcp_core.models.onnx_model import OnnxClassifier

BATCH = 32
OPERATORS = [
    *("Conv", "MatMul", "Gemm", "Add", "Relu", "Clip", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Flatten", "Reshape", "Transpose", "Pad"),
]
OURS = ("before_", "after_")  # nodes of `models/given_onnx.py` around the given network


class _Pictures(CalibrationDataReader):
    """Calibration pictures in batches, in the form that ONNX Runtime reads."""

    def __init__(self, images: Tensor, batch: int | None) -> None:
        step = batch or BATCH
        whole = [part for part in images.split(step) if batch is None or len(part) == batch]
        self._left: Iterator[Tensor] = iter(whole)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch; None at the end."""
        part = next(self._left, None)
        return None if part is None else {"pixels": to_pixels(part).numpy()}


def quantize_onnx(content: bytes, size: int, classes: int, images: Tensor) -> bytes:
    """A victim's file in eight bits: weights int8 per channel, activations uint8 per tensor, from `pixels` to `logits`.

    Args:
        content: the file of the fp32 victim.
        size, classes: side S of its pictures, number K of its classes.
        images: calibration pictures, uint8 (N, 3, S, S).

    Raises:
        QuantizationError: if ONNX Runtime cannot quantize the network.
    """
    batch = OnnxClassifier(content, size, classes).batch
    with tempfile.TemporaryDirectory() as folder, _quiet():
        given, prepared, made = (Path(folder) / f"{name}.onnx" for name in ("given", "prepared", "quantized"))
        try:
            # Symbolic shape inference fails for many graphs, and is only needed for transformers.
            given.write_bytes(content)
            quant_pre_process(given, prepared, skip_symbolic_shape=True)
            nodes = [node.name for node in onnx.load(prepared).graph.node]
            quantize_static(
                prepared,
                made,
                _Pictures(images, batch),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATORS,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[name for name in nodes if name.startswith(OURS)],
            )
            found = made.read_bytes()
            OnnxClassifier(found, size, classes)
        except OSError:
            raise
        except Exception as error:  # it raises many kinds of errors, all about the network
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise QuantizationError(f"ONNX Runtime cannot quantize this network: {reason}") from error
    if not any(node.op_type == "QuantizeLinear" for node in onnx.load_from_string(found).graph.node):
        raise QuantizationError("ONNX Runtime found no operator of this network that it can compute in eight bits")
    return found


def about(images: Tensor, pool: str) -> dict[str, Any]:
    """Entries for the card of a quantized victim: the method, the calibration pictures and the number formats.

    Args:
        images: calibration pictures (N, 3, S, S).
        pool: where they come from, in words.
    """
    return {
        "method": "ptq",
        "pictures": len(images),
        "calibrated_on": pool,
        "weights": "int8 within +-64, per channel",
        "activations": "uint8, per tensor",
        "quantizer": f"onnxruntime {onnxruntime.__version__}, quantize_static",
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """A context in which the quantizer's advice is hidden."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
