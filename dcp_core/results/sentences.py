"""The sentences with which `verdict.py` gives its reasons: about thieves, clones, gains and costs. All are plain text."""

import pandas as pd

from dcp_core.attacks.adaptive import OWN, SHADOWS, WIDE, thief_name
from dcp_core.defenses import DEFENSES
from dcp_core.results.constraints import STD
from dcp_core.results.decision import AS_IS, behind, kept, label_only, least_error
from dcp_core.results.pairing import Interval, difference

THIEVES = {
    AS_IS: "the thief who trusts the answers",
    "top-1": "the thief who uses only the top class of each answer",
    "average": "the thief who sends each picture several times and averages the answers",
    "average (augmented)": "the thief who sends changed copies of each picture and averages the answers",
    **{
        thief_name(treatment, prior): f"the thief who knows the defense and inverts it ({words}{start})"
        for treatment, words in (("bayes", "partial Bayes"), ("inverse", "learned inverse"), ("ddae", "D-DAE"))
        for prior, start in ((WIDE, ""), (OWN, " with the own clone"), (SHADOWS, " with shadow models"))
    },
}


def labels_sentence(points: pd.DataFrame) -> list[str]:
    """The clone's error behind an API that sends only labels, as a sentence; empty if it was not measured."""
    labels = label_only(points)
    if labels is None:
        return []
    return [
        f"With labels only (the top class of each answer, no defense), the clone has an error of {error_of(labels)}: "
        f"it keeps {percent(kept(labels))}."
    ]


def best_thief_sentence(row: pd.Series, points: pd.DataFrame) -> list[str]:
    """A sentence: the share of the model that the best thief keeps at a point, and which thieves were not measured."""
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


def trade_sentence(row: pd.Series, undefended: float, share: float) -> str:
    """A sentence: the effect of a defense on the best measured thief, and its costs for the owner.

    Args:
        row: a row of `decision.operating_points`.
        undefended, share: what the thief keeps of the model without the defense and behind it, 0 to 1.
    """
    more = f"{row['increase']:.1f} more of 100 of your own answers are wrong"
    wrong = "your own error stays the same" if round(row["increase"], 1) <= 0 else more
    moved = (
        ""
        if pd.isna(row["l1"])
        else f", and the probabilities that customers get move by {row['l1']:.2f} (mean l1, 0 to 2)"
    )
    return (
        f"Without a defense, the best measured thief keeps {percent(undefended)} of your model; behind {name_of(row)}, "
        f"{percent(share)}. In exchange, {wrong}{moved}."
    )


def price_sentences(row: pd.Series, table: pd.DataFrame) -> list[str]:
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


def not_stopped(row: pd.Series, points: pd.DataFrame) -> tuple[str, ...]:
    """Thieves that the defense of a point does not stop: measured ones with their error, and ones that were not measured."""
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
            "Unknown: a thief who uses only the top class of each answer, or who knows the defense and inverts it. "
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
