"""How well a victim was stolen, in a few numbers: by the best measured thief, without and with a defense."""

import json

import numpy as np
import pandas as pd

from dcp_core.defenses.base import Defense, identity
from dcp_core.results.decision import (
    AS_IS,
    TOP_1,
    behind,
    label_only,
    least_error,
    measured_cases,
    trusted,
    undefended,
)

KIND = ["victim", "attack", "clone", "queries_from"]  # what the points of one learning curve have in common
VICTIM, CLONE, DEFENDED, LABELS = "your model", "its clone", "clone, defended", "clone from labels only"


def strongest_case(points: pd.DataFrame, victim: str, defense: str = "dcp") -> pd.DataFrame | None:
    """The reliable points of the case whose undefended clone has the lowest error.

    Args:
        points: points of `rows.thief_points`.
        victim: name of the victim.
        defense: name of a defense that must have been measured in that case.

    Returns:
        The points, None if no such case was measured.
    """
    reliable = (trusted(case) for case in measured_cases(points[points["victim"] == victim]).values())
    cases = [case for case in reliable if len(undefended(case)) and (case["defense"] == defense).any()]
    return min(cases, key=lambda case: undefended(case)["adversary_error"].iloc[0], default=None)


def strengths(case: pd.DataFrame, defense: str = "dcp") -> list[float]:
    """Strengths of a defense at which the thief who trusts the answers was measured, in rising order."""
    measured = case[(case["defense"] == defense) & (case["thief"] == AS_IS)]
    return sorted(measured["strength"].unique())


def point_at(case: pd.DataFrame, strength: float, defense: str = "dcp") -> pd.Series:
    """The point of the thief who trusts the answers, at a measured strength."""
    chosen = (case["defense"] == defense) & (case["thief"] == AS_IS) & (case["strength"] == strength)
    return case[chosen].iloc[0]


def along(case: pd.DataFrame, defense: Defense) -> pd.DataFrame:
    """Points of the thief who trusts the answers behind a defense, by rising strength; its other parameters are those given.

    Where strength 0 is no defense, the undefended point comes first, with strength 0.
    """
    strength = defense.strength
    rows = case[(case["defense"] == defense.name) & (case["thief"] == AS_IS)]
    others = {name: value for name, value in identity(defense).items() if name != strength}
    same = [
        {name: value for name, value in json.loads(text).items() if name != strength} == others
        for text in rows["parameters"]
    ]
    found = rows[np.array(same, dtype=bool)].sort_values("strength")
    if len(found) and defense.grid[0] == 0 and isinstance(defense.grid[1], float):
        found = pd.concat([undefended(case).assign(strength=0.0), found[found["strength"] > 0]])
    return found


def best_along(case: pd.DataFrame, line: pd.DataFrame) -> pd.DataFrame:
    """The best measured thief at each point of a line of `along`: one who trusts the answers, uses only their top class, or
    knows the defense."""
    best = [least_error(behind(case, point)).to_dict() for _, point in line.iterrows()]
    return pd.DataFrame(best, columns=line.columns).assign(strength=line["strength"].to_numpy())


def levels(case: pd.DataFrame) -> dict[str, float]:
    """Errors in percent that do not depend on a defense: of the victim, and of clones without a defense and from labels only
    (if measured)."""
    bare = undefended(case).iloc[0]
    found = {VICTIM: float(bare["victim_error"]), CLONE: float(bare["adversary_error"])}
    labels = label_only(case)
    return found if labels is None else found | {LABELS: float(labels["adversary_error"])}


def best_thieves(points: pd.DataFrame) -> dict[str, float]:
    """The victim's error and the smallest errors of undefended clones, percent, by names for figures.

    One clone is of a thief who trusts the answers, one of a thief who gets labels only. Points with few seeds count too,
    because a thief needs to succeed only once; their names then say so. Empty for points of several victims.

    Args:
        points: points of `rows.thief_points`.
    """
    bare = points[(points["source"] == "measured") & (points["defense"] == "none")]
    if len(bare["victim"].unique()) != 1:
        return {}
    found = {"victim": float(bare["victim_error"].iloc[0])}
    for name, thief in (("best thief, undefended", AS_IS), ("best thief from labels only", TOP_1)):
        same = bare[bare["thief"] == thief]
        if len(same):
            best = least_error(same)
            found[f"{name} ({best['reason']})" if best["unreliable"] else name] = float(best["adversary_error"])
    return found


def least_behind(case: pd.DataFrame, defense: Defense) -> list[float]:
    """Two errors in percent: of the best undefended clone, and of the best one behind a defense with just these parameters.

    Empty if no clone was measured without a defense or behind it.
    """
    points = behind_defense(case, defense)
    bare = case[case["defense"] == "none"]
    if points.empty or bare.empty:
        return []
    return [float(least_error(each)["adversary_error"]) for each in (bare, points)]


def behind_defense(case: pd.DataFrame, defense: Defense) -> pd.DataFrame:
    """Points of all thieves that were measured behind a defense with exactly these parameters."""
    rows = case[case["defense"] == defense.name]
    return rows[np.array([json.loads(text) == identity(defense) for text in rows["parameters"]], dtype=bool)]


def accuracies(case: pd.DataFrame, defended: pd.Series) -> pd.DataFrame:
    """Accuracies of the victim and of clones on the victim's test set, percent.

    The thief behind the defense is the best one that was measured there: this thief may trust the answers, use only their
    top class, or know the defense.

    Args:
        case: points of `strongest_case`.
        defended: the point of `point_at`.

    Returns:
        Columns `who`, `accuracy` (percent) and `std` (over seeds, NaN where unknown). Clones from labels only have a row if
        they were measured.
    """
    bare = undefended(case).iloc[0]
    best = least_error(behind(case, defended))
    rows = [(VICTIM, 100 - bare["victim_error"], float("nan"))]
    rows += [
        (who, 100 - point["adversary_error"], point["adversary_error_std"])
        for who, point in ((CLONE, bare), (DEFENDED, best))
    ]
    labels = case[(case["defense"] == "none") & (case["thief"] == TOP_1)]
    if len(labels):
        rows.append((LABELS, 100 - labels["adversary_error"].iloc[0], labels["adversary_error_std"].iloc[0]))
    return pd.DataFrame(rows, columns=["who", "accuracy", "std"])


def learning(points: pd.DataFrame, case: pd.DataFrame, strength: float, defense: str = "dcp") -> pd.DataFrame:
    """How the clones of `accuracies` improve with the number of queries.

    Args:
        points: points of `rows.thief_points`.
        case: points of `strongest_case`. Points of all budgets with its victim, attack, clone and query pictures are used.
        strength: strength of the defense.

    Returns:
        Columns `who`, `queries`, `accuracy` (percent) and `std`, sorted by `who` and `queries`. The thief behind the defense
        is the best one that was measured there with this number of queries.
    """
    kinds = points[KIND].fillna("")
    same = trusted(points[(kinds == case.iloc[0][KIND].fillna("")).all(axis=1)])
    bare, trusting = same["defense"] == "none", same["thief"] == AS_IS
    groups = {
        CLONE: same[bare & trusting],
        DEFENDED: same[(same["defense"] == defense) & (same["strength"] == strength)],
        LABELS: same[bare & (same["thief"] == TOP_1)],
    }
    rows = [
        (who, int(point["budget"]), 100 - point["adversary_error"], point["adversary_error_std"])
        for who, group in groups.items()
        for point in (least_error(each) for _, each in group.groupby("budget"))
    ]
    return pd.DataFrame(rows, columns=["who", "queries", "accuracy", "std"])
