"""What a defense states to become part of an ONNX file: its nodes as text. No onnx package is needed for that."""

from dataclasses import dataclass, field

import numpy as np

NORMALISE = """
    defense_sum = ReduceSum <keepdims = 1> (defense_raised, defense_last)
    posterior = Div (defense_raised, defense_sum)"""
"""N(v) of Eq. 3: `defense_raised` (N, K) to `posterior`, rows divided by their sum."""


@dataclass(frozen=True)
class Nodes:
    """ONNX nodes, in ONNX's text format, that make `posterior` (N, K) of `logits` and `defense_y`, both (N, K).

    `defense_y` are the clean posteriors; `models/defense_nodes.py` computes them, and has more constants that every
    text may use. Names of a text's own values begin with `defense_`.

    Args:
        inputs: scalars of the text that an exported file may take as inputs, with their defaults.
        constants: other constants of the text, by name.
    """

    text: str
    inputs: dict[str, float] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)


def is_top(of: str) -> str:
    """Nodes for `defense_is_top` (N, K): true at the largest entry of each row of `of`, the first of equals."""
    return f"""
    defense_best = ArgMax <axis = -1, keepdims = 1> ({of})
    defense_is_top = Equal (defense_classes, defense_best)"""
