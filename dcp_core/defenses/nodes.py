"""What a defense states to become part of an ONNX file: its nodes as text. No onnx package is needed for that."""

import re
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


def behind(first: Nodes, second: Nodes) -> Nodes:
    """Nodes of one defense behind those of another, with the values of all inputs as constants.

    The second one's own values get names of their own; its `defense_y` is the first one's posterior, and its `logits` the
    logarithm of that.
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
    """Nodes for `defense_is_top` (N, K): true at the largest entry of each row of `of`, the first of equals."""
    return f"""
    defense_best = ArgMax <axis = -1, keepdims = 1> ({of})
    defense_is_top = Equal (defense_classes, defense_best)"""
