"""Measured operating points under what an owner can bear, and what the best measured thief keeps behind each.

Points are result rows averaged over seeds (`rows.thief_points`). A case has those of one victim and one attack, with all
that thieves do with the answers. `verdict.py` makes an answer of them.
"""

from dataclasses import dataclass

import pandas as pd

from dcp_core.data.datasets import DATASETS
from dcp_core.defenses import DEFENSES
from dcp_core.models import zoo
from dcp_core.results.constraints import L1, L1_DEFAULT, admissible, best_under
from dcp_core.results.pairing import difference, holm
from dcp_core.results.rows import settings

AS_IS, TOP_1 = "as is", "top-1"  # what a thief does with the answers, as result rows name it
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
    """What an owner can bear. `increase`: percentage points of his own error; `l1`: mean l1 distance, 0 to 2, on what
    `l1_of` says; `one_file`: victim and defense must fit into one ONNX file, for a device; `label_only`: customers need
    the top class alone, no probabilities."""

    increase: float
    l1: float
    one_file: bool = False
    l1_of: L1 = L1_DEFAULT
    label_only: bool = False


def measured_cases(points: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """From the name of each case, measured with a defense and without, to its points."""
    groups = settings(points[points["source"] == "measured"], ["thief"])
    return {
        name: case for name, case in groups.items() if len(undefended(case)) and len(case["defense"].unique()) > 1
    }


def undefended(case: pd.DataFrame) -> pd.DataFrame:
    """The point to compare with, if it was measured: no defense, and a thief who trusts the answers."""
    return case[(case["defense"] == "none") & (case["thief"] == AS_IS)]


def trusted(case: pd.DataFrame) -> pd.DataFrame:
    """The points that are not marked as unreliable."""
    return case[~case["unreliable"].astype(bool)]


def operating_points(case: pd.DataFrame, needs: Needs) -> pd.DataFrame:
    """For each measured defense, the point within the needs where the thief who trusts the answers errs most, as in
    Table II.

    Returns:
        One row a defense, the largest gain first: the columns of its point and
        `increase`, percentage points of the owner's error;
        `gain`, percentage points that it adds to the undefended thief's error, paired by seed, with `gain_low` and
        `gain_high`, its 95 % interval, and `pairs`, the number of seeds on both sides;
        `proven`, whether the gain is positive after Holm's correction over all admissible points of all defenses, because
        each row is the best of several;
        `best_thief`, `best_error` and `kept`: of the measured thieves at this point the one whose clone errs least, and
        what it is worth (`kept`);
        `why_not`, why a defense has no point, else empty.
        Empty without a trusted undefended point to compare with.
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
    """Points of all measured thieves at the defense and parameters of the chosen point."""
    return points[(points["defense"] == chosen["defense"]) & (points["parameters"] == chosen["parameters"])]


def least_error(points: pd.DataFrame) -> pd.Series:
    """The point of the thief whose clone errs least."""
    return points.sort_values("adversary_error").iloc[0]


def label_only(case: pd.DataFrame) -> pd.Series | None:
    """What an API gives away that sends nothing but labels: the thief who keeps the top class of undefended answers."""
    points = trusted(case)
    same = points[(points["defense"] == "none") & (points["thief"] == TOP_1)]
    return None if same.empty else same.iloc[0]


def kept(point: pd.Series, error: float | None = None) -> float:
    """What a clone is worth: its accuracy above chance as a share of the victim's, 0 to 1 and a little over.

    1 for a victim that is no better than guessing: any clone is worth as much.

    Args:
        point: of the clone.
        error: percent; without it, the point's thief error.
    """
    chance = _chance(str(point["dataset"]), str(point["victim"]))
    wrong = float(point["adversary_error"]) if error is None else error
    worth = 100 - float(point["victim_error"]) - chance
    return max(0.0, (100 - wrong - chance) / worth) if worth > 0 else 1.0


def _chance(dataset: str, victim: str) -> float:
    """Accuracy of guessing, percent; 0 if the number of classes is not known."""
    classes = DATASETS[dataset].classes if dataset in DATASETS else 0
    if not classes and victim in zoo.names():
        classes = len(zoo.card(victim).classes)
    return 100 / classes if classes else 0.0


def _proven(defended: pd.DataFrame, bare: pd.DataFrame, needs: Needs) -> set[object]:
    """Index labels of the admissible points whose gain Holm's correction leaves standing."""
    tried = admissible(defended, needs.increase, needs.l1, needs.l1_of)
    gains = [difference(point, bare.iloc[0]) for _, point in tried.iterrows()]
    stands = holm([gain.p for gain in gains])
    return {
        at for at, gain, rejected in zip(tried.index, gains, stands, strict=True) if rejected and gain.mean > 0
    }


def _unfit(name: str) -> str:
    """Why a defense does not go into one file with the victim; else empty."""
    if name in DEFENSES and DEFENSES[name].in_one_file():
        return ""
    if name in DEFENSES and DEFENSES[name].needs_inputs:
        return "needs a second network beside the victim, which does not go into one file"
    return "has no form for an ONNX file"
