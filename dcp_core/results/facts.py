"""Measured thieves, chosen by facts: the attack, how well it trains its clone, the number of queries, and so on."""

import numpy as np
import pandas as pd

from dcp_core.results.constraints import L1, STD, table2
from dcp_core.results.decision import trusted
from dcp_core.results.pairing import difference
from dcp_core.results.rows import parameters_of, words_of

RECIPE = "recipe"  # an attack parameter, the other facts are columns of result rows
RECIPES = {"strong": "strong recipe", "plain": "plain recipe (a beginner)"}
FACTS = {
    "attack": "Attack",
    RECIPE: "How it trains its clone",
    "budget": "Queries",
    "queries_from": "Pictures that it sends",
    "thief": "What it does with the answers",
}
"""Facts -> their names on pages, in the order in which a reader chooses."""
CLEAR = 1.0  # percentage points; a smaller effect on the clone's error does not matter


def values_of(points: pd.DataFrame, fact: str) -> dict[str, str]:
    """The values of a fact among the points: each value as text -> the value in words.

    Values that most points have come first; of the training recipes, the strong one comes first.

    Args:
        points: points of `rows.thief_points`.
        fact: one of `FACTS`.
    """
    if fact == RECIPE:
        recipes = set(as_text(points, fact))
        return {recipe: words for recipe, words in RECIPES.items() if recipe in recipes}
    found = {}
    for value, same in points.groupby(as_text(points, fact), sort=False):
        known = value and pd.notna(same.iloc[0][fact])
        found[str(value)] = (
            len(same),
            words_of(fact, same.iloc[0]) if known else "none: the attack draws its own",
        )
    return {value: words for value, (_, words) in sorted(found.items(), key=lambda item: -item[1][0])}


def as_text(points: pd.DataFrame, fact: str) -> pd.Series:
    """A fact of each point as text, empty where it is missing."""
    if fact == RECIPE:
        return parameters_of(points).map(lambda parameters: str(parameters.get(RECIPE, "")))
    return points[fact].astype("object").where(points[fact].notna(), "").astype(str)


def what_defenses_add(points: pd.DataFrame) -> pd.DataFrame:
    """Points of one thief with the rise of the thief's error by each defense instead of the error itself.

    The rise, in the column `adversary_error`, is the difference in percentage points to the reliable undefended point,
    paired by seed; `adversary_error_std` is half the width of its 95 % interval. Empty without an undefended point.
    """
    bare = _bare(points)
    defended = points[points["defense"] != "none"]
    if bare is None:
        return defended[:0]
    rises = [difference(point, bare) for _, point in defended.iterrows()]
    halves = [(rise.high - rise.low) / 2 for rise in rises]
    return defended.assign(
        **{"adversary_error": [rise.mean for rise in rises], STD: np.array(halves, dtype=float)}
    )


def about_thief(points: pd.DataFrame, increase: float, max_l1: float, l1: L1) -> str:
    """A sentence: the effect of the best defense within the owner's limits on one thief.

    Args:
        points: points of one thief.
        increase: largest rise of the owner's error, percentage points.
        max_l1: largest mean l1 distance on the answers `l1`.
    """
    bare, defended = _bare(points), points[points["defense"] != "none"]
    if bare is None:
        return "This thief was not measured without a defense, so nothing can be said about what a defense adds."
    without = f"{bare['adversary_error']:.0f} of 100 test pictures"
    cells = table2(defended, (increase,), max_l1, l1=l1).dropna(subset=["adversary_error"])
    if cells.empty:
        return f"No measured defense lies within your limits; without one, this thief's clone misses {without}."
    best = cells.sort_values("adversary_error", ascending=False).iloc[0]
    point = defended.loc[best["between"][0]]
    rise = difference(point, bare)
    if rise.mean < CLEAR or rise.low <= 0:
        return f"Within your limits, no measured defense clearly hinders this thief, whose clone misses {without}."
    name = words_of("defense", point)
    return (
        f"Within your limits, {name} at strength {best['strength']:g} hinders this thief most: its clone misses "
        f"{point['adversary_error']:.0f} instead of {without}."
    )


def _bare(points: pd.DataFrame) -> pd.Series | None:
    """The reliable point without a defense."""
    found = trusted(points[points["defense"] == "none"])
    return None if found.empty else found.iloc[0]
