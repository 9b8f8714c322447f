"""The live picture of the home page: how well the clone does behind a defense of the chosen strength."""

from typing import Any

import pandas as pd

from dcp_core.plots.overview import COLORS, describe_accuracies
from dcp_core.results import overview
from dcp_core.results.decision import behind, kept, undefended
from dcp_core.results.verdict import FAILED, OWNED
from dcp_core.ui.live.panels import Quantity, levels, sentence, tile, tiles


def hero_panels(case: pd.DataFrame, strengths: list[float], now: int, slider: str) -> list[dict[str, Any]]:
    """Panels: a sentence on the effect of the defense, accuracies of victim and clones as bars, and the owner's costs.

    Args:
        case: measured thieves of the victim, from `overview.strongest_case`.
        strengths: measured strengths, from `overview.strengths`.
        now: index of the chosen strength among them.
        slider: key of a slider over the indices of `strengths`.
    """
    points = [overview.point_at(case, strength) for strength in strengths]
    tables = [overview.accuracies(case, point) for point in points]

    def quantity(rows: list[Any]) -> Quantity:
        return Quantity(rows[now], {slider: rows})

    texts = [behind_words(case, point) for point in points]
    chosen = tables[now]
    return [
        sentence(texts[now], {slider: texts}),
        levels(
            [(who, COLORS[who]) for who in chosen["who"]],
            quantity([table["accuracy"].tolist() for table in tables]),
            alt=describe_accuracies(chosen),
        ),
        tiles(
            tile(
                "Your own error",
                quantity([float(point["defender_error"]) for point in points]),
                note=f"{points[now]['victim_error']:.1f} % without the defense",
                help="Of the defended answers, on the test set.",
                digits=1,
                unit=" %",
            ),
            tile(
                "How far answers move (l1)",
                quantity([float(point["l1"]) for point in points]),
                note="0: same answers, 2: all moved",
                help="How much the defense changes your answers: mean on the test set, from 0 (not at all) to 2.",
                digits=2,
            ),
        ),
    ]


def headline(case: pd.DataFrame) -> str:
    """A sentence: the accuracy of the best clone without a defense, beside the victim's."""
    bare = undefended(case).iloc[0]
    share = kept(bare)
    how_well = "Very well" if share >= OWNED else "In part" if share > FAILED else "Badly"
    return (
        f"{how_well}: after {int(bare['budget']):,} queries, the clone answers {100 - bare['adversary_error']:.0f} of 100 "
        f"pictures correctly, your model {100 - bare['victim_error']:.0f}."
    )


def behind_words(case: pd.DataFrame, point: pd.Series) -> str:
    """A sentence: the accuracy of the clone behind the defense, at the strength of a point."""
    by = overview.accuracies(case, point).set_index("who")["accuracy"]
    whose = (
        "It is the best clone of all thieves that were measured behind it."
        if len(behind(case, point)["thief"].unique()) > 1
        else "Thieves who know the defense were not measured here."
    )
    return (
        f"Behind the defense at β = {point['strength']:g}, the clone answers {by[overview.DEFENDED]:.0f} of 100 pictures "
        f"correctly. {whose}"
    )
