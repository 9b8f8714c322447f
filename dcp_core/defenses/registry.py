"""Registries: dictionaries from a short name to the class that declares a defense or an attack."""

from collections.abc import Mapping
from typing import Any, TypeVar

from dcp_core.defenses.base import Declared

K = TypeVar("K", bound=Declared)


def add(registry: dict[str, type[Any]], kind: type[Declared]) -> None:
    """Add a class to a registry.

    Raises:
        ValueError: for a class that declares too little, or whose name, title or short name is taken.
    """
    kind.check_declaration()
    for other in registry.values():
        for attribute in ("name", "title", "short"):
            if other is not kind and getattr(other, attribute) == getattr(kind, attribute):
                raise ValueError(
                    f"{kind.__name__}: the {attribute} '{getattr(kind, attribute)}' is taken by {other.__name__}"
                )
    registry[kind.name] = kind


def make(registry: Mapping[str, type[K]], what: str, name: str, values: dict[str, Any]) -> K:
    """An object of the class that is registered under `name`, with these parameters.

    Args:
        what: "defense" or "attack", for messages.

    Raises:
        ValueError: for an unknown name, an unknown parameter or a value out of range.
    """
    if name not in registry:
        raise ValueError(f"unknown {what} '{name}'; known: {', '.join(registry)}")
    known = registry[name].parameters()
    for parameter in values:
        if parameter not in known:
            takes = ", ".join(known) or "no parameters"
            raise ValueError(f"{name} has no parameter '{parameter}'; it takes {takes}")
    return registry[name](**values)
