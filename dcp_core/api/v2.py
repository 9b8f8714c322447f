"""KServe's Open Inference Protocol, version 2, over HTTP, with Triton's extension for binary tensors.

There is one model with one input and one output, the same as in the model repository of `dcp export --for triton`.
"""

import json
from typing import Any

import numpy as np

from dcp_core.api.pictures import AT_ONCE
from dcp_core.data.structure import ImageError

MODEL, VERSION, INPUT, OUTPUT = "classifier", "1", "pixels", "posterior"
HEAD = "Inference-Header-Content-Length"  # bytes of a body before its binary tensors
SERVER = {"name": "dcp", "version": "2", "extensions": ["binary_tensor_data"]}


def metadata(classes: tuple[str, ...], size: int) -> dict[str, Any]:
    """The model's name, input and output, as the V2 protocol describes them."""
    return {
        "name": MODEL,
        "versions": [VERSION],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, 3, size, size]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, len(classes)]}],
    }


def read(body: bytes, size: int, options: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """See `pictures.read`. `options["head"]` is the value of the header `HEAD`, or None.

    The answer needs the request's `id` and whether its tensor is wanted in `binary`.
    """
    head = options["head"]
    try:
        length = len(body) if head is None else int(head)
        if not 0 < length <= len(body):
            raise ImageError(f"{HEAD} is {head}, but the body has {len(body)} bytes.")
        request = json.loads(body[:length])
        said = {"id": request.get("id"), "binary": _wants_binary(request)}
        (given,) = request["inputs"]
        shape = _shape(given, size)
        pixels = _values(given, body[length:]).reshape(shape)
    except ImageError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ImageError(
            f"This is not an inference request of the V2 protocol for the input '{INPUT}' (FP32, N x 3 x {size} x {size})."
        ) from error
    if not bool(((pixels >= 0) & (pixels <= 1)).all()):  # NaN fails too
        raise ImageError("Pixels must be between 0 and 1: divide 8-bit values by 255.")
    return said, pixels


def _shape(given: dict[str, Any], size: int) -> tuple[int, ...]:
    found = (given["name"], given["datatype"], given["shape"][1:])
    if found != (INPUT, "FP32", [3, size, size]):
        raise ImageError(f"The input must be '{INPUT}' with FP32 values of shape [N, 3, {size}, {size}].")
    count = given["shape"][0]
    if type(count) is not int or not 1 <= count <= AT_ONCE:
        raise ImageError(f"A request may have 1 to {AT_ONCE} pictures.")
    return count, 3, size, size


def _values(given: dict[str, Any], binary: bytes) -> np.ndarray:
    length = (given.get("parameters") or {}).get("binary_data_size")
    if length is None:
        return np.asarray(given["data"], np.float32)
    if length != len(binary):
        raise ImageError(f"binary_data_size is {length}, but {len(binary)} bytes follow the request's JSON.")
    return np.frombuffer(binary, "<f4")


def _wants_binary(request: dict[str, Any]) -> bool:
    wanted = (request.get("parameters") or {}).get("binary_data_output", False)
    for output in request.get("outputs") or []:
        parameters = output.get("parameters") or {}
        if output["name"] != OUTPUT or parameters.get("classification"):
            raise ImageError(f"The only output is '{OUTPUT}', and classification is not supported.")
        wanted = parameters.get("binary_data", wanted)
    return bool(wanted)


def answer(posteriors: np.ndarray, said: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The body of an answer and its headers.

    Args:
        posteriors: (N, K).
        said: the first result of `read`.
    """
    values = posteriors.astype("<f4")
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(values.shape)}
    whole = {"model_name": MODEL, "model_version": VERSION, "outputs": [output]}
    if said["id"] is not None:
        whole["id"] = said["id"]
    if not said["binary"]:
        output["data"] = values.ravel().tolist()
        return json.dumps(whole).encode(), {"Content-Type": "application/json"}
    binary = values.tobytes()
    output["parameters"] = {"binary_data_size": len(binary)}
    head = json.dumps(whole).encode()
    return head + binary, {"Content-Type": "application/octet-stream", HEAD: str(len(head))}
