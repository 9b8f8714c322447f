"""A defense's ONNX nodes as a graph from logits to posteriors: what `dcp_core/models/export.py` puts behind a victim.

The nodes are those that the defense declares (`Defense.nodes`), so that exporting needs no exporter. They state the
defense a second time, in ONNX's language; hence no file is offered before it has answered as the engine does
(`export.check`). Every graph has the clean posteriors as `defense_y`.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dcp_core.defenses import Defense, exportable

OPSET = 20
_SOFTMAX = "defense_y = Softmax <axis = -1> (logits)"


class ExportError(ValueError):
    """A file that cannot be made, or does not answer as the engine; the message says why."""


def defense_graph(defense: Defense, classes: int, *, baked: bool) -> onnx.GraphProto:
    """A defense from `logits` (N, K) to `posterior` (N, K); see `export`.

    Raises:
        ExportError: for a defense that declares no nodes.
    """
    if not defense.in_one_file():
        raise ExportError(
            f"{defense.title} cannot be put into a file, because it declares no ONNX nodes; {', '.join(exportable())} do"
        )
    nodes = defense.nodes(classes)
    shape = f"float[N,{classes}]"
    try:
        graph = onnx.parser.parse_graph(
            f"defended ({shape} logits) => ({shape} posterior) {{ {_SOFTMAX} {nodes.text} }}"
        )
    except onnx.parser.ParseError as error:
        raise ExportError(f"the ONNX nodes that {defense.title} declares cannot be read: {error}") from error
    inputs = {name: np.array(value, np.float32) for name, value in nodes.inputs.items()}
    constants = _constants(classes) | nodes.constants | inputs
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used
    )
    if not baked:
        graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in inputs)
    return graph


def _constants(classes: int) -> dict[str, np.ndarray]:
    """What the nodes of any defense may use."""
    return {
        "defense_last": np.array([-1], np.int64),
        "defense_zero": np.array(0, np.float32),
        "defense_half": np.array(0.5, np.float32),
        "defense_one": np.array(1, np.float32),
        "defense_floor": np.array(1e-12, np.float32),
        "defense_nothing": np.array(-np.inf, np.float32),
        "defense_classes": np.arange(classes, dtype=np.int64),
    }
