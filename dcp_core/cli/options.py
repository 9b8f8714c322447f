"""Command-line options for the parameters that defenses and attacks declare."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import click

from dcp_core.attacks import ATTACKS, Attack
from dcp_core.defenses import DEFENSES, Defense, make_defense
from dcp_core.defenses.base import Parameter

Command = Callable[..., Any]
Registry = Mapping[str, type[Attack]] | Mapping[str, type[Defense]]


def defense_options(function: Command) -> Command:
    """Add `--defense` and one option for each parameter that any defense declares."""
    return _options("--defense", DEFENSES, "dcp")(function)


def attack_options(function: Command) -> Command:
    """Add `--attack` and one option for each parameter that any attack declares."""
    return _options("--attack", ATTACKS, "knockoff")(function)


def chosen_defense(name: str, options: dict[str, Any]) -> Defense:
    """The defense with the given options. For an option that is None, the default of the defense is used.

    Raises:
        ValueError: if the defense does not have an option, or a value is out of range.
    """
    return make_defense(name, **{key: value for key, value in options.items() if value is not None})


def check_ray() -> None:
    """Check that Ray is installed, which is optional.

    Raises:
        click.ClickException: if not. The message says how to install it.
    """
    if find_spec("ray") is None:
        raise click.ClickException('Ray is not installed: pip install "ray[serve]"')


def _options(flag: str, registry: Registry, default: str) -> Callable[[Command], Command]:
    """A decorator that adds an option for the registry's names, and one for each declared parameter."""

    def add(function: Command) -> Command:
        owners: dict[str, list[str]] = {}
        for name, kind in registry.items():
            for key in kind.parameters():
                owners.setdefault(key, []).append(name)
        for key, names in reversed(owners.items()):
            function = _option(key, registry, names)(function)
        return click.option(
            flag,
            type=click.Choice(list(registry)),
            default=default,
            show_default=True,
            help="; ".join(f"{name}: {kind.title}" for name, kind in registry.items()) + ".",
        )(function)

    return add


def _option(key: str, registry: Registry, names: list[str]) -> Callable[[Command], Command]:
    kinds = [registry[name] for name in names]
    declared: Parameter = kinds[0].parameters()[key]
    flag = "--" + key.replace("_", "-")
    defaults = ", ".join(f"{name} {_default(kind, key)}" for name, kind in zip(names, kinds, strict=True))
    text = f"{declared.symbol}: {declared.help} Default: {defaults}."
    if declared.choices == (True, False):
        return click.option(f"{flag}/--no-{flag[2:]}", key, default=None, help=text)
    if declared.choices:
        return click.option(flag, key, type=click.Choice(declared.choices), help=text)
    whole = isinstance(getattr(kinds[0], key), int)
    return click.option(flag, key, type=int if whole else float, metavar="N" if whole else "X", help=text)


def _default(kind: type[Attack] | type[Defense], key: str) -> str:
    value = getattr(kind, key)
    return f"{kind.parameters()[key].optional}" if value is None else str(value)
