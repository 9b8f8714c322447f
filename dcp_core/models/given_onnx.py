"""ONNX classifiers that were made elsewhere: what they take and return, and the same network as a victim's `model.onnx`.

A victim's file maps `pixels` (N, 3, S, S) in [0, 1] to `logits` (N, K). `as_victim` puts nodes for the preprocessing before
a given graph and nodes that return logits after it. So everything that works with a victim's file works with it too.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, compose, helper, numpy_helper, version_converter
from torch import Tensor

from dcp_core.models.defense_nodes import OPSET
from dcp_core.models.onnx_model import OnnxClassifier, open_session
from dcp_core.models.onnx_session import OnnxError
from dcp_core.models.preprocessing import LUMA, Preprocessing

MOST_BYTES = 2**30
SAME = 1e-4  # largest difference between the posteriors of a given graph and of the victim's file
FLOOR = 1e-12  # smallest probability of which a logarithm is taken
TYPES = {
    "tensor(float)": (TensorProto.FLOAT, np.float32),
    "tensor(float16)": (TensorProto.FLOAT16, np.float16),
    "tensor(double)": (TensorProto.DOUBLE, np.float64),
    "tensor(uint8)": (TensorProto.UINT8, np.uint8),
}
OLDEST = 7  # first version of the operators in which arithmetic broadcasts
QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger", "QLinearMatMul")
OUTPUTS = ("logits", "probabilities")


@dataclass(frozen=True)
class Signature:
    """The input and the output of a graph.

    Args:
        batch: the number of pictures that it takes at once; None for any number.
        size: side of its pictures; None for any.
        channels: 1 or 3.
        classes: number of its outputs K; None if the file does not say.
        opset: version of the ONNX operators.
        quantized: whether it computes with eight-bit numbers.
    """

    input: str
    output: str
    kind: str
    layout: str
    batch: int | None
    size: int | None
    channels: int
    classes: int | None
    opset: int
    quantized: bool
    parameters: int
    producer: str


def read(content: bytes) -> onnx.ModelProto:
    """Parse a file's content, and refuse what refers to other files.

    Raises:
        OnnxError: for anything that is not an ONNX model complete in itself.
    """
    if len(content) > MOST_BYTES:
        raise OnnxError(f"the file has more than {MOST_BYTES / 2**30:g} GiB")
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's error has no public class
        raise OnnxError("this is not an ONNX file, or it is incomplete: export it again") from error
    if not model.graph.node:
        raise OnnxError("this is not an ONNX file, or an empty one")
    if _external(model):
        raise OnnxError(
            "the weights of this model are in another file. Save it as one file: "
            'onnx.save(onnx.load("model.onnx"), "one.onnx", save_as_external_data=False)'
        )
    return model


def _external(model: onnx.ModelProto) -> bool:
    """Whether a tensor anywhere in a model is stored in another file."""

    def in_graph(graph: onnx.GraphProto) -> bool:
        if any(each.data_location == TensorProto.EXTERNAL for each in graph.initializer):
            return True
        return any(in_attribute(each) for node in graph.node for each in node.attribute)

    def in_attribute(attribute: onnx.AttributeProto) -> bool:
        tensors = [attribute.t, *attribute.tensors]
        graphs = [attribute.g, *attribute.graphs]
        return any(each.data_location == TensorProto.EXTERNAL for each in tensors) or any(
            in_graph(each) for each in graphs if each.node
        )

    in_functions = (each for function in model.functions for node in function.node for each in node.attribute)
    return in_graph(model.graph) or any(map(in_attribute, in_functions))


def signature(
    model: onnx.ModelProto, session: onnxruntime.InferenceSession, output: str | None = None
) -> Signature:
    """The input and the output of a graph, checked to be those of a classifier.

    Args:
        output: name of the output that has the classes; by default the only one that can have them.

    Raises:
        OnnxError: if the input is not one batch of square pictures, or no output, or more than one, can be the answer.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise OnnxError(f"a classifier has one input, this model has {len(inputs)}")
    kind, shape = inputs[0].type, inputs[0].shape
    if kind not in TYPES:
        raise OnnxError(f"the input must be a tensor of {', '.join(TYPES)}, not {kind}")
    layout, channels, size = _pictures(shape)
    return Signature(
        input=inputs[0].name,
        output=_output(session, output),
        kind=kind,
        layout=layout,
        batch=shape[0] if isinstance(shape[0], int) else None,
        size=size,
        channels=channels,
        classes=_classes(session, output),
        opset=next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0),
        quantized=any(node.op_type in QUANTIZED for node in model.graph.node),
        parameters=sum(int(np.prod(each.dims)) for each in model.graph.initializer),
        producer=" ".join(filter(None, (model.producer_name, model.producer_version)))[:60],
    )


def _pictures(shape: list[int | str | None]) -> tuple[str, int, int | None]:
    """Layout, channels and side of an input of this shape."""
    fixed = [each if isinstance(each, int) else None for each in shape]
    if len(fixed) == 4:
        for layout, channels, sides in (("NCHW", fixed[1], fixed[2:]), ("NHWC", fixed[3], fixed[1:3])):
            if channels in (1, 3) and sides[0] == sides[1]:
                return layout, channels, sides[0]
        if fixed[1] is None and fixed[2] == fixed[3]:
            return "NCHW", 3, fixed[2]
    raise OnnxError(
        f"the input must be square pictures (N, 3, S, S) or (N, S, S, 3), or with one channel, but it is {shape}"
    )


def _candidates(session: onnxruntime.InferenceSession) -> dict[str, int | None]:
    """The outputs that can have the classes, with their number."""
    found: dict[str, int | None] = {}
    for each in session.get_outputs():
        shape = each.shape or []
        if each.type in TYPES and each.type != "tensor(uint8)" and all(side == 1 for side in shape[2:]):
            count = shape[1] if len(shape) > 1 and isinstance(shape[1], int) else None
            if (len(shape) > 1 and count != 1) or not shape:
                found[each.name] = count
    return found


def _output(session: onnxruntime.InferenceSession, asked: str | None) -> str:
    found = _candidates(session)
    if asked is not None and asked in found:
        return asked
    if len(found) != 1 or asked is not None:
        every = ", ".join(f"{each.name} {each.shape}" for each in session.get_outputs()) or "none"
        raise OnnxError(
            f"the answer must be one output (N, K) with K classes, but the outputs are {every}"
            + (": choose one with --output" if found else "")
        )
    return next(iter(found))


def _classes(session: onnxruntime.InferenceSession, asked: str | None) -> int | None:
    return _candidates(session)[_output(session, asked)]


class GivenNetwork:
    """A given graph that can be run with any preprocessing, on the CPU, for any number of pictures at once."""

    def __init__(self, content: bytes, output: str | None = None) -> None:
        """Open a file's content.

        Raises:
            OnnxError: as `read` and `signature`, and for operators that ONNX Runtime does not know.
        """
        self.content, self.model = content, read(content)
        self.session = open_session(content)
        self.signature = signature(self.model, self.session, output)

    def __call__(self, pixels: Tensor, how: Preprocessing) -> Tensor:
        """The outputs (N, K) as they are, float32, for cropped and resized pixels (N, 3, S, S) in [0, 1].

        Raises:
            OnnxError: if the network does not take these pictures, or the outputs are not finite or not (N, K).
        """
        about, step = self.signature, self.signature.batch or 32
        parts = []
        for part in pixels.split(step):
            given = torch.cat([part, part[-1:].expand(step - len(part), -1, -1, -1)]) if about.batch else part
            array = how(given).numpy()
            array = array.round() if about.kind == "tensor(uint8)" else array
            try:
                (found,) = self.session.run([about.output], {about.input: array.astype(TYPES[about.kind][1])})
            except Exception as error:  # ONNX Runtime's errors have no common base class
                reason = str(error).splitlines()[0]
                raise OnnxError(
                    f"the network does not take pictures of {how.size} x {how.size} pixels: {reason}"
                ) from error
            rows = torch.from_numpy(np.asarray(found, np.float32))
            if rows.dim() < 2 or rows.shape[0] != len(given) or rows[0].numel() < 2:
                raise OnnxError(
                    f"the answer to {len(given)} pictures has the shape {tuple(rows.shape)}, not (N, K)"
                )
            parts.append(rows.flatten(1)[: len(part)])
        answers = torch.cat(parts)
        if not bool(answers.isfinite().all()):
            raise OnnxError("the network's answers are not finite numbers")
        return answers


def as_victim(given: GivenNetwork, how: Preprocessing, outputs: str, pixels: Tensor) -> bytes:
    """A given network as a victim's `model.onnx`: `pixels` (N, 3, S, S) in [0, 1] -> `logits` (N, K).

    The operators are converted to this project's version, and any number of pictures is allowed, each only if the answers
    stay equal.

    Args:
        outputs: what the given network returns, one of `OUTPUTS`.
        pixels: (N, 3, S, S) with N >= 3, to compare answers.

    Raises:
        OnnxError: if the file's answers differ from those of the given network.
    """
    expected = to_logits(given(pixels, how), outputs).softmax(-1)
    raised = _raised(given.model)
    reason = ""
    for model in [raised, given.model] if raised is not None else [given.model]:
        for free in (True, False):
            content = _wrapped(model, given.signature, how, outputs, expected.shape[1], free)
            reason = _difference(content, pixels, expected)
            if not reason:
                return content
    raise OnnxError(f"the network cannot be joined with its preprocessing: {reason}")


def to_logits(answers: Tensor, outputs: str) -> Tensor:
    """Logits (N, K) of a given network's outputs (N, K)."""
    return answers.clamp_min(FLOOR).log() if outputs == "probabilities" else answers


def _raised(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The same network in this project's version of the operators; None if it cannot be converted."""
    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    if versions == [OPSET]:
        return None
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception:  # it raises RuntimeError and others for every operator without a conversion
        return None


def _difference(content: bytes, pixels: Tensor, expected: Tensor) -> str:
    """How a file differs from the given network, as a text; empty if all posteriors are equal."""
    try:
        model = OnnxClassifier(content, pixels.shape[-1], expected.shape[1])
        found = model(pixels).softmax(-1)
    except Exception as error:  # ONNX Runtime's errors have no common base class
        return str(error).splitlines()[0]
    apart = float((found - expected).abs().max())
    return "" if apart <= SAME else f"posteriors differ by {apart:.1e}"


def _wrapped(
    given: onnx.ModelProto, about: Signature, how: Preprocessing, outputs: str, classes: int, free: bool
) -> bytes:
    model = compose.add_prefix(given, "given_")
    model.ir_version = max(model.ir_version, 8)  # initializers need not be inputs
    graph, element = model.graph, TYPES[about.kind][0]
    kept = {each.name for each in graph.initializer}
    batch: str | int = "N" if free or about.batch is None else about.batch
    before, constants = _before(how, element, f"given_{about.input}")
    after = _after(f"given_{about.output}", outputs)
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    constants["after_floor"] = np.array(FLOOR, np.float32)
    used = {name for node in nodes for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items() if name in used - kept
    )
    graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, how.size, how.size]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes]))
    return model.SerializeToString()


def _before(how: Preprocessing, element: int, into: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Nodes from `pixels` to the given network's input, and their constants. All exist since version 7 of the operators."""
    column = {"before_scale": (how.highest,) * 3, "before_mean": how.mean, "before_std": how.std}
    constants = {name: np.array(value, np.float32).reshape(1, 3, 1, 1) for name, value in column.items()}
    constants |= {
        "before_order": np.array([2, 1, 0], np.int64),
        "before_luma": np.array(LUMA, np.float32).reshape(1, 3, 1, 1),
        "before_half": np.array(0.5, np.float32),
    }
    steps: list[tuple[str, list[str], dict]] = []
    if how.highest != 1:
        steps.append(("Mul", ["before_scale"], {}))
    if any(how.mean):
        steps.append(("Sub", ["before_mean"], {}))
    if any(each != 1 for each in how.std):
        steps.append(("Div", ["before_std"], {}))
    if how.order == "BGR":
        steps.append(("Gather", ["before_order"], {"axis": 1}))
    if how.order == "grey":
        steps.append(("Conv", ["before_luma"], {}))
    if how.layout == "NHWC":
        steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
    if element == TensorProto.UINT8:
        steps += [("Add", ["before_half"], {}), ("Floor", [], {})]
    if element != TensorProto.FLOAT:
        steps.append(("Cast", [], {"to": element}))
    return _chain("pixels", steps or [("Identity", [], {})], into, "before"), constants


def _after(answer: str, outputs: str) -> list[onnx.NodeProto]:
    """Nodes from the given network's output to `logits`."""
    steps: list[tuple[str, list[str], dict]] = [
        ("Flatten", [], {"axis": 1}),
        ("Cast", [], {"to": TensorProto.FLOAT}),
    ]
    if outputs == "probabilities":
        steps += [("Max", ["after_floor"], {}), ("Log", [], {})]
    return _chain(answer, steps, "logits", "after")


def _chain(start: str, steps: list[tuple[str, list[str], dict]], end: str, prefix: str) -> list[onnx.NodeProto]:
    names = [start, *(f"{prefix}_{number}" for number in range(len(steps) - 1)), end]
    return [
        helper.make_node(
            operator, [names[number], *others], [names[number + 1]], f"{prefix}_{number}", **attributes
        )
        for number, (operator, others, attributes) in enumerate(steps)
    ]
