"""Defenses: functions from posteriors to posteriors. Each has its own file, and is registered here."""

from typing import Any, TypeVar

from dcp_core.defenses import registry
from dcp_core.defenses.adaptive_misinformation import AdaptiveMisinformation
from dcp_core.defenses.base import Defense
from dcp_core.defenses.chain import chain
from dcp_core.defenses.deception import Deception
from dcp_core.defenses.gradient_redirection import GradientRedirection
from dcp_core.defenses.mad import MAD
from dcp_core.defenses.modelguard_s import ModelGuardS
from dcp_core.defenses.modelguard_w import ModelGuardW
from dcp_core.defenses.naive import LabelOnly, NoDefense, RandomNoise, Rounding, TopK
from dcp_core.defenses.reverse_sigmoid import ReverseSigmoid

DEFENSES: dict[str, type[Defense]] = {}
D = TypeVar("D", bound=Defense)


def register(defense: type[D]) -> type[D]:
    """Add a defense to the registry of this process, and return it. Can be used as a class decorator.

    Raises:
        ValueError: if a required declaration is missing, or the name, title or short name is already used.
    """
    registry.add(DEFENSES, defense)
    return defense


for _defense in (
    NoDefense,
    Deception,
    ReverseSigmoid,
    AdaptiveMisinformation,
    MAD,
    GradientRedirection,
    ModelGuardW,
    ModelGuardS,
    LabelOnly,
    TopK,
    Rounding,
    RandomNoise,
    chain(Deception, ModelGuardS),
    chain(Deception, Rounding),
):
    register(_defense)


def exportable() -> list[str]:
    """Names of the defenses that can be exported into one ONNX file together with the victim."""
    return [name for name, kind in DEFENSES.items() if kind.in_one_file()]


def make_defense(name: str, **parameters: Any) -> Defense:
    """A defense by its short name.

    Raises:
        ValueError: if the name or a parameter is unknown, or a value is out of range.
    """
    return registry.make(DEFENSES, "defense", name, parameters)
