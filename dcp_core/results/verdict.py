"""Recommend a defense from measured points: yes, no or cannot tell, with reasons and with what the defense will not stop.

The page Decide and the command `decide` print these sentences. A defense is recommended only if its gain is statistically
significant (`decision.operating_points`) and the best measured thief keeps clearly less of the model.
"""

import json
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from dcp_core.attacks.adaptive import OWN, SHADOWS, WIDE, thief_name
from dcp_core.defenses import DEFENSES, Defense, LabelOnly, make_defense
from dcp_core.results.constraints import STD
from dcp_core.results.decision import (
    AS_IS,
    Needs,
    behind,
    kept,
    label_only,
    least_error,
    operating_points,
    trusted,
    undefended,
)
from dcp_core.results.pairing import Interval, difference

Answer = Literal["yes", "no", "cannot tell"]
Level = Literal["stops", "slows", "barely matters", "nothing"]

FAILED = 0.2  # a clone that keeps at most this share of the model is useless
OWNED = 0.9  # a thief who keeps at least this share has the model
SLOWED, NOTICED = 0.75, 0.95  # largest shares for "slows" and "barely matters", of what the undefended thief keeps
SCALE: dict[Level, str] = {
    "stops": "as slows, and the best measured thief keeps at most 20 % of the model",
    "slows": "the thief keeps at most 75 % of what a thief keeps without the defense",
    "barely matters": "the thief keeps more than 75 % of it",
    "nothing": "the thief keeps more than 95 % of it, or at least 90 % of the model",
}
"""The meaning of each level, see `level_of`."""
GOOD: tuple[Level, ...] = ("stops", "slows")
KEPT = (
    "Kept of the model: the clone's accuracy above guessing, as a share of the victim's accuracy above guessing."
)
TO_MEASURE = (
    "Next, measure a thief who keeps only the top class against it: Attack lab, What the thief does, top-1."
)
THIEVES = {
    AS_IS: "the thief who trusts the answers",
    "top-1": "the thief who keeps only the top class of each answer",
    "average": "the thief who sends each picture several times and averages the answers",
    "average (augmented)": "the thief who sends changed copies of each picture and averages the answers",
    **{
        thief_name(treatment, prior): f"the thief who knows the defense and inverts it ({words}{start})"
        for treatment, words in (("bayes", "partial Bayes"), ("inverse", "learned inverse"), ("ddae", "D-DAE"))
        for prior, start in ((WIDE, ""), (OWN, " with the own clone"), (SHADOWS, " with shadow models"))
    },
}


@dataclass(frozen=True)
class Verdict:
    """A recommendation. All texts are plain text."""

    answer: Answer
    headline: str
    why: tuple[str, ...]
    """The reasons, as sentences."""
    not_stopped: tuple[str, ...]
    """Thieves that the recommended defense will not stop, as sentences; empty if none is recommended."""
    level: Level | Literal[""]
    """Level of the recommended defense, or of the best candidate if none is recommended; empty if unknown."""
    table: pd.DataFrame
    """`decision.operating_points` with the columns `level` and `answer`; empty if the answer does not use it."""
    point: pd.Series | None = None
    """The recommended row of the table."""
    defense: Defense | None = None
    """The recommended defense."""


def level_of(share: float, undefended_share: float) -> Level:
    """The level of a defense.

    Args:
        share: share of the model that the best thief keeps with the defense, 0 to 1.
        undefended_share: share that the best thief keeps without a defense.
    """
    if share >= OWNED or share > NOTICED * undefended_share:
        return "nothing"
    if share > SLOWED * undefended_share:
        return "barely matters"
    return "stops" if share <= FAILED else "slows"


def decide(case: pd.DataFrame, needs: Needs) -> Verdict:
    """The recommendation for a case of `decision.measured_cases`, within an owner's limits."""
    points = trusted(case)
    if undefended(points).empty:
        return _unreliable("the undefended thief was not measured reliably", undefended(case), case[:0])
    if needs.label_only:
        return _labels_alone(points)
    best = least_error(points[points["defense"] == "none"])
    share = kept(best)
    start = [
        f"Without a defense, the clone of {thief(best)} has an error of {error_of(best)}: it keeps {percent(share)} of the "
        "model.",
        *_labels_sentence(points),
    ]
    table = _judged(operating_points(case, needs), points, share)
    if share <= FAILED:
        start.append(
            f"A clone that keeps at most {percent(FAILED)} is useless; there is nothing to defend against."
        )
        return Verdict("no", "No: this thief fails without a defense.", tuple(start), (), "", table)
    if table.empty:
        return _unreliable("no defense was measured reliably", case[case["defense"] != "none"], table)
    known = table[table["gain"].notna()]
    if len(known) and known["gain_low"].isna().all():
        return _too_few_seeds(int(known["pairs"].max()), table, tuple(start))
    if known.empty:
        start.append("Every measured defense violates a limit at every measured strength.")
        return Verdict("no", "No: no measured defense is within your limits.", tuple(start), (), "", table)
    for answer in ("yes", "cannot tell", "no"):
        rows = known[known["answer"] == answer]
        if len(rows):
            return _about(rows.iloc[0], table, points, start)
    raise AssertionError("a row has one of three answers")


def _judged(table: pd.DataFrame, points: pd.DataFrame, undefended_share: float) -> pd.DataFrame:
    """Add the level and the answer of each defense that has a point.

    If a point was measured only against the thief who trusts the answers, the level assumes that a thief who keeps only
    the top class does as well as with undefended labels, if that was measured. A defense that does not change the top class
    cannot prevent this.
    """
    labels = label_only(points)
    levels, answers = [], []
    for _, row in table.iterrows():
        share = row["kept"]
        only_trusting = len(behind(points, row)) == 1
        if only_trusting and labels is not None and pd.notna(share):
            share = max(share, kept(labels))
        found = level_of(share, undefended_share) if pd.notna(row["gain"]) else ""
        levels.append(found)
        answers.append(_answer(row, found, undefended_share) if found else "")
    return table.assign(level=levels, answer=answers)


def _answer(row: pd.Series, level: str, undefended_share: float) -> Answer:
    """Whether one defense should be deployed."""
    if pd.isna(row["gain_low"]):
        return "cannot tell"
    if row["proven"] and level in GOOD:
        return "yes"
    measured = level_of(row["kept"], undefended_share)
    if row["proven"]:
        return "cannot tell" if measured in GOOD else "no"
    if row["best_thief"] != AS_IS and measured not in GOOD:
        return "no"  # because of another thief, so more seeds of the thief who trusts the answers change nothing
    at_most = level_of(kept(row, row["adversary_error"] - row["gain"] + row["gain_high"]), undefended_share)
    return "cannot tell" if row["gain_high"] > 0 and at_most in GOOD else "no"


def _about(row: pd.Series, table: pd.DataFrame, points: pd.DataFrame, start: list[str]) -> Verdict:
    """The recommendation that follows from one row of the table."""
    name, gain = name_of(row), difference(row, undefended(points).iloc[0])
    why = [
        *start,
        f"With {name}, the clone of {THIEVES[AS_IS]} has an error of {error_of(row)}: {in_words(gain)}.",
        *_best_thief_sentence(row, points),
    ]
    refuted = table[(table["answer"] == "no") & (table["gain"] > row["gain"])]
    why += [
        f"{name_of(other)} adds {other['gain']:+.1f} points, but {thief(best)} keeps {percent(kept(best))} despite it."
        for _, other in refuted.iterrows()
        for best in [least_error(behind(points, other))]
    ]
    if row["answer"] == "yes":
        why += _price_sentences(row, table)
        headline = f"Yes: deploy {name_of(row, whole=True)}. It {row['level']} this thief."
        return Verdict(
            "yes", headline, tuple(why), _not_stopped(row, points), row["level"], table, row, defense_of(row)
        )
    if row["answer"] == "no":
        why.append(_why_too_little(row))
        headline = "No: no measured defense slows this thief enough."
        return Verdict("no", headline, tuple(why), (), row["level"], table)
    top_1 = [] if row["level"] in GOOD else [TO_MEASURE]
    if not row["proven"]:
        return _too_few_seeds(int(row["pairs"]), table, (*why, *top_1))
    headline = f"Cannot tell: {name} was measured only against a thief who trusts the answers."
    return Verdict("cannot tell", headline, (*why, *top_1), (), "", table)


def _why_too_little(row: pd.Series) -> str:
    if row["kept"] >= OWNED:
        return (
            f"A thief who keeps at least {percent(OWNED)} of the model has it, so this defense is not recommended."
        )
    if row["level"] in GOOD:
        return "The gain may be due to chance, and even the upper end of its interval would not slow this thief."
    extent = "little less than" if row["level"] == "barely matters" else "about as much as"
    return f"With this defense, the thief keeps {extent} without it."


def _unreliable(what: str, marked: pd.DataFrame, table: pd.DataFrame) -> Verdict:
    """No recommendation, because the needed points are marked as unreliable. Their rows say why."""
    reasons = tuple(f"Marked as unreliable: {reason}." for reason in marked["reason"].dropna().unique())
    return Verdict("cannot tell", f"Cannot tell: {what}.", reasons, (), "", table)


def _too_few_seeds(seeds: int, table: pd.DataFrame, why: tuple[str, ...]) -> Verdict:
    """No recommendation: with `seeds` common seeds of runs with and without a defense, the gain is not significant."""
    headlines = {0: "the runs with and without a defense share no seed", 1: "one seed is not enough"}
    what = (
        "The gain of the best of several points may be due to chance (95 % confidence, Holm's correction): run more "
        "seeds in Attack lab."
        if seeds > 1
        else "The effect of the defenses cannot be separated from chance: run the same attacks with two more seeds in "
        "Attack lab."
    )
    headline = f"Cannot tell: {headlines.get(seeds, f'{seeds} seeds are too few')}."
    return Verdict("cannot tell", headline, (*why, what), (), "", table)


def _labels_alone(points: pd.DataFrame) -> Verdict:
    """The recommendation if customers need only the label: send only the label, even if this slows the thief little."""
    labels, bare = label_only(points), undefended(points).iloc[0]
    why = ["A thief cannot use probabilities that are not sent, and customers do not need them."]
    level: Level | Literal[""] = ""
    if labels is None:
        why.append(
            f"With all probabilities, the clone has an error of {error_of(bare)}. Its error with labels only is not "
            "measured in this case. Measure it in Attack lab: What the thief does, top-1, against No defense."
        )
    else:
        level = level_of(kept(labels), kept(least_error(points[points["defense"] == "none"])))
        why.append(
            f"With all probabilities, the clone has an error of {error_of(bare)}, with labels only of {error_of(labels)}: "
            f"{in_words(difference(labels, bare))}."
        )
    not_stopped = (
        "A thief who learns from the labels: with more queries, the clone gets better.",
        "A defense that perturbs probabilities adds nothing to an API that sends none.",
    )
    return Verdict(
        "yes", "Yes: send only the label.", tuple(why), not_stopped, level, points[:0], None, LabelOnly()
    )


def _labels_sentence(points: pd.DataFrame) -> list[str]:
    labels = label_only(points)
    if labels is None:
        return []
    return [
        f"With labels only (the top class of each answer, no defense), the clone has an error of {error_of(labels)}: "
        f"it keeps {percent(kept(labels))}."
    ]


def _best_thief_sentence(row: pd.Series, points: pd.DataFrame) -> list[str]:
    """What the best measured thief keeps at a point, and which thieves were not measured there."""
    if len(behind(points, row)) == 1:
        assumed = label_only(points) is not None
        more = (
            " The level also considers the thief who uses labels only: a defense that does not change the top class "
            "cannot stop this thief."
        )
        return [f"It keeps {percent(row['kept'])}. No other thief was measured against it.{more * assumed}"]
    best = least_error(behind(points, row))
    return [
        f"The best thief measured against it is {thief(best)}: an error of {error_of(best)}, keeping {percent(row['kept'])}."
    ]


def _price_sentences(row: pd.Series, table: pd.DataFrame) -> list[str]:
    """The cost of the recommended point, and the defenses with a gain that is not significantly smaller."""
    where = (("l1_queries", "the thief's queries"), ("l1", "customers' answers"))
    moved = " and ".join(f"{row[column]:.2f} on {words}" for column, words in where if pd.notna(row[column]))
    lines = [f"Your own error rises by {row['increase']:.2f} points; answers change by a mean l1 of {moved}."]
    others = table[table["gain"].notna() & (table["defense"] != row["defense"])]
    similar = [name_of(other) for _, other in others.iterrows() if not difference(row, other).low > 0]
    if similar:
        lines.append(
            f"Its gain is not significantly larger than that of {', '.join(similar)}: compare their costs."
        )
    return lines


def _not_stopped(row: pd.Series, points: pd.DataFrame) -> tuple[str, ...]:
    there = behind(points, row)
    lines = [
        f"{thief(other).capitalize()}: an error of {error_of(other)} with this defense, keeping {percent(kept(other))}."
        for _, other in there[there["thief"] != AS_IS].iterrows()
    ]
    if not lines:
        others = points[(points["thief"] != AS_IS) & (points["defense"] != "none")]
        elsewhere = "; ".join(
            f"with {name_of(other)}, {thief(other)} has an error of {error_of(other)}"
            for _, other in others.iterrows()
        )
        measured = f" Measured at other points: {elsewhere}." if elsewhere else ""
        lines.append(
            "Unknown: a thief who keeps only the top class of each answer, or who knows the defense and inverts it. "
            f"Such thieves were not measured at this point.{measured}"
        )
    lines.append(
        f"A thief with more queries: this one had {int(row['budget']):,}. With any defense, also limit queries, watch "
        "accounts and set terms of use."
    )
    return tuple(lines)


def in_words(gain: Interval) -> str:
    """A gain with its interval as a text: "+5.7 points (95 % interval over 3 paired seeds: +1.0 to +10.4)"."""
    if pd.isna(gain.low):
        return f"{gain.mean:+.1f} points"
    return f"{gain.mean:+.1f} points (95 % interval over {gain.pairs} paired seeds: {gain.low:+.1f} to {gain.high:+.1f})"


def thief(point: pd.Series) -> str:
    """Description of the thief of a point, such as "the thief who trusts the answers"."""
    return THIEVES.get(point["thief"], f"the thief '{point['thief']}'")


def error_of(point: pd.Series) -> str:
    """A thief's error as a text, with its standard deviation over seeds if it is known: "40.0 ± 2.0 %"."""
    spread = f" ± {point[STD]:.1f}" if pd.notna(point[STD]) else ""
    return f"{point['adversary_error']:.1f}{spread} %"


def percent(share: float) -> str:
    """A share (0 to 1) as a text, in whole percent: "62 %"."""
    return f"{100 * share:.0f} %"


def defense_of(point: pd.Series) -> Defense:
    """The defense of a measured point.

    Raises:
        ValueError: if the defense does not have the point's parameters.
    """
    return make_defense(point["defense"], **json.loads(point["parameters"]))


def name_of(point: pd.Series, *, whole: bool = False) -> str:
    """The defense of a point with its strength: "DCP β = 0.9", or with its title if `whole`: "Deception (DCP), β = 0.9"."""
    name = str(point["defense"])
    if name not in DEFENSES:
        return name
    kind = DEFENSES[name]
    title = kind.title if whole else kind.short
    if kind.strength is None or pd.isna(point["strength"]):
        return title
    return f"{title}{',' if whole else ''} {kind.parameters()[kind.strength].symbol} = {point['strength']:g}"
