"""The operating points of defenses within an owner's limits, and the best measured thief against each.

Points are result rows averaged over seeds (`rows.thief_points`). A case has the points of one victim and one attack, for
all treatments of the answers by thieves. A thief who trusts the answers trains on them as they are. `verdict.py` derives
a recommendation from a case.
"""

from dataclasses import dataclass

import pandas as pd

from dcp_core.attacks.base import BOUND
from dcp_core.data.datasets import DATASETS
from dcp_core.defenses import DEFENSES
from dcp_core.models import zoo
from dcp_core.results.constraints import L1, L1_DEFAULT, admissible, best_under
from dcp_core.results.pairing import difference, holm
from dcp_core.results.rows import settings

AS_IS, TOP_1 = "as is", "top-1"  # values of the column `thief`: what a thief does with the answers
MORE = [
    "increase",
    "gain",
    "gain_low",
    "gain_high",
    "pairs",
    "proven",
    "best_thief",
    "best_error",
    "kept",
    "why_not",
]


@dataclass(frozen=True)
class Needs:
    """The limits and requirements of an owner."""

    increase: float
    """Largest rise of the owner's error, percentage points."""
    l1: float
    """Largest mean l1 distance, 0 to 2."""
    one_file: bool = False
    """Victim and defense must fit into one ONNX file, for an edge device."""
    l1_of: L1 = L1_DEFAULT
    """The answers for which the limit `l1` holds."""
    label_only: bool = False
    """Customers need only the top class, not the probabilities."""


def measured_cases(points: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Points by the name of their case, for all cases that were measured with a defense and without.

    Cases with enough seeds come first, and of these the one whose undefended thief keeps most of the model.

    Bounds that no thief reaches (`attacks.base.BOUND`) are left out, so no recommendation uses them.

    Args:
        points: points of `rows.thief_points`.
    """
    of_thieves = (points["source"] == "measured") & ~points["thief"].astype("str").str.startswith(BOUND)
    groups = settings(points[of_thieves], ["thief"])
    cases = {
        name: case for name, case in groups.items() if len(undefended(case)) and len(case["defense"].unique()) > 1
    }

    def weakness(name: str) -> tuple[bool, float]:
        bare = undefended(cases[name]).iloc[0]
        return bool(bare["unreliable"]), -kept(bare)

    return {name: cases[name] for name in sorted(cases, key=weakness)}


def undefended(case: pd.DataFrame) -> pd.DataFrame:
    """The undefended point of the thief who trusts the answers, as a frame of one row (none if it was not measured)."""
    return case[(case["defense"] == "none") & (case["thief"] == AS_IS)]


def trusted(case: pd.DataFrame) -> pd.DataFrame:
    """The points that are not marked as unreliable."""
    return case[~case["unreliable"].astype(bool)]


def operating_points(case: pd.DataFrame, needs: Needs) -> pd.DataFrame:
    """For each measured defense, the point within the limits at which the error of the thief who trusts the answers is
    largest, as in Table II.

    Returns:
        One row for each defense, sorted by falling gain. Empty if there is no reliable undefended point. Columns: those of
        the point, and
        `increase`: rise of the owner's error, percentage points;
        `gain`: rise of the thief's error over the undefended thief's, percentage points, paired by seed; `gain_low` and
        `gain_high`: its 95 % interval; `pairs`: number of common seeds;
        `proven`: whether the gain is positive after Holm's correction over all admissible points of all defenses, which is
        needed because each row is the best of several points;
        `best_thief` and `best_error`: the measured thief with the lowest error at this point, and this error (percent);
        `kept`: what this thief keeps of the model, see the function `kept`;
        `why_not`: why a defense has no point; empty if it has one.
    """
    points = trusted(case)
    bare = undefended(points)
    defended = points[(points["defense"] != "none") & (points["thief"] == AS_IS)] if len(bare) else points[:0]
    unfit = {name: _unfit(name) if needs.one_file else "" for name in defended["defense"].unique()}
    proven = _proven(defended[defended["defense"].map(unfit) == ""], bare, needs)
    rows = []
    for name, curve in defended.groupby("defense", sort=False):
        best = best_under(curve, needs.increase, needs.l1, l1=needs.l1_of)
        if why_not := unfit[name] or best.reason:
            rows.append({"defense": name, "why_not": why_not})
            continue
        point = curve.loc[best.between[0]]
        strongest = least_error(behind(points, point))
        gain = difference(point, bare.iloc[0])
        more = [point["defender_error"] - point["victim_error"], gain.mean, gain.low, gain.high, gain.pairs]
        more += [point.name in proven, strongest["thief"], strongest["adversary_error"], kept(strongest), ""]
        rows.append(point.to_dict() | dict(zip(MORE, more, strict=True)))
    table = pd.DataFrame(rows, columns=[*points, *MORE])
    return table.sort_values("gain", ascending=False, ignore_index=True)


def behind(points: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """Points of all thieves that were measured against the defense of the chosen point, with the same parameters."""
    return points[(points["defense"] == chosen["defense"]) & (points["parameters"] == chosen["parameters"])]


def least_error(points: pd.DataFrame) -> pd.Series:
    """The point with the lowest thief error."""
    return points.sort_values("adversary_error").iloc[0]


def label_only(case: pd.DataFrame) -> pd.Series | None:
    """The point of an API that sends only labels: the thief who uses only the top class of undefended answers. None if it
    was not measured."""
    points = trusted(case)
    same = points[(points["defense"] == "none") & (points["thief"] == TOP_1)]
    return None if same.empty else same.iloc[0]


def kept(point: pd.Series, error: float | None = None) -> float:
    """The share of the model that a thief keeps: the clone's accuracy above chance, divided by the victim's accuracy above
    chance. 0 means no better than guessing; it can be slightly above 1.

    1 for a victim that is no better than guessing: any clone is worth as much.

    Args:
        point: a row with the columns dataset, victim, victim_error and adversary_error.
        error: error of the clone, percent. Default: the point's adversary_error.
    """
    chance = _chance(str(point["dataset"]), str(point["victim"]))
    wrong = float(point["adversary_error"]) if error is None else error
    return share_kept(wrong, float(point["victim_error"]), chance)


def share_kept(error: float, victim_error: float, chance: float) -> float:
    """The share of the model that a clone keeps, as `kept`.

    Args:
        error, victim_error: errors of the clone and of the victim, percent.
        chance: accuracy of guessing, percent.
    """
    worth = 100 - victim_error - chance
    return max(0.0, (100 - error - chance) / worth) if worth > 0 else 1.0


def _chance(dataset: str, victim: str) -> float:
    """Accuracy of guessing, percent; 0 if the number of classes is unknown."""
    classes = DATASETS[dataset].classes if dataset in DATASETS else 0
    if not classes and victim in zoo.names():
        classes = len(zoo.card(victim).classes)
    return 100 / classes if classes else 0.0


def _proven(defended: pd.DataFrame, bare: pd.DataFrame, needs: Needs) -> set[object]:
    """Index labels of the admissible points with a gain that is significantly positive after Holm's correction."""
    candidates = admissible(defended, needs.increase, needs.l1, needs.l1_of)
    gains = [difference(point, bare.iloc[0]) for _, point in candidates.iterrows()]
    significant = holm([gain.p for gain in gains])
    return {
        at
        for at, gain, rejected in zip(candidates.index, gains, significant, strict=True)
        if rejected and gain.mean > 0
    }


def _unfit(name: str) -> str:
    """Why a defense cannot be in one ONNX file with the victim; empty if it can."""
    if name in DEFENSES and DEFENSES[name].in_one_file():
        return ""
    if name in DEFENSES and DEFENSES[name].needs_inputs:
        return "needs a second network, which cannot be in one file with the victim"
    return "cannot be exported as ONNX nodes"
