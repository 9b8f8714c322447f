"""Should a defense be deployed, and which: measured operating points under what an owner can bear.

Points are result rows averaged over seeds (`rows.thief_points`). A case has those of one victim and one attack, with all
that thieves do with the answers.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from dcp_core.defenses import DEFENSES, IN_ONE_FILE
from dcp_core.results.constraints import L1, L1_DEFAULT, STD, best_under
from dcp_core.results.rows import settings

AS_IS, TOP_1 = "as is", "top-1"  # what a thief does with the answers, as result rows name it
CONFIDENCE = 0.95
MORE = ["increase", "gain", "gain_low", "gain_high", "why_not"]  # columns that a decision adds to points


@dataclass(frozen=True)
class Needs:
    """What an owner can bear. `increase`: percentage points of his own error; `l1`: mean l1 distance, 0 to 2, on what
    `l1_of` says; `one_file`: victim and defense must fit into one ONNX file, for a device."""

    increase: float
    l1: float
    one_file: bool = False
    l1_of: L1 = L1_DEFAULT


def measured_cases(points: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """From the name of each case, measured with a defense and without, to its points."""
    groups = settings(points[points["source"] == "measured"], ["thief"])
    return {
        name: case for name, case in groups.items() if len(undefended(case)) and len(case["defense"].unique()) > 1
    }


def undefended(case: pd.DataFrame) -> pd.DataFrame:
    """The point to compare with, if it was measured: no defense, and a thief who trusts the answers."""
    return case[(case["defense"] == "none") & (case["thief"] == AS_IS)]


def operating_points(points: pd.DataFrame, needs: Needs) -> pd.DataFrame:
    """For each measured defense, the point within the needs where the thief who trusts the answers errs most.

    Returns:
        One row a defense, the most helpful first: the columns of its point; `increase`, percentage points of the owner's
        error; `gain`, percentage points that it adds to the undefended thief's error, with `gain_low` and `gain_high`,
        its 95 % interval over seeds (Welch; NaN without a deviation on both sides); `why_not`, why a defense has no
        point, else empty. Empty without a trusted undefended point to compare with.
    """
    trusted = points[~points["unreliable"].astype(bool) & (points["thief"] == AS_IS)]
    bare = undefended(trusted)
    rows = []
    defended = trusted[trusted["defense"] != "none"] if len(bare) else trusted[:0]
    for name, curve in defended.groupby("defense", sort=False):
        why_not = _unfit(str(name)) if needs.one_file else ""
        best = best_under(curve, needs.increase, needs.l1, l1=needs.l1_of)
        if why_not or best.reason:
            rows.append({"defense": name, "why_not": why_not or best.reason})
            continue
        point = curve.loc[best.between[0]]
        gain, low, high = difference(point, bare.iloc[0])
        rise = point["defender_error"] - point["victim_error"]
        rows.append(point.to_dict() | dict(zip(MORE, (rise, gain, low, high, ""), strict=True)))
    table = pd.DataFrame(rows, columns=[*points, *MORE])
    return table.sort_values("gain", ascending=False, ignore_index=True)


def recommended(table: pd.DataFrame) -> pd.Series | None:
    """The row of `operating_points` to deploy: the largest gain that seeds alone do not explain; None without one."""
    proven = table[table["gain_low"] > 0]
    return None if proven.empty else proven.iloc[0]


def as_good(table: pd.DataFrame, best: pd.Series) -> pd.DataFrame:
    """Rows of `operating_points` that the seeds cannot tell from the best one."""
    others = table[table["gain"].notna() & (table["defense"] != best["defense"])]
    return others[[not difference(best, other)[1] > 0 for _, other in others.iterrows()]]


def cleverer(points: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """Points of thieves who do more with the answers of the chosen point than trust them."""
    same = (points["defense"] == chosen["defense"]) & (points["parameters"] == chosen["parameters"])
    return points[same & (points["thief"] != AS_IS)]


def label_only(points: pd.DataFrame) -> pd.Series | None:
    """What an API gives away that sends nothing but labels: the thief who keeps the top class of undefended answers."""
    same = points[(points["defense"] == "none") & (points["thief"] == TOP_1)]
    return None if same.empty else same.iloc[0]


def difference(one: pd.Series, other: pd.Series) -> tuple[float, float, float]:
    """Difference of two points' thief errors, percentage points, and its 95 % interval (Welch's t over seeds)."""
    gain = float(one["adversary_error"] - other["adversary_error"])
    variances = [float(each[STD]) ** 2 / int(each["runs"]) for each in (one, other)]
    if not np.isfinite(variances).all() or not sum(variances):
        return gain, np.nan, np.nan
    freedom = sum(variances) ** 2 / sum(
        v**2 / (int(n["runs"]) - 1) for v, n in zip(variances, (one, other), strict=True)
    )
    half = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * sum(variances) ** 0.5
    return gain, gain - half, gain + half


def _unfit(name: str) -> str:
    """Why a defense does not go into one file with the victim; else empty."""
    if name in DEFENSES and DEFENSES[name].needs_inputs:
        return "needs a second network beside the victim, which does not go into one file"
    return "" if name in IN_ONE_FILE else "has no form for an ONNX file"
