"""Operating points: the constraints of Table II, and the Pareto front.

Points are result rows (`dcp_core/results/schema.py`) with the thief's error, the owner's error, the mean l1 distance and
the strength of the defense.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from dcp_core.results.pairing import difference

Mode = Literal["discrete", "piecewise"]
L1 = Literal["l1_queries", "l1"]
L1_LIMITS: dict[L1, str] = {
    "l1_queries": "l1 on the thief's queries",
    "l1": "l1 on customers' answers (test set)",
}
"""The answers for which a limit on the mean l1 distance can hold: column of result rows -> name."""
L1_DEFAULT: L1 = "l1_queries"
"""Table II of the paper does not say for which answers its limit holds. Its released code uses the transfer set."""

STD = "adversary_error_std"
ROUNDING = 1e-9  # 8.05 - 7.05 must not exceed 1


@dataclass(frozen=True)
class Best:
    """The largest thief error that a defense reaches under both constraints."""

    adversary_error: float
    """Percent; NaN if no point meets the constraints."""
    between: tuple[Hashable, ...]
    """Index labels of the measured point with this error, or of the two neighbouring points between which it lies."""
    strength: float
    """Strength of the defense at that point; interpolated linearly between two points."""
    reason: str
    """Why no point meets the constraints; empty if one does."""


def admissible(
    points: pd.DataFrame, max_defender_increase: float, max_l1: float, l1: L1 = L1_DEFAULT
) -> pd.DataFrame:
    """The points that meet both constraints. Points with a missing number are left out.

    Args:
        points: result rows.
        max_defender_increase: largest rise of the owner's error, percentage points.
        max_l1: largest mean l1 distance, 0 to 2.
        l1: the answers for which `max_l1` holds.
    """
    increase = points["defender_error"] - points["victim_error"]
    return points[(increase <= max_defender_increase + ROUNDING) & (points[l1] <= max_l1 + ROUNDING)]


def best_under(
    points: pd.DataFrame,
    max_defender_increase: float,
    max_l1: float,
    mode: Mode = "discrete",
    *,
    l1: L1 = L1_DEFAULT,
) -> Best:
    """A cell of Table II: the largest thief error with limits on the owner's error and on the l1 distance.

    Args:
        points: measured points of *one* curve (one defense, victim and attack; one seed, or the mean over seeds). Rows
            with a missing number are left out.
        max_defender_increase: largest rise of the owner's error over the undefended victim's, percentage points.
        max_l1: largest mean l1 distance, 0 to 2.
        mode: "discrete" uses measured points only. "piecewise" also interpolates all three numbers linearly between
            points of neighbouring strength; the best point on each segment is computed exactly.
        l1: the answers for which `max_l1` holds, one of `L1_LIMITS`.
    """
    known = points.dropna(subset=["victim_error", "defender_error", "adversary_error"]).sort_values("strength")
    if known.empty:
        return Best(np.nan, (), np.nan, "no point with a measured thief error")
    known = known.dropna(subset=[l1])
    if known.empty:
        return Best(np.nan, (), np.nan, f"no point with a measured {L1_LIMITS[l1]}")
    increase = (known["defender_error"] - known["victim_error"]).to_numpy(float)
    costs = np.column_stack([increase, known[l1].to_numpy(float)])  # (P, 2)
    thief, strength = known["adversary_error"].to_numpy(float), known["strength"].to_numpy(float)
    limits = np.array([max_defender_increase, max_l1]) + ROUNDING

    # A candidate is (segment start i, fraction t towards point i + 1); a measured point has t = 0.
    candidates = [(int(i), 0.0) for i in np.flatnonzero((costs <= limits).all(1))]
    if mode == "piecewise":
        for i in range(len(known) - 1):
            candidates += [(i, t) for t in _feasible_ends(costs[i], costs[i + 1], limits) if 0 < t < 1]
    if not candidates:
        return Best(np.nan, (), np.nan, _why(costs, max_defender_increase, max_l1, l1))

    def at(values: np.ndarray, i: int, t: float) -> float:
        return float(values[i] + t * (values[i + 1] - values[i])) if t else float(values[i])

    i, t = max(candidates, key=lambda c: at(thief, *c))
    between = tuple(known.index[i : i + 2]) if t else (known.index[i],)
    return Best(at(thief, i, t), between, at(strength, i, t), "")


def l1_limit(max_l1: float, l1: L1 = L1_DEFAULT) -> str:
    """The l1 constraint as a text for captions: "mean l1 on the thief's queries ≤ 0.9"."""
    return f"mean {L1_LIMITS[l1]} ≤ {max_l1:g}"


def limits(increases: Sequence[float], max_l1: float, l1: L1 = L1_DEFAULT) -> str:
    """Both constraints as a text for captions: "owner's error up by at most 1, 2 points, mean l1 on ... ≤ 0.9"."""
    points = ", ".join(f"{each:g}" for each in increases) + (" point" if list(increases) == [1] else " points")
    return f"owner's error up by at most {points}, {l1_limit(max_l1, l1)}"


def table2(
    points: pd.DataFrame,
    increases: Sequence[float] = (1, 2, 5),
    max_l1: float = 0.9,
    mode: Mode = "discrete",
    *,
    l1: L1 = L1_DEFAULT,
) -> pd.DataFrame:
    """Table II for measured points: `best_under` for each defense and each allowed increase.

    Args:
        points: rows of one victim, attack and query set, with one curve for each defense. Unreliable rows are left out.
        increases: allowed rises of the owner's error, percentage points.
        max_l1, mode, l1: as for `best_under`.

    Returns:
        Columns source ("measured"), defense, max_defender_increase, max_l1, the fields of `Best`, and the point's
        adversary_error_std and by_seed (see `rows.over_seeds`), which are NaN if unknown or between two points.
    """
    trusted = points[~points["unreliable"]]
    rows = []
    for defense, curve in trusted.groupby("defense", sort=False):
        for increase in increases:
            best = best_under(curve, increase, max_l1, mode, l1=l1)
            at = curve.loc[best.between[0]] if len(best.between) == 1 else pd.Series(dtype=object)
            cell = {"source": "measured", "defense": defense, "max_defender_increase": float(increase)}
            cell |= {"max_l1": max_l1, **vars(best), **{name: at.get(name, np.nan) for name in (STD, "by_seed")}}
            rows.append(cell)
    columns = ["source", "defense", "max_defender_increase", "max_l1", *Best.__annotations__, STD, "by_seed"]
    return pd.DataFrame(rows, columns=columns)


def added(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of Table II with the rise of the thief's error by each defense instead of the error itself.

    The rise, in the column `adversary_error`, is the difference in percentage points to "none" of the same source and
    allowed increase. A weak attack makes the error large, but not the rise.

    If both have at least one seed in common, the rise is the mean of the differences for each seed. With two or more common
    seeds, `low` and `high` are its 95 % interval (`pairing.paired`).
    """
    by = ["source", "max_defender_increase"]
    undefended = {key: group.iloc[0] for key, group in cells[cells["defense"] == "none"].groupby(by)}
    defended = cells[cells["defense"] != "none"]
    rises = []
    for _, cell in defended.iterrows():
        bare = undefended.get((cell["source"], cell["max_defender_increase"]))
        rise = None if bare is None else difference(cell, bare)
        rises.append((rise.mean, rise.low, rise.high) if rise else (np.nan, np.nan, np.nan))
    numbers = pd.DataFrame(rises, columns=["adversary_error", "low", "high"], index=defended.index)
    return defended.drop(columns=[STD, "by_seed"], errors="ignore").assign(**numbers)


def beside_paper(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of Table II with the paper's and our number side by side.

    Args:
        cells: the paper's rows and those of `table2` with a column `dataset`; or both as `added` gives them.

    Returns:
        Columns dataset, defense, max_defender_increase, `measured` and `paper` (percent or percentage points, NaN if
        unknown), and their `difference`.
    """
    at = ["dataset", "defense", "max_defender_increase"]
    table = cells.pivot_table(index=at, columns="source", values="adversary_error", sort=False, dropna=False)
    table = table.reindex(columns=["measured", "paper"]).dropna(how="all").reset_index()
    return table.assign(difference=table["measured"] - table["paper"])


def strongest(groups: Mapping[str, pd.DataFrame]) -> str | None:
    """The setting of `rows.settings` whose undefended thief has the smallest error, measured with enough seeds.

    Settings without a trusted undefended point, or without a defense, are left out; None if there is no other.
    """
    errors = {
        name: group.loc[(group["defense"] == "none") & ~group["unreliable"], "adversary_error"].min()
        for name, group in groups.items()
        if (group["defense"] != "none").any()
    }
    known = {name: error for name, error in errors.items() if pd.notna(error)}
    return min(known, key=known.__getitem__) if known else None


def strongest_first(groups: Mapping[str, pd.DataFrame]) -> list[str]:
    """Names of the settings of `rows.settings`: the `strongest` first, the others in their order."""
    best = strongest(groups)
    return sorted(groups, key=lambda name: name != best)


def _feasible_ends(a: np.ndarray, b: np.ndarray, limits: np.ndarray) -> tuple[float, ...]:
    """The part of the segment from a to b in which all costs are within their limits, as start and end fractions (0 to 1).
    Empty if there is no such part."""
    low, high = 0.0, 1.0
    for start, slope, limit in zip(a, b - a, limits, strict=True):
        if slope == 0:
            if start > limit:
                return ()
        elif slope > 0:
            high = min(high, (limit - start) / slope)
        else:
            low = max(low, (limit - start) / slope)
    return (low, high) if low <= high else ()


def _why(costs: np.ndarray, max_increase: float, max_l1: float, l1: L1) -> str:
    least_increase, least_l1 = costs.min(0)
    if least_increase > max_increase + ROUNDING:
        return f"every point raises the owner's error by at least {least_increase:.2f} points"
    if least_l1 > max_l1 + ROUNDING:
        return f"every point has a mean {L1_LIMITS[l1]} of at least {least_l1:.2f}"
    return "no point meets both constraints at once"


def pareto_front(points: pd.DataFrame, costs: Sequence[str] = ("defender_error",)) -> pd.DataFrame:
    """The Pareto-optimal points: no other point is at least as good in all respects, and better in one.

    The respects are the thief's error (high is good) and the columns `costs` (low is good). Equal points all stay. Rows
    with a missing number are left out. The result is sorted by cost.
    """
    known = points.dropna(subset=["adversary_error", *costs])
    values = np.column_stack([known[list(costs)].to_numpy(float), -known["adversary_error"].to_numpy(float)])
    no_worse = (values[:, None] <= values[None]).all(-1)  # [i, j]: i is at least as good as j everywhere
    beaten = (no_worse & ~no_worse.T).any(0)
    return known[~beaten].sort_values([*costs, "adversary_error"])
