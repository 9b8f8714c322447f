"""Defenses: functions from posteriors to posteriors. One file a method, one line here."""

from typing import Any

from dcp_core.defenses.adaptive_misinformation import AdaptiveMisinformation
from dcp_core.defenses.base import Defense
from dcp_core.defenses.deception import Deception
from dcp_core.defenses.gradient_redirection import GradientRedirection
from dcp_core.defenses.mad import MAD
from dcp_core.defenses.naive import LabelOnly, NoDefense, RandomNoise, Rounding, TopK
from dcp_core.defenses.reverse_sigmoid import ReverseSigmoid

DEFENSES: dict[str, type[Defense]] = {
    defense.name: defense
    for defense in (
        NoDefense,
        Deception,
        ReverseSigmoid,
        AdaptiveMisinformation,
        MAD,
        GradientRedirection,
        LabelOnly,
        TopK,
        Rounding,
        RandomNoise,
    )
}
IN_ONE_FILE = ("dcp", "rs", "label", "topk", "none")
"""Those that go into one ONNX file with the victim: `models/defense_nodes.py` has their nodes."""


def make_defense(name: str, **parameters: Any) -> Defense:
    """A defense by its short name.

    Raises:
        ValueError: for an unknown name, an unknown parameter or a value out of range.
    """
    if name not in DEFENSES:
        raise ValueError(f"unknown defense '{name}'; known: {', '.join(DEFENSES)}")
    known = DEFENSES[name].parameters()
    for parameter in parameters:
        if parameter not in known:
            takes = ", ".join(known) or "no parameters"
            raise ValueError(f"{name} has no parameter '{parameter}'; it takes {takes}")
    return DEFENSES[name](**parameters)
