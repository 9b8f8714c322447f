"""Command-line options built from what defenses declare."""

from collections.abc import Callable
from typing import Any

import click

from dcp_core.defenses import DEFENSES, Defense, make_defense
from dcp_core.defenses.base import Parameter

Command = Callable[..., Any]


def defense_options(function: Command) -> Command:
    """Add `--defense` and one option for each parameter that any defense declares."""
    owners: dict[str, list[tuple[str, Parameter]]] = {}
    for name, kind in DEFENSES.items():
        for key, declared in kind.parameters().items():
            owners.setdefault(key, []).append((name, declared))
    for key, uses in reversed(owners.items()):
        function = _option(key, uses)(function)
    return click.option(
        "--defense",
        type=click.Choice(list(DEFENSES)),
        default="dcp",
        show_default=True,
        help="; ".join(f"{name}: {kind.title}" for name, kind in DEFENSES.items()) + ".",
    )(function)


def chosen_defense(name: str, options: dict[str, Any]) -> Defense:
    """The defense that the options describe; an option that was not given keeps the defense's default."""
    return make_defense(name, **{key: value for key, value in options.items() if value is not None})


def _option(key: str, uses: list[tuple[str, Parameter]]) -> Callable[[Command], Command]:
    declared = uses[0][1]
    flag = "--" + key.replace("_", "-")
    defaults = ", ".join(f"{name} {_default(name, key)}" for name, _ in uses)
    text = f"{declared.symbol}: {declared.help} Default: {defaults}."
    if declared.choices == (True, False):
        return click.option(f"{flag}/--no-{key.replace('_', '-')}", default=None, help=text)
    if declared.choices:
        return click.option(flag, type=click.Choice(declared.choices), help=text)
    whole = isinstance(getattr(DEFENSES[uses[0][0]], key), int)
    return click.option(flag, type=int if whole else float, metavar="N" if whole else "X", help=text)


def _default(name: str, key: str) -> str:
    value = getattr(DEFENSES[name], key)
    return f"{DEFENSES[name].parameters()[key].optional}" if value is None else str(value)
