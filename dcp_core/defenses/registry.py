"""Registries: dictionaries from a short name to the class of a defense or an attack."""

from collections.abc import Mapping
from typing import Any, TypeVar

from dcp_core.defenses.base import Declared

K = TypeVar("K", bound=Declared)


def add(registry: dict[str, type[Any]], kind: type[Declared]) -> None:
    """Add a class to a registry.

    Raises:
        ValueError: if a required declaration is missing, or the name, title or short name is already used.
    """
    kind.check_declaration()
    for other in registry.values():
        for attribute in ("name", "title", "short"):
            if other is not kind and getattr(other, attribute) == getattr(kind, attribute):
                raise ValueError(
                    f"{kind.__name__}: the {attribute} '{getattr(kind, attribute)}' is already used by {other.__name__}: "
                    "choose another"
                )
    registry[kind.name] = kind


def make(registry: Mapping[str, type[K]], what: str, name: str, values: dict[str, Any]) -> K:
    """An object of the class that is registered under `name`.

    Args:
        what: "defense" or "attack", for messages.
        values: parameter values by name.

    Raises:
        ValueError: if the name or a parameter is unknown, or a value is out of range.
    """
    if name not in registry:
        raise ValueError(
            f"unknown {what} '{name}'; choose one of {', '.join(registry)}, or name its module in DCP_PLUGINS"
        )
    known = registry[name].parameters()
    for parameter in values:
        if parameter not in known:
            takes = ", ".join(known) or "none"
            raise ValueError(f"{name} has no parameter '{parameter}'; its parameters are: {takes}")
    return registry[name](**values)
