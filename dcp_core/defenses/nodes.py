"""Defenses as text of ONNX nodes, for export into one file with a victim. This module does not need the onnx package."""

import re
from dataclasses import dataclass, field

import numpy as np

NORMALISE = """
    defense_sum = ReduceSum <keepdims = 1> (defense_raised, defense_last)
    posterior = Div (defense_raised, defense_sum)"""
"""N(v) of Eq. 3: `posterior` is `defense_raised` (N, K) with each row divided by its sum."""


@dataclass(frozen=True)
class Nodes:
    """ONNX nodes in ONNX's text format. They compute `posterior` (N, K) from `logits` and `defense_y`, both (N, K).

    `defense_y` are the clean posteriors. `models/defense_nodes.py` computes them, and defines constants that every text can
    use. Names of other values in the text must start with `defense_`.

    Args:
        text: the nodes.
        inputs: scalars that an exported file can take as inputs, with their default values.
        constants: other constants, by name.
    """

    text: str
    inputs: dict[str, float] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)


def behind(first: Nodes, second: Nodes) -> Nodes:
    """Nodes of a chain: `second` is applied to the answers of `first`. The values of all inputs become constants.

    The values of `second` are renamed. Its `defense_y` is the posterior of `first`, and its `logits` is the logarithm of
    this posterior.
    """
    made = {name for names in re.findall(r"(\w[\w, ]*) = [A-Z]", second.text) for name in names.split(", ")}
    renamed = {
        name: f"second_{name}" for name in (made | second.constants.keys() | second.inputs.keys()) - {"posterior"}
    }
    renamed |= {"defense_y": "defense_between", "logits": "second_logits"}

    def rename(name: str) -> str:
        return renamed.get(name, name)

    text = re.sub(r"\w+", lambda word: rename(word.group()), second.text)
    link = "\n    second_logits = Log (defense_between)" if "second_logits" in text else ""
    constants = dict(first.constants)
    constants |= {name: np.array(value, np.float32) for name, value in first.inputs.items()}
    constants |= {rename(name): value for name, value in second.constants.items()}
    constants |= {rename(name): np.array(value, np.float32) for name, value in second.inputs.items()}
    return Nodes(
        re.sub(r"\bposterior\b", "defense_between", first.text) + link + "\n    " + text, constants=constants
    )


def is_top(of: str) -> str:
    """Nodes for `defense_is_top` (N, K): true at the largest entry of each row of `of` (the first of equal ones)."""
    return f"""
    defense_best = ArgMax <axis = -1, keepdims = 1> ({of})
    defense_is_top = Equal (defense_classes, defense_best)"""
