"""Attacks: each steals a model through an `Oracle`. Each has its own file, and is registered here."""

from typing import Any, TypeVar

from dcp_core.attacks.base import Attack, Event, Theft
from dcp_core.attacks.dfme import DFME
from dcp_core.attacks.disguide import DisGUIDE
from dcp_core.attacks.jbda import JBDA
from dcp_core.attacks.knockoff import KnockoffNets
from dcp_core.attacks.maze import MAZE
from dcp_core.attacks.oracle import AttackError, BudgetSpent, NanAnswer, Oracle
from dcp_core.defenses import registry

__all__ = [
    "ATTACKS",
    "DFME",
    "JBDA",
    "MAZE",
    "Attack",
    "AttackError",
    "BudgetSpent",
    "DisGUIDE",
    "Event",
    "KnockoffNets",
    "NanAnswer",
    "Oracle",
    "Theft",
    "make_attack",
    "register",
]

ATTACKS: dict[str, type[Attack]] = {}
A = TypeVar("A", bound=Attack)


def register(attack: type[A]) -> type[A]:
    """Add an attack to the registry of this process, and return it. Can be used as a class decorator.

    Raises:
        ValueError: for a class that declares too little, or whose name, title or short name is taken.
    """
    registry.add(ATTACKS, attack)
    return attack


for _attack in (KnockoffNets, DFME, MAZE, DisGUIDE, JBDA):
    register(_attack)


def make_attack(name: str, **parameters: Any) -> Attack:
    """An attack by its short name.

    Raises:
        ValueError: for an unknown name, an unknown parameter or a value out of range.
    """
    return registry.make(ATTACKS, "attack", name, parameters)
