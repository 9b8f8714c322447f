"""Describe runs in words and tables, for pages and command line."""

import dataclasses
import re
from typing import Any

import pandas as pd

from dcp_core.attacks.base import AS_IS
from dcp_core.data.datasets import pool_words
from dcp_core.defenses import Defense
from dcp_core.models import zoo
from dcp_core.results.rows import THIEVES
from dcp_core.runs import store
from dcp_core.runs.spec import RunSpec, Spec
from dcp_core.runs.store import RunView

STAGES = ("drawing", "asking", "training", "scoring")
"""The stages of an attack: pictures are drawn or loaded, the victim is queried, the clone is trained, and it is scored.
Data-free attacks query and train at the same time."""
RESULT_COLUMNS = ("adversary_error", "fidelity", "victim_error", "defender_error", "l1", "l1_queries")


def defense_words(defense: Defense) -> str:
    """A defense with its strength and the parameters that differ from their defaults: 'DCP β=0.9 τ=0.99'."""
    values = {
        declared.symbol: getattr(defense, key)
        for key, declared in defense.parameters().items()
        if key == defense.strength or getattr(defense, key) != getattr(type(defense), key)
    }
    return " ".join([defense.short, *(f"{symbol}={value}" for symbol, value in values.items())])


def defense_facts(defense: Defense) -> str:
    """A defense with its strength as a number, and the other parameters that differ from their defaults: 'DCP 0.9'."""
    strength = "" if defense.strength is None else f"{defense.short} {getattr(defense, defense.strength):g}"
    others = [
        f"{declared.symbol}={getattr(defense, key)}"
        for key, declared in defense.parameters().items()
        if key != defense.strength and getattr(defense, key) != getattr(type(defense), key)
    ]
    return " ".join([strength or defense.short, *others])


def facts_of(view: RunView[Spec]) -> str:
    """A run in words: 'KnockoffNets, 2,000 similar pictures, behind DCP 0.9'; its key if it is not an attack."""
    spec = view.spec
    if not isinstance(spec, RunSpec):
        return view.key
    defense = spec.make_defense()
    behind = "undefended" if spec.defense == "none" else f"behind {defense_facts(defense)}"
    return f"{attack_words(spec, pool=False)}, {behind}"


def attack_words(spec: RunSpec, *, pool: bool = True) -> str:
    """An attack in words: 'KnockoffNets, 2,000 similar pictures (signs_pool), uses the top class alone'.

    Args:
        pool: whether the text also has the name of the query pool.
    """
    return ", ".join(filter(None, attack_parts(spec, pool=pool)))


def attack_parts(spec: RunSpec, *, pool: bool = True) -> tuple[str, str, str]:
    """The parts of `attack_words`: the attack's name, the pictures that it sends, and what it does with the answers.

    The last part is empty for a thief who trains on the answers as they are.
    """
    attack, card = spec.make_attack(), card_of(spec.victim)
    asked = pool_words(card.dataset if card else "", spec.pool, named=pool) if spec.pool else "queries"
    use = THIEVES.get(attack.thief, attack.thief) if attack.thief != AS_IS else ""
    return attack.short, f"{spec.budget:,} {asked}", use


def name_of(view: RunView[Spec]) -> str:
    """A name of one line: an attack's defense, parameters and the first 4 characters of its key; else the whole key."""
    spec = view.spec
    if not isinstance(spec, RunSpec):
        return view.key
    words = [defense_words(spec.make_defense()), attack_words(spec), spec.victim, f"seed {spec.seed}"]
    return " · ".join([*words, view.key[:4]])


def row_of(view: RunView[RunSpec]) -> dict[str, Any]:
    """A run as a row of a table."""
    spec, found = view.spec, (view.result or {}).get("rows", [{}])[0]
    return {
        "state": view.state,
        "defense": defense_words(spec.make_defense()) if spec else "",
        "attack": attack_words(spec) if spec else view.message,
        "victim": spec.victim if spec else "",
        "clone": spec.clone if spec else "",
        "seed": spec.seed if spec else None,
        **{name: found.get(name) for name in RESULT_COLUMNS},
        "begun": pd.Timestamp(view.created, unit="s", tz="UTC").round("s") if view.created else None,
        "key": view.key,
    }


def table_of(views: list[RunView[RunSpec]], states: list[str], text: str) -> pd.DataFrame:
    """Runs as a table, one row each as in `row_of`.

    Args:
        states: keep only runs in one of these states; an empty list keeps all.
        text: keep only runs in which a word of any cell begins with it, in upper or lower case.
    """
    rows = [row_of(view) for view in views if not states or view.state in states]
    begins = re.compile(rf"(?<!\w){re.escape(text)}", re.IGNORECASE)
    return pd.DataFrame([row for row in rows if any(begins.search(str(cell)) for cell in row.values())])


def clearest_pair(views: list[RunView[RunSpec]]) -> list[str]:
    """Keys of an undefended and a defended run that differ by the defense alone.

    Of all such pairs of finished runs, it is the one in which the defense raises the clone's error most. Pairs with the
    strong training recipe have priority. Empty if there is no pair.
    """
    errors = {view.key: view.result["rows"][0]["adversary_error"] for view in views if view.spec and view.result}
    pairs = []
    for view in views:
        if view.spec is None or view.spec.defense == "none" or view.key not in errors:
            continue
        undefended = dataclasses.replace(view.spec, defense="none", defense_parameters={}).key
        if undefended in errors:
            strong = view.spec.attack_parameters.get("recipe") == "strong"
            pairs.append((strong, errors[view.key] - errors[undefended], [undefended, view.key]))
    return max(pairs)[-1] if pairs else []


def courses_of(views: list[RunView[RunSpec]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables of `plots.run_curves`: the scored points of all runs; the errors of each victim and of guessing.

    A run is named by its defense. If two runs then have the same name, the attack is added, and if needed the seed.
    """
    columns = ["run", "name", "defense", "work", "queries", "error", "fidelity"]
    parts, victims = [pd.DataFrame(columns=columns)], {}
    names = _short_names([view for view in views if view.spec is not None])
    for view in views:
        if view.spec is None:
            continue
        course = store.events(view.folder).dropna(subset=["error"])
        if len(course):
            known = {"run": view.key, "name": names[view.key], "defense": view.spec.defense}
            parts.append(course.assign(**known, work=100 * course["fraction"])[columns])
        card = card_of(view.spec.victim)
        if card is not None and card.test_accuracy is not None:
            victims[view.spec.victim] = (100 - card.test_accuracy, 100 - 100 / len(card.classes))
    points = pd.concat(parts[1:]) if len(parts) > 1 else parts[0]
    levels = [(victim, *errors) for victim, errors in victims.items()]
    return points, pd.DataFrame(levels, columns=["victim", "error", "guessing"])


def _short_names(views: list[RunView[RunSpec]]) -> dict[str, str]:
    """A short name for each run's key, by which the runs can be told apart."""
    specs = {view.key: view.spec for view in views if view.spec is not None}
    defenses = {
        key: defense_facts(spec.make_defense()) if spec.defense != "none" else "undefended"
        for key, spec in specs.items()
    }
    if len(set(defenses.values())) == len(specs):
        return defenses
    names = {key: f"{attack_words(spec, pool=False)}, {defenses[key]}" for key, spec in specs.items()}
    if len(set(names.values())) == len(specs):
        return names
    return {key: f"{names[key]}, seed {spec.seed}, {key[:4]}" for key, spec in specs.items()}


def stage_of(view: RunView[Spec]) -> int:
    """The index in `STAGES` of an active run's stage; -1 before the first."""
    if view.state == "queued" or not view.phase:
        return -1
    words = {
        0: ("loading", "drawing", "the victim answers"),
        1: ("asking", "stealing", "features"),
        3: ("scoring",),
    }
    return next((stage for stage, begins in words.items() if view.phase.startswith(begins)), 2)


def card_of(victim: str) -> zoo.Card | None:
    """A victim's card; None if the victim is not on this machine."""
    try:
        return zoo.card(victim)
    except ValueError:
        return None


def time_words(seconds: float) -> str:
    """A duration in words: '40 s', '12 min', '3.5 h', '2.1 days'."""
    for limit, unit, form in ((90, 1, "{:.0f} s"), (5400, 60, "{:.0f} min"), (172_800, 3600, "{:.1f} h")):
        if seconds < limit:
            return form.format(seconds / unit)
    return f"{seconds / 86_400:.1f} days"
