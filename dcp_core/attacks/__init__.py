"""Attacks: thieves of models behind an `Oracle`. One file a method, one line here."""

from typing import Any

from dcp_core.attacks.base import Attack, Event, Theft
from dcp_core.attacks.dfme import DFME
from dcp_core.attacks.knockoff import KnockoffNets
from dcp_core.attacks.maze import MAZE
from dcp_core.attacks.oracle import AttackError, BudgetSpent, NanAnswer, Oracle

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackError",
    "BudgetSpent",
    "Event",
    "NanAnswer",
    "Oracle",
    "Theft",
    "make_attack",
]

ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in (KnockoffNets, DFME, MAZE)}


def make_attack(name: str, **parameters: Any) -> Attack:
    """An attack by its short name.

    Raises:
        ValueError: for an unknown name, an unknown parameter or a value out of range.
    """
    if name not in ATTACKS:
        raise ValueError(f"unknown attack '{name}'; known: {', '.join(ATTACKS)}")
    known = ATTACKS[name].parameters()
    for parameter in parameters:
        if parameter not in known:
            raise ValueError(f"{name} has no parameter '{parameter}'; it takes {', '.join(known)}")
    return ATTACKS[name](**parameters)
