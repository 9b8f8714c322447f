"""Defenses as ONNX nodes from logits to posteriors: what `dcp_core/models/export.py` puts behind a victim.

They state each defense anew in ONNX's language, so that exporting needs no exporter; hence no file is offered before it
has answered as the engine does (`export.check`). Every graph has the clean posteriors as `defense_y`.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dcp_core.defenses import Deception, Defense, LabelOnly, NoDefense, ReverseSigmoid, TopK

OPSET = 20
INPUTS = ("beta", "gamma", "tau", "nu")
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
