"""Export a network as an ONNX file with torch's exporter. This is needed to make victims, but not to use them."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from onnx import ModelProto
from torch import nn
from torch.fx import GraphModule

OPSET = 20
DYNAMIC_BATCH = ({0: torch.export.Dim.DYNAMIC},)


class QuantizationError(ValueError):
    """A network or calibration set that cannot be used. The message says why."""


def to_onnx(network: nn.Module, size: int) -> bytes:
    """A network as one ONNX file that maps `pixels` (N, 3, size, size) in [0, 1] to `logits` (N, K), for any N.

    Raises:
        QuantizationError: if the network cannot be exported.
    """
    if not isinstance(network, GraphModule):
        network = copy.deepcopy(network).cpu().eval()
    with quiet():
        try:
            program = torch.onnx.export(
                network,
                (torch.zeros(2, 3, size, size),),
                dynamo=True,
                dynamic_shapes=DYNAMIC_BATCH,
                input_names=["pixels"],
                output_names=["logits"],
                opset_version=OPSET,
                verbose=False,
            )
        except Exception as error:  # the exporter raises many kinds of errors, all about the network
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise QuantizationError(f"this network cannot be exported to ONNX: {reason}") from error
        assert program is not None
        model = program.model_proto
    _strip(model)
    return model.SerializeToString()


def _strip(model: ModelProto) -> None:
    """Remove the exporter's metadata, which is half of a small file, and name the dimension of pictures N."""
    graph = model.graph
    graph.ClearField("value_info")
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"


@contextmanager
def quiet() -> Iterator[None]:
    """A context in which warnings and log messages of the exporters are hidden."""
    names = ("torch.onnx", "torch.export", "torch.utils._pytree", "torchao", "onnxscript")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
