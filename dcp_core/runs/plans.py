"""Plans: TOML files of lists that stand for many attacks.

A plan gives one run for every combination of victim, attack, defense, parameter value, budget, clone and seed. What the
plan does not name keeps its default:

    victims = ["signs-resnet8"]
    seeds = [0, 1, 2]
    budgets = [2000, 10000]
    clones = ["resnet8"]

    [[attacks]]
    name = "knockoff"
    pools = ["signs_pool", "textures"]
    treatment = ["as-is", "top-1"]

    [[defenses]]
    name = "none"

    [[defenses]]
    name = "dcp"
    beta = [0.5, 0.9, 1.2]
"""

import dataclasses
import itertools
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dcp_core.defenses import Defense, NoDefense
from dcp_core.runs.spec import RunSpec

LISTS: dict[str, list[Any]] = {"victims": [], "seeds": [0], "budgets": [10_000], "clones": [""]}


class PlanError(ValueError):
    """A plan that cannot be read. The message says what is wrong with it."""


def with_strengths(defense: Defense, strengths: Iterable[float], *, undefended: bool) -> list[Defense]:
    """A defense, the same defense at the given strengths, and no defense if `undefended`; each once."""
    others = [dataclasses.replace(defense, **{defense.strength: float(x)}) for x in strengths if defense.strength]
    return list(dict.fromkeys([defense, *others, *([NoDefense()] if undefended else [])]))


def read_plan(path: Path) -> list[RunSpec]:
    """Read a plan. Returns its runs, each once, ordered by victim and attack.

    Raises:
        PlanError: for a file that is not a plan.
        ValueError: for a run with impossible parameters.
    """
    try:
        plan = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not a readable TOML file: {error}") from error
    return expand(plan)


def expand(plan: dict[str, Any]) -> list[RunSpec]:
    """The runs of a plan, given the content of its TOML file.

    Raises:
        PlanError: for an unknown or missing entry.
        ValueError: for a run with impossible parameters.
    """
    unknown = sorted(plan.keys() - LISTS.keys() - {"attacks", "defenses"})
    if unknown:
        raise PlanError(f"unknown entry '{unknown[0]}'; a plan has {', '.join([*LISTS, 'attacks', 'defenses'])}")
    lists = {name: _list(plan.get(name, default)) for name, default in LISTS.items()}
    attacks = list(_choices(plan, "attacks", "knockoff"))
    defenses = list(_choices(plan, "defenses", "none"))
    if not lists["victims"]:
        raise PlanError('a plan must name its victims, for example victims = ["signs-resnet8"]')
    specs = [
        RunSpec(victim, attack, given, defense, parameters, budget, pool, clone, seed)
        for victim in lists["victims"]
        for attack, given, pool in attacks
        for budget in lists["budgets"]
        for clone in lists["clones"]
        for defense, parameters, _ in defenses
        for seed in lists["seeds"]
    ]
    return list({spec.key: spec for spec in specs}.values())


def _choices(plan: dict[str, Any], table: str, default: str) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """Name, parameters and query pool of every combination in the entries of a table."""
    entries = plan.get(table, [{"name": default}])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise PlanError(f"write {table} as tables: [[{table}]] name = ...")
    for entry in entries:
        if "name" not in entry:
            raise PlanError(f"every entry of [[{table}]] needs a name")
        given = dict(entry)
        name, pools = given.pop("name"), _list(given.pop("pools", [None]) if table == "attacks" else [None])
        combinations = itertools.product(*(_list(value) for value in given.values()))
        for values, pool in itertools.product(combinations, pools):
            yield name, dict(zip(given, values, strict=True)), pool


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
