"""How well a victim was stolen, in a few numbers: by the best measured thief, without and with a defense."""

import pandas as pd

from dcp_core.results.decision import AS_IS, TOP_1, behind, least_error, measured_cases, trusted, undefended

KIND = ["victim", "attack", "clone", "queries_from"]  # what the points of one learning curve have in common
VICTIM, CLONE, DEFENDED, LABELS = "your model", "its clone", "clone, defended", "clone from labels only"


def strongest_case(points: pd.DataFrame, victim: str, defense: str = "dcp") -> pd.DataFrame | None:
    """The reliable points of the case whose undefended clone has the lowest error.

    Args:
        points: of `rows.thief_points`.
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


def accuracies(case: pd.DataFrame, defended: pd.Series) -> pd.DataFrame:
    """Accuracies of the victim and of clones on the victim's test set, percent.

    The thief behind the defense is the best one that was measured there: this thief may trust the answers, use only their
    top class, or know the defense.

    Args:
        case: of `strongest_case`.
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
        points: of `rows.thief_points`.
        case: of `strongest_case`. Points of all budgets with its victim, attack, clone and query pictures are used.
        strength: of the defense.

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
