"""Should a defense be deployed: yes, no or cannot tell, which one, why, and what it will not stop.

The page Decide and the command `decide` print these sentences. A defense is recommended only if the gain is more than
chance (`decision.operating_points`) and the best measured thief loses a good part of the model.
"""

import json
from dataclasses import dataclass
from typing import Literal

import pandas as pd

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

FAILED = 0.2  # a clone that keeps at most this share of the model is of no use
OWNED = 0.9  # a thief who keeps this share or more has the model
SLOWED, NOTICED = 0.75, 0.95  # of what the thief keeps undefended: at most so much for "slows", "barely matters"
SCALE: dict[Level, str] = {
    "stops": "the best measured thief keeps at most 20 % of the model",
    "slows": "at most 75 % of what the thief keeps without the defense",
    "barely matters": "at most 95 % of that",
    "nothing": "more than that, or 90 % of the model and more",
}
"""What each level means; the first that holds, and "nothing" before all others."""
GOOD: tuple[Level, ...] = ("stops", "slows")
KEPT = (
    "Kept of the model: the clone's accuracy above guessing, as a share of the victim's accuracy above guessing."
)
TO_MEASURE = "Measure a thief who keeps the top class at this point: Attack lab, What the thief does, top-1."
THIEVES = {
    AS_IS: "the thief who trusts the answers",
    "top-1": "the thief who keeps only the top class of each answer",
    "average": "the thief who asks repeatedly and averages",
    "recovery (bayes)": "the thief who knows the defense and inverts it (partial Bayes)",
    "recovery (inverse)": "the thief who knows the defense and inverts it (learned inverse)",
}


@dataclass(frozen=True)
class Verdict:
    """An answer with its sentences, in plain text. `level` is that of the recommended defense, else of the one that comes
    nearest; empty if it is not known."""

    answer: Answer
    headline: str
    why: tuple[str, ...]
    not_stopped: tuple[str, ...]
    """What the recommended defense will not stop; empty without one."""
    level: Level | Literal[""]
    table: pd.DataFrame
    """`decision.operating_points` with columns `level` and `answer`; empty where no table is needed."""
    point: pd.Series | None = None
    """The recommended row of the table."""
    defense: Defense | None = None
    """The recommended defense."""


def level_of(share: float, undefended_share: float) -> Level:
    """The level of a defense behind which the best thief keeps `share` of the model, and without it `undefended_share`."""
    if share >= OWNED or share > NOTICED * undefended_share:
        return "nothing"
    if share > SLOWED * undefended_share:
        return "barely matters"
    return "stops" if share <= FAILED else "slows"


def decide(case: pd.DataFrame, needs: Needs) -> Verdict:
    """The verdict on the measured points of a case (of `decision.measured_cases`) under an owner's needs."""
    points = trusted(case)
    if undefended(points).empty:
        return _unreliable("the undefended thief was not measured reliably", undefended(case), case[:0])
    if needs.label_only:
        return _labels_alone(points)
    best = least_error(points[points["defense"] == "none"])
    share = kept(best)
    start = [
        f"Undefended, the clone of {thief(best)} errs in {error_of(best)}: it keeps {percent(share)} of the model.",
        *_labels_sentence(points),
    ]
    table = _judged(operating_points(case, needs), points, share)
    if share <= FAILED:
        start.append(
            f"A clone that keeps at most {percent(FAILED)} has failed; there is nothing to defend against."
        )
        return Verdict("no", "No: this thief fails without a defense.", tuple(start), (), "", table)
    if table.empty:
        return _unreliable("no defense was measured reliably", case[case["defense"] != "none"], table)
    known = table[table["gain"].notna()]
    if len(known) and known["gain_low"].isna().all():
        return _too_few_seeds(int(known["pairs"].max()), table, tuple(start))
    if known.empty:
        start.append("Every measured defense misses a limit.")
        return Verdict("no", "No: nothing measured is within your limits.", tuple(start), (), "", table)
    for answer in ("yes", "cannot tell", "no"):
        rows = known[known["answer"] == answer]
        if len(rows):
            return _about(rows.iloc[0], table, points, start)
    raise AssertionError("a row has one of three answers")


def _judged(table: pd.DataFrame, points: pd.DataFrame, undefended_share: float) -> pd.DataFrame:
    """The table with the level and the answer of each defense that has a point.

    Where a point was measured only against the thief who trusts the answers, one who keeps the top class is taken to do as
    well as from undefended labels, if that was measured: a defense that keeps the top class cannot prevent it.
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
        return "no"  # more seeds of the thief who trusts the answers would not change it
    at_most = level_of(kept(row, row["adversary_error"] - row["gain"] + row["gain_high"]), undefended_share)
    return "cannot tell" if row["gain_high"] > 0 and at_most in GOOD else "no"


def _about(row: pd.Series, table: pd.DataFrame, points: pd.DataFrame, start: list[str]) -> Verdict:
    """The verdict that rests on one row of the table."""
    name, gain = name_of(row), difference(row, undefended(points).iloc[0])
    why = [
        *start,
        f"Behind {name} the clone of {THIEVES[AS_IS]} errs in {error_of(row)}: {in_words(gain)}.",
        *_best_thief_sentence(row, points),
    ]
    refuted = table[(table["answer"] == "no") & (table["gain"] > row["gain"])]
    why += [
        f"{name_of(other)} adds {other['gain']:+.1f} points, but {thief(best)} keeps {percent(kept(best))} behind it."
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
        headline = "No: no measured defense takes enough from this thief."
        return Verdict("no", headline, tuple(why), (), row["level"], table)
    top_1 = [] if row["level"] in GOOD else [TO_MEASURE]
    if not row["proven"]:
        return _too_few_seeds(int(row["pairs"]), table, (*why, *top_1))
    headline = f"Cannot tell: {name} was measured only against a thief who trusts the answers."
    return Verdict("cannot tell", headline, (*why, *top_1), (), "", table)


def _why_too_little(row: pd.Series) -> str:
    if row["kept"] >= OWNED:
        return f"A thief who keeps {percent(OWNED)} of the model or more has it: no defense that leaves this is recommended."
    if row["level"] in GOOD:
        return "The gain may be chance, and even the upper end of its interval would not slow this thief."
    matters = "barely matters" if row["level"] == "barely matters" else "changes nothing that counts"
    return f"Beside what the thief keeps without it, this defense {matters}."


def _unreliable(what: str, marked: pd.DataFrame, table: pd.DataFrame) -> Verdict:
    """No verdict: the points that it would rest on are marked as unreliable; their rows say why."""
    reasons = tuple(f"Marked as unreliable: {reason}." for reason in marked["reason"].dropna().unique())
    return Verdict("cannot tell", f"Cannot tell: {what}.", reasons, (), "", table)


def _too_few_seeds(seeds: int, table: pd.DataFrame, why: tuple[str, ...]) -> Verdict:
    """No verdict: `seeds` that runs with and without a defense have in common do not tell a gain from chance."""
    headlines = {0: "the runs with and without a defense share no seed", 1: "one seed is not enough"}
    what = (
        "The best of several points may gain that much by chance (95 % confidence, Holm's correction): run more seeds."
        if seeds > 1
        else "Nothing tells what the defenses do here from chance: run the same thieves with two more seeds in Attack lab."
    )
    headline = f"Cannot tell: {headlines.get(seeds, f'{seeds} seeds are too few')}."
    return Verdict("cannot tell", headline, (*why, what), (), "", table)


def _labels_alone(points: pd.DataFrame) -> Verdict:
    """Customers need the label alone: then nothing else should be sent, whatever it takes from the thief."""
    labels, bare = label_only(points), undefended(points).iloc[0]
    why = ["What is not sent cannot leak, and customers lose nothing."]
    level: Level | Literal[""] = ""
    if labels is None:
        why.append(
            f"From all probabilities the clone errs in {error_of(bare)}. What labels alone leave is not measured in this "
            "case: Attack lab, What the thief does, top-1 against No defense measures it."
        )
    else:
        level = level_of(kept(labels), kept(least_error(points[points["defense"] == "none"])))
        why.append(
            f"From all probabilities the clone errs in {error_of(bare)}, from labels alone in {error_of(labels)}: "
            f"{in_words(difference(labels, bare))}."
        )
    not_stopped = (
        "The labels themselves: with more queries a thief learns from them too.",
        "A defense that perturbs probabilities adds nothing to an API that sends none.",
    )
    return Verdict(
        "yes", "Yes: send the label alone.", tuple(why), not_stopped, level, points[:0], None, LabelOnly()
    )


def _labels_sentence(points: pd.DataFrame) -> list[str]:
    labels = label_only(points)
    if labels is None:
        return []
    return [
        f"Labels alone (the top class of each answer, no defense) leave the clone at {error_of(labels)}: "
        f"it keeps {percent(kept(labels))}."
    ]


def _best_thief_sentence(row: pd.Series, points: pd.DataFrame) -> list[str]:
    """What the best measured thief keeps behind a point, and who was not measured there."""
    if len(behind(points, row)) == 1:
        assumed = label_only(points) is not None
        more = " The level counts what labels alone leave: a defense that keeps the top class leaves it too."
        return [f"It keeps {percent(row['kept'])}. No other thief was measured at this point.{more * assumed}"]
    best = least_error(behind(points, row))
    return [f"The best thief measured there is {thief(best)}: {error_of(best)}, it keeps {percent(row['kept'])}."]


def _price_sentences(row: pd.Series, table: pd.DataFrame) -> list[str]:
    """What the recommended point costs, and which others the seeds cannot tell from it."""
    where = (("l1_queries", "the thief's queries"), ("l1", "customers' answers"))
    moved = " and ".join(f"{row[column]:.2f} on {words}" for column, words in where if pd.notna(row[column]))
    lines = [f"Your own error rises by {row['increase']:.2f} points; answers move by a mean l1 of {moved}."]
    others = table[table["gain"].notna() & (table["defense"] != row["defense"])]
    alike = [name_of(other) for _, other in others.iterrows() if not difference(row, other).low > 0]
    if alike:
        lines.append(f"The seeds do not tell its gain from that of {', '.join(alike)}: let the costs decide.")
    return lines


def _not_stopped(row: pd.Series, points: pd.DataFrame) -> tuple[str, ...]:
    there = behind(points, row)
    lines = [
        f"{thief(other).capitalize()}: {error_of(other)} behind this defense, it keeps {percent(kept(other))}."
        for _, other in there[there["thief"] != AS_IS].iterrows()
    ]
    if not lines:
        others = points[(points["thief"] != AS_IS) & (points["defense"] != "none")]
        elsewhere = "; ".join(
            f"behind {name_of(other)} {thief(other)} errs in {error_of(other)}" for _, other in others.iterrows()
        )
        lines.append(
            "A thief who keeps the top class of each answer, or knows the defense and inverts it: not measured at this "
            f"point{f', but in this case: {elsewhere}' if elsewhere else ', nor in this case'}."
        )
    lines.append(
        f"More queries: this thief had {int(row['budget']):,}. Limits on queries, terms of use and watching accounts belong "
        "beside any defense."
    )
    return tuple(lines)


def in_words(gain: Interval) -> str:
    """A gain with its interval: "+5.7 points (95 % interval over 3 paired seeds: +1.0 to +10.4)"."""
    if pd.isna(gain.low):
        return f"{gain.mean:+.1f} points"
    return f"{gain.mean:+.1f} points (95 % interval over {gain.pairs} paired seeds: {gain.low:+.1f} to {gain.high:+.1f})"


def thief(point: pd.Series) -> str:
    """What the thief of a point does, in words."""
    return THIEVES.get(point["thief"], f"the thief '{point['thief']}'")


def error_of(point: pd.Series) -> str:
    """A thief's error with its standard deviation over seeds where it is known."""
    spread = f" ± {point[STD]:.1f}" if pd.notna(point[STD]) else ""
    return f"{point['adversary_error']:.1f}{spread} %"


def percent(share: float) -> str:
    """A share as whole percents."""
    return f"{100 * share:.0f} %"


def defense_of(point: pd.Series) -> Defense:
    """The defense of a measured point.

    Raises:
        ValueError: for parameters that the defense does not have.
    """
    return make_defense(point["defense"], **json.loads(point["parameters"]))


def name_of(point: pd.Series, *, whole: bool = False) -> str:
    """A point's defense with its strength: "DCP β = 0.9", or with its whole title."""
    name = str(point["defense"])
    if name not in DEFENSES:
        return name
    kind = DEFENSES[name]
    title = kind.title if whole else kind.short
    if kind.strength is None or pd.isna(point["strength"]):
        return title
    return f"{title}{',' if whole else ''} {kind.parameters()[kind.strength].symbol} = {point['strength']:g}"
