"""A defense as an ONNX graph from logits to posteriors. `dcp_core/models/export.py` adds it to a victim.

The defense declares its nodes (`Defense.nodes`). They are a second implementation of the defense. Therefore every file is
compared with this library before it is returned (`export.check`). In every graph, `defense_y` are the clean posteriors.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dcp_core.defenses import Defense, exportable

OPSET = 20
_SOFTMAX = "defense_y = Softmax <axis = -1> (logits)"


class ExportError(ValueError):
    """A file that cannot be made, or whose answers differ from the library's. The message says why."""


def defense_graph(defense: Defense, classes: int, *, baked: bool) -> onnx.GraphProto:
    """A defense as a graph from `logits` (N, K) to `posterior` (N, K); see `export`.

    Raises:
        ExportError: if the defense declares no nodes, or its nodes cannot be parsed.
    """
    if not defense.in_one_file():
        raise ExportError(
            f"{defense.title} cannot be exported, because it declares no ONNX nodes; choose one of {', '.join(exportable())}"
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
    """Constants that the nodes of every defense can use."""
    return {
        "defense_last": np.array([-1], np.int64),
        "defense_zero": np.array(0, np.float32),
        "defense_half": np.array(0.5, np.float32),
        "defense_one": np.array(1, np.float32),
        "defense_floor": np.array(1e-12, np.float32),
        "defense_nothing": np.array(-np.inf, np.float32),
        "defense_classes": np.arange(classes, dtype=np.int64),
    }
