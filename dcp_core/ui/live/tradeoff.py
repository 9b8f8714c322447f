"""Live pictures of a trade-off: points that slide along measured curves while the strength is dragged."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dcp_core.defenses import Defense
from dcp_core.evaluation.sentences import about_tradeoff
from dcp_core.plots.curves import CURVES, STRENGTH
from dcp_core.plots.style import CLEAN, mark_of
from dcp_core.results.overview import CLONE, LABELS, VICTIM, least_behind
from dcp_core.ui.live.panels import Line, Quantity, axis, gauge, plot, sentence, tile, tiles

DASHES = {
    "solid": "none",
    "dash": "8 5",
    "dot": "2 4",
    "dashdot": "8 4 2 4",
    "longdash": "12 6",
    "longdashdot": "12 4 2 4",
}
TRUSTING = "thief who trusts the answers"
Sliders = dict[str, tuple[float, Sequence[float]]]


def strength_slider(defense: Defense, strengths: Sequence[float], prefix: str) -> Sliders:
    """The slider of a defense's strength, with the strengths at which something was measured."""
    now = float(getattr(defense, defense.strength or ""))
    return {f"{prefix}{defense.name}_{defense.strength}": (now, list(map(float, strengths)))}


def cost_panels(
    defense: Defense, curve: pd.DataFrame, undefended: float, case: pd.DataFrame, slider: str
) -> list[dict]:
    """Panels with the costs of a defense: a sentence, and numbers.

    Args:
        curve: the trade-off curve of the defense, with its present strength.
        undefended: the owner's error without a defense, percent.
        case: measured thieves of the victim, as of `overview.strongest_case`; may be empty.
        slider: key of the strength's slider.
    """
    strength = defense.strength or ""
    rows = curve.to_dict("records")

    def sentence_at(row: Mapping[Any, Any]) -> str:
        clone = least_behind(case, type(defense)(**defense.values() | {strength: _like(defense, row["strength"])}))
        return about_tradeoff(defense, row, undefended, clone)

    def column(name: str) -> Quantity:
        return Quantity(_now(defense, curve)[name], {slider: curve[name].tolist()})

    now = _now(defense, curve)
    return [
        sentence(sentence_at(now), {slider: [sentence_at(row) for row in rows]}),
        gauge("mean l1", column("l1"), 2, "How far answers are moved on average: Σ|y′ − y| (Eq. 2)."),
        tiles(
            tile(
                "Owner's error",
                column("defender_error"),
                note=f"undefended {undefended:.2f} %",
                digits=2,
                unit=" %",
            ),
            tile("Answers changed", column("touched"), note="of all test pictures", digits=1, unit=" %"),
            tile("Top classes changed", column("changed"), note="of all test pictures", digits=2, unit=" %"),
            tile("Calibration error", column("ece"), note="percentage points (ECE)", digits=1),
        ),
    ]


def curve_panel(defense: Defense, curves: pd.DataFrame, x: str, y: str, slider: str, alt: str) -> dict[str, Any]:
    """Trade-off curves of several defenses with 95 % bands, and the chosen one's point."""
    lines = []
    for name, curve in curves.groupby("defense", sort=False):
        mark = mark_of(str(name))
        band = (curve[f"{y}_low"], curve[f"{y}_high"]) if f"{y}_low" in curve else None
        lines.append(Line(curve[x], curve[y], mark.color, mark.label, DASHES.get(mark.dash, "none"), band=band))
    own = curves[curves["defense"] == defense.name]
    now = _now(defense, own)
    rows = [[[row[x]], [row[y]]] for row in own.to_dict("records")]
    point = Quantity([[now[x]], [now[y]]], {slider: rows})
    title = STRENGTH if x == "strength" else CURVES[x]
    ends = [curves[column] for column in (y, f"{y}_low", f"{y}_high") if column in curves]
    low, high = min(each.min() for each in ends), max(1e-3, *(each.max() for each in ends))
    low = 0.0 if low < high / 2 else low
    up, across = axis(CURVES[y], low, high, 5), axis(title, 0.0, float(curves[x].max()))
    return plot(across, up, lines, point, alt=alt, radius=7)


def thief_panel(
    defense: Defense,
    measured: Mapping[Defense, pd.DataFrame],
    best: pd.DataFrame,
    errors: Mapping[str, float],
    slider: str,
    alt: str,
) -> dict[str, Any]:
    """The error of a clone against the mean l1 distance, along the measured strengths of several defenses: of the thief who
    trusts the answers, and behind the chosen defense also of the best one.

    Args:
        measured: points by defense, of `overview.along`; those of the chosen one are not empty.
        best: points of `overview.best_along` for the chosen defense. If its errors are the same, it is not drawn.
        errors: errors in percent by name, from `overview.levels`.
    """
    own, mark = measured[defense], mark_of(defense.name)
    known = not np.array_equal(own["adversary_error"], best["adversary_error"])
    words = {VICTIM: ("your model", "none", "end"), CLONE: ("clone, undefended", "2 4", "end")}
    words[LABELS] = ("clone from labels only", "8 5", "start")
    everything = pd.concat(measured.values())
    right = max(float(everything["l1"].max()), 1e-3)
    lines = [
        Line([0, right], [error, error], CLEAN, words[who][0], words[who][1], words[who][2])
        for who, error in errors.items()
    ]
    for each, points in measured.items():
        drawn = mark_of(each.name)
        name = f"{drawn.label}, {TRUSTING}" if known and each == defense else drawn.label
        dash = DASHES.get(drawn.dash, "none")
        lines.append(Line(points["l1"], points["adversary_error"], drawn.color, name, dash))
    if known:
        lines.append(Line(best["l1"], best["adversary_error"], mark.color, f"{mark.label}, best thief", "4 3"))
    thieves = [own, best] if known else [own]
    rows = zip(*(each[["l1", "adversary_error"]].to_numpy() for each in thieves), strict=True)
    strength = float(getattr(defense, defense.strength or ""))
    points_now = np.transpose([_between(each, strength) for each in thieves])
    point = Quantity(points_now, {slider: [np.transpose(row) for row in rows]})
    errors_shown = [*everything["adversary_error"], *best["adversary_error"], *errors.values()]
    low, high = min(errors_shown), max(errors_shown)
    up = axis("clone's test error (%)", 0.0 if low < high / 2 else low, min(100.0, high * 1.1), 5)
    return plot(axis("mean l1 distance of the owner's answers", 0.0, right), up, lines, point, alt=alt, radius=7)


def _between(points: pd.DataFrame, strength: float) -> list[float]:
    """The place on the line between two measured points that belongs to a strength."""
    return [float(np.interp(strength, points["strength"], points[column])) for column in ("l1", "adversary_error")]


def _now(defense: Defense, curve: pd.DataFrame) -> dict[Any, Any]:
    """The row of a curve at the defense's own strength."""
    own = curve[curve["strength"] == float(getattr(defense, defense.strength or ""))]
    return own.iloc[0].to_dict()


def _like(defense: Defense, value: float) -> float:
    """A strength as a whole number where the defense's is one."""
    return int(value) if isinstance(getattr(defense, defense.strength or ""), int) else value
