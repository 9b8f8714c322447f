"""One ONNX file with the defense inside: pictures in, defended posteriors out.

The victim's own `model.onnx` with a few nodes behind its logits. They state each defense anew in ONNX's language, so
that exporting needs no exporter; hence no file leaves here before it answers as the engine does (`check`).
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from torch import Tensor

from dcp_core.data import sources, synthetic
from dcp_core.defenses import Deception, Defense, LabelOnly, NoDefense, ReverseSigmoid, TopK
from dcp_core.models import zoo
from dcp_core.models.inference import predict
from dcp_core.models.onnx_model import OnnxClassifier, open_session

OPSET = 20
TOLERANCE = 1e-5  # of posteriors
CHECKED = 500
EXACT_SHARE = 99.0  # percent of answers that must be within TOLERANCE from pixels to posterior
FOLLOWS = -1.0  # value of the input `tau` that means "follows beta"

_SOFTMAX = "defense_y = Softmax <axis = -1> (logits)"
_NORMALISE = """
    defense_sum = ReduceSum <keepdims = 1> (defense_raised, defense_last)
    posterior = Div (defense_raised, defense_sum)"""
_TOP = """
    defense_best = ArgMax <axis = -1, keepdims = 1> ({of})
    defense_is_top = Equal (defense_classes, defense_best)"""
# alpha of Eq. 4; the odds of Eq. 6, capped as in the released code or not; r = tanh(gamma / 2 log odds) / 2; Eq. 7
_DETECTOR = """
    defense_y_max = ReduceMax <keepdims = 1> (defense_y, defense_last)
    defense_follows = Less (tau, defense_zero)
    defense_tau = Where (defense_follows, beta, tau)
    defense_distance = Sub ({minuend}, {subtrahend})
    defense_steep = Mul (nu, defense_distance)
    defense_alpha = Sigmoid (defense_steep)
    defense_amount = Mul (defense_half_beta, defense_alpha)"""
_NOISE = """
    defense_half_beta = Mul (beta, defense_half)
    {amount}
    defense_rest = Sub (defense_one, defense_y)
    defense_odds = Div (defense_y, defense_rest)
    {log_odds}
    defense_half_gamma = Mul (gamma, defense_half)
    defense_scaled = Mul (defense_half_gamma, defense_log_odds)
    defense_noise = Tanh (defense_scaled)
    defense_moved = Mul ({by}, defense_noise)
    defense_kept = Sub (defense_y, defense_moved)
    defense_raised = Relu (defense_kept)"""
_CAPPED = """
    defense_odds_capped = Clip (defense_odds, defense_floor, defense_one)
    defense_log_odds = Log (defense_odds_capped)"""
_EXACT = """
    defense_all_log_odds = Log (defense_odds)
    defense_others = Where (defense_is_top, defense_nothing, logits)
    defense_others_sum = ReduceLogSumExp <keepdims = 1> (defense_others, defense_last)
    defense_top_log_odds = Sub (logits, defense_others_sum)
    defense_log_odds = Where (defense_is_top, defense_top_log_odds, defense_all_log_odds)"""
_LABEL = "posterior = Cast <to = 1> (defense_is_top)"
_TOPK = """
    defense_values, defense_places = TopK <axis = -1> (defense_y, defense_k)
    defense_empty = Mul (defense_y, defense_zero)
    defense_raised = ScatterElements <axis = -1> (defense_empty, defense_places, defense_values)"""


class ExportError(ValueError):
    """A file that cannot be made, or does not answer as the engine; the message says why."""


@dataclass(frozen=True)
class Report:
    """What was found before a file was offered, on `pictures` drawn pictures.

    Largest differences of any posterior: `network_difference` of the file's network to the victim's (eager torch where
    it is fp32), `difference` of the defense nodes to the engine on identical probabilities. `exact_share`: percentage
    of answers equal to the engine's within `TOLERANCE` from pixels to posterior; a detector's steep step amplifies the
    rounding of float32 for the few whose y_max lies on it, by up to `end_to_end`.
    `added_bytes`, `added_percent_1`, `added_percent_64`: what the defense nodes add to the file, and to the latency of
    a batch of 1 and of 64 (the nodes alone in a session, which includes the cost of calling one).
    """

    pictures: int
    network_difference: float
    difference: float
    exact_share: float
    end_to_end: float
    bytes: int
    added_bytes: int
    added_percent_1: float
    added_percent_64: float


def export(victim: str, defense: Defense, *, baked: bool = False) -> tuple[bytes, Report]:
    """A victim with a defense as one checked ONNX file, with `pixels` (N, 3, S, S) -> `posterior` (N, K).

    Args:
        victim: a name of the zoo that has a `model.onnx`.
        baked: fix the parameters; else `beta`, `gamma`, `tau`, `nu` (those that the defense has) are optional inputs
            with the defense's values as defaults, `tau` below 0 meaning that it follows beta.

    Raises:
        VictimError: for a victim that is unknown or has no ONNX file.
        ExportError: for a defense that has no nodes here, and for a file that does not answer as the engine.
    """
    card, network = zoo.card(victim), zoo.onnx_file(victim)
    nodes = defense_graph(defense, len(card.classes), baked=baked)
    content = _joined(network, nodes, card, defense)
    return content, check(content, network, nodes, card, defense)


def defense_graph(defense: Defense, classes: int, *, baked: bool) -> onnx.GraphProto:
    """A defense from `logits` (N, K) to `posterior` (N, K); see `export`.

    Raises:
        ExportError: for a defense that has no nodes here.
    """
    values: dict[str, float] = {}
    body, tail = _SOFTMAX, _NORMALISE
    match defense:
        case Deception():
            pair = ("defense_tau", "defense_y_max")
            minuend, subtrahend = pair if defense.perturb == "uncertain" else pair[::-1]
            amount = _DETECTOR.format(minuend=minuend, subtrahend=subtrahend)
            body += _noise(amount, "defense_amount", defense.cap_odds)
            tau = FOLLOWS if defense.tau is None else defense.tau
            values = {"beta": defense.beta, "gamma": defense.gamma, "tau": tau, "nu": defense.nu}
        case ReverseSigmoid():
            body += _noise("", "defense_half_beta", defense.cap_odds)
            values = {"beta": defense.beta, "gamma": defense.gamma}
        case NoDefense():
            body, tail = body + "posterior = Identity (defense_y)", ""
        case LabelOnly():
            body, tail = body + _TOP.format(of="defense_y") + _LABEL, ""
        case TopK():
            body += _TOPK
        case _:
            raise ExportError(
                f"{defense.title} cannot be put into a file: dcp, rs, label, topk and none can. The others draw "
                "random numbers, round, or need a second network"
            )
    shape = f"float[N,{classes}]"
    graph = onnx.parser.parse_graph(f"defended ({shape} logits) => ({shape} posterior) {{ {body} {tail} }}")
    constants = _constants(defense, classes) | {name: np.float32(value) for name, value in values.items()}
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used
    )
    if not baked:
        graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in values)
    return graph


def check(
    content: bytes, network: bytes, nodes: onnx.GraphProto, card: zoo.Card, defense: Defense, count: int = CHECKED
) -> Report:
    """Compare a file with the engine.

    Raises:
        ExportError: when they differ by more than `TOLERANCE`, or from end to end in too many answers.
    """
    pixels = _pictures(count, card.size)
    session, alone = open_session(content), OnnxClassifier(network, card.size, len(card.classes))
    logits = predict(alone, pixels)
    engine = zoo.network(card.name) if card.precision == "fp32" else zoo.load(card.name).model
    apart = _worst(predict(engine, pixels).softmax(-1), logits.softmax(-1))
    y, defended = _on_probabilities(nodes, logits)
    off = _worst(defended, defense(y))
    parts = [session.run(None, {"pixels": part.numpy()})[0] for part in pixels.split(100)]
    moved = (torch.from_numpy(np.concatenate(parts)) - defense(logits=logits)).abs().amax(-1)
    exact = 100 * float((moved <= TOLERANCE).double().mean())
    if not (apart <= TOLERANCE and off <= TOLERANCE and exact >= EXACT_SHARE):
        raise ExportError(
            f"the file does not answer as the engine on {count} pictures: its network's posteriors differ by "
            f"{apart:.1e}, its defense's by {off:.1e}, and {exact:.1f} % of its answers are within {TOLERANCE:g}"
        )
    added = {batch: _added_latency(alone, nodes, pixels[:batch], logits[:batch]) for batch in (1, 64)}
    size = len(content), len(content) - len(network)
    return Report(count, apart, off, exact, float(moved.max()), *size, added[1], added[64])


def _worst(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max())


def _on_probabilities(nodes: onnx.GraphProto, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Clean posteriors that the nodes make of logits (N, K), and what they make of those."""
    opened = onnx.GraphProto()
    opened.CopyFrom(nodes)
    opened.output.append(helper.make_tensor_value_info("defense_y", TensorProto.FLOAT, ["N", logits.shape[1]]))
    posterior, y = _session(opened).run(None, {"logits": logits.numpy()})
    return torch.from_numpy(y), torch.from_numpy(posterior)


def _session(graph: onnx.GraphProto) -> InferenceSession:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return open_session(model.SerializeToString())


def script(card: zoo.Card, file: str, defense: Defense, *, baked: bool = False) -> str:
    """Python that runs the file with ONNX Runtime and NumPy alone."""
    inputs = [] if baked else [name for name in ("beta", "gamma", "tau", "nu") if hasattr(defense, name)]
    given = '{"pixels": pixels}'
    if inputs:
        given = f'{{"pixels": pixels, "beta": np.float32({getattr(defense, "beta")})}}'  # noqa: B009
    lines = [
        "import json",
        "import sys",
        "",
        "import numpy as np",
        "import onnxruntime",
        "",
        f'session = onnxruntime.InferenceSession(sys.argv[1] if len(sys.argv) > 1 else "{file}")',
        'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])',
        f"# pictures (N, 3, {card.size}, {card.size}), RGB, 0 to 1: put yours here",
        f"pixels = np.random.default_rng(0).random((4, 3, {card.size}, {card.size}), dtype=np.float32)",
        *([f"# optional inputs, the defaults are in the file: {', '.join(inputs)}"] if inputs else []),
        f"(posteriors,) = session.run(None, {given})",
        "for posterior in posteriors:",
        "    print(classes[posterior.argmax()], *posterior)",
    ]
    return "\n".join(lines) + "\n"


def _noise(amount: str, by: str, cap_odds: bool) -> str:
    log_odds = _CAPPED if cap_odds else _TOP.format(of="logits") + _EXACT
    return _NOISE.format(amount=amount, by=by, log_odds=log_odds)


def _constants(defense: Defense, classes: int) -> dict[str, Any]:
    return {
        "defense_last": np.array([-1], np.int64),
        "defense_zero": np.float32(0),
        "defense_half": np.float32(0.5),
        "defense_one": np.float32(1),
        "defense_floor": np.float32(1e-12),
        "defense_nothing": np.float32("-inf"),
        "defense_classes": np.arange(classes, dtype=np.int64),
        "defense_k": np.array([min(getattr(defense, "k", 1), classes)], np.int64),
    }


def _joined(network: bytes, nodes: onnx.GraphProto, card: zoo.Card, defense: Defense) -> bytes:
    model = onnx.load_from_string(network)
    graph = model.graph
    opsets = {each.domain: each.version for each in model.opset_import}
    names = ([value.name for value in graph.input], [value.name for value in graph.output])
    if opsets != {"": OPSET} or names != (["pixels"], ["logits"]):
        raise ExportError(
            f"the victim's model.onnx has {names} in {opsets}; a file is made from pixels -> logits in opset {OPSET}, "
            f"as `python -m dcp_core quantize` writes it"
        )
    graph.node.extend(nodes.node)
    graph.initializer.extend(nodes.initializer)
    graph.input.extend(value for value in nodes.input if value.name != "logits")
    del graph.output[:]
    graph.output.extend(nodes.output)
    described = {
        "classes": list(card.classes),
        "victim": card.name,
        "victim_sha256": card.sha256,
        "precision": card.precision,
        "defense": defense.name,
        "parameters": defense.values(),
    }
    for key, value in described.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _pictures(count: int, size: int) -> Tensor:
    """Pixels (count, 3, size, size) of signs that this code draws: here without any download."""
    images = synthetic.signs(count, sources.SIGNS_TEST)[0].float() / 255
    return images if size == images.shape[-1] else F.interpolate(images, (size, size), mode="bilinear")


def _added_latency(network: OnnxClassifier, nodes: onnx.GraphProto, pixels: Tensor, logits: Tensor) -> float:
    """Time of the defense nodes in percent of the network's own, in turns; medians."""
    seconds: tuple[list[float], list[float]] = ([], [])
    works: tuple[Callable[[], object], ...] = (
        partial(network, pixels),
        partial(_session(nodes).run, None, {"logits": logits.numpy()}),
    )
    for _ in range(15):
        for work, times in zip(works, seconds, strict=True):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return 100 * statistics.median(seconds[1]) / statistics.median(seconds[0])


def as_json(report: Report) -> str:
    """The report, readable."""
    return json.dumps(dataclasses.asdict(report), indent=2)
