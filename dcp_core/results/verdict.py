"""Recommend a defense from measured points: yes, no or cannot tell, with reasons and with what the defense will not stop.

The page Decide and the command `decide` print these sentences. A defense is recommended only if its gain is statistically
significant (`decision.operating_points`) and if the best measured thief keeps clearly less of the model.
"""

import json
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from dcp_core.defenses import Defense, LabelOnly, make_defense
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
from dcp_core.results.pairing import difference
from dcp_core.results.sentences import (
    THIEVES,
    best_thief_sentence,
    error_of,
    in_words,
    labels_sentence,
    name_of,
    not_stopped,
    percent,
    price_sentences,
    thief,
    trade_sentence,
)

Answer = Literal["yes", "no", "cannot tell"]
Level = Literal["stops", "slows", "barely matters", "no effect"]

FAILED = 0.2  # a clone that keeps at most this share of the model is useless
OWNED = 0.9  # a thief who keeps at least this share has the model
SLOWED, NOTICED = 0.75, 0.95  # largest shares for "slows" and "barely matters", of what the undefended thief keeps
SCALE: dict[Level, str] = {
    "stops": "the best measured thief keeps at most 20 % of the model, and the condition of 'slows' holds",
    "slows": "the best measured thief keeps at most 75 % of what a thief keeps without the defense",
    "barely matters": "the thief keeps 75 to 95 % of what a thief keeps without the defense",
    "no effect": "the thief keeps more than 95 % of that, or at least 90 % of the model",
}
"""The meaning of each level, see `level_of`."""
GOOD: tuple[Level, ...] = ("stops", "slows")
KEPT = (
    "Kept of the model: the clone's accuracy above guessing, as a share of the victim's accuracy above guessing."
)
TO_MEASURE = (
    "Next, measure a thief who uses only the top class of the answers: on page Attack lab, set 'Use of the answers' to "
    "top-1."
)


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
    """`decision.operating_points` with the columns `share` (of the model, which the level is about), `level` and `answer`;
    empty if the answer does not use it."""
    point: pd.Series | None = None
    """The recommended row of the table."""
    defense: Defense | None = None
    """The recommended defense."""
    about: pd.Series | None = None
    """The row that the answer is about: the recommended one, or else the best candidate."""
    summary: str = ""
    """One sentence: what the thief keeps without a defense and behind the row `about`, and what that costs the owner."""
    undefended: float | None = None
    """Share of the model that the best measured thief keeps without a defense, 0 to 1; None if unknown."""


def level_of(share: float, undefended_share: float) -> Level:
    """The level of a defense.

    Args:
        share: share of the model that the best thief keeps with the defense, 0 to 1.
        undefended_share: share that the best thief keeps without a defense.
    """
    if share >= OWNED or share > NOTICED * undefended_share:
        return "no effect"
    if share > SLOWED * undefended_share:
        return "barely matters"
    return "stops" if share <= FAILED else "slows"


def zones(undefended_share: float) -> list[tuple[Level, float, float]]:
    """The levels as ranges (level, low, high) of the share that the best thief keeps with the defense, for `level_of`.

    A level that no share can have is left out.
    """
    nothing = min(OWNED, NOTICED * undefended_share)
    little = min(SLOWED * undefended_share, nothing)
    ranges: list[tuple[Level, float, float]] = [
        ("stops", 0.0, min(FAILED, little)),
        ("slows", min(FAILED, little), little),
        ("barely matters", little, nothing),
        ("no effect", nothing, max(1.0, undefended_share)),
    ]
    return [(level, low, high) for level, low, high in ranges if high > low]


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
        *labels_sentence(points),
    ]
    table = _judged(operating_points(case, needs), points, share)
    if share <= FAILED:
        start.append(
            f"A clone that keeps at most {percent(FAILED)} is useless; there is nothing to defend against."
        )
        return Verdict(
            "no", "No: this thief fails without a defense.", tuple(start), (), "", table, undefended=share
        )
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
            verdict = _about(rows.iloc[0], table, points, start)
            summary = trade_sentence(rows.iloc[0], share, rows.iloc[0]["share"])
            return replace(verdict, about=rows.iloc[0], undefended=share, summary=summary)
    raise AssertionError("a row has one of three answers")


def _judged(table: pd.DataFrame, points: pd.DataFrame, undefended_share: float) -> pd.DataFrame:
    """Add the share on which the level is based, the level and the answer of each defense that has a point.

    If a point was measured only against the thief who trusts the answers, the level assumes that a thief who uses only
    the top class does as well as with undefended labels, if that was measured. A defense that does not change the top class
    cannot prevent this.
    """
    labels = label_only(points)
    shares, levels, answers = [], [], []
    for _, row in table.iterrows():
        share = row["kept"]
        only_trusting = len(behind(points, row)) == 1
        if only_trusting and labels is not None and pd.notna(share):
            share = max(share, kept(labels))
        found = level_of(share, undefended_share) if pd.notna(row["gain"]) else ""
        shares.append(share)
        levels.append(found)
        answers.append(_answer(row, found, undefended_share) if found else "")
    return table.assign(share=shares, level=levels, answer=answers)


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
        *best_thief_sentence(row, points),
    ]
    refuted = table[(table["answer"] == "no") & (table["gain"] > row["gain"])]
    why += [
        f"{name_of(other)} adds {other['gain']:+.1f} points, but {thief(best)} keeps {percent(kept(best))} despite it."
        for _, other in refuted.iterrows()
        for best in [least_error(behind(points, other))]
    ]
    if row["answer"] == "yes":
        why += price_sentences(row, table)
        headline = f"Yes: deploy {name_of(row, whole=True)}. It {row['level']} this thief."
        return Verdict(
            "yes", headline, tuple(why), not_stopped(row, points), row["level"], table, row, defense_of(row)
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
            f"A thief who keeps at least {percent(OWNED)} of the model has in effect stolen it, so this defense is not "
            "recommended."
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
    headlines = {0: "the runs with and without a defense share no seed", 1: "one run of each attack is not enough"}
    what = (
        "The gain of the best of several points may be due to chance (95 % confidence, Holm's correction): run more "
        "seeds in Attack lab."
        if seeds > 1
        else "The effect of the defenses cannot be separated from chance: run the same attacks with two more seeds in "
        "Attack lab."
    )
    headline = f"Cannot tell: {headlines.get(seeds, f'{seeds} runs of each attack are too few')}."
    return Verdict("cannot tell", headline, (*why, what), (), "", table)


def _labels_alone(points: pd.DataFrame) -> Verdict:
    """The recommendation if customers need only the label: send only the label, even if this slows the thief little."""
    labels, bare = label_only(points), undefended(points).iloc[0]
    share = kept(least_error(points[points["defense"] == "none"]))
    why = ["A thief cannot use probabilities that are not sent, and customers do not need them."]
    level: Level | Literal[""] = ""
    if labels is None:
        why.append(
            f"With all probabilities, the clone has an error of {error_of(bare)}. Its error with labels only is not "
            "measured in this case. To measure it, use page Attack lab: no defense, and 'Use of the answers' set to top-1."
        )
    else:
        level = level_of(kept(labels), share)
        why.append(
            f"With all probabilities, the clone has an error of {error_of(bare)}, with labels only of {error_of(labels)}: "
            f"{in_words(difference(labels, bare))}."
        )
    not_stopped = (
        "A thief who learns from the labels: with more queries, the clone gets better.",
        "A defense that perturbs probabilities adds nothing to an API that sends none.",
    )
    return Verdict(
        "yes",
        "Yes: send only the label.",
        tuple(why),
        not_stopped,
        level,
        points[:0],
        None,
        LabelOnly(),
        undefended=share,
    )


def defense_of(point: pd.Series) -> Defense:
    """The defense of a measured point.

    Raises:
        ValueError: if the defense does not have the point's parameters.
    """
    return make_defense(point["defense"], **json.loads(point["parameters"]))
