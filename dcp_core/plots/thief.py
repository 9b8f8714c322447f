"""The thief's error against the cost of the defense for the owner: measured points, and the bounds of the paper.

Points are result rows (`dcp_core/results/schema.py`). Measured points are filled, those of the paper are open.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import CLEAN, in_order, layout, mark_of
from dcp_core.results.constraints import L1_LIMITS

THIEF = "thief's test error (%)"
THIEF_AXES: dict[str, str] = {
    "increase": "rise of the owner's error (percentage points)",
    "defender_error": "owner's test error (%)",
    "l1": f"mean {L1_LIMITS['l1']}",
    "l1_queries": f"mean {L1_LIMITS['l1_queries']}",
    "budget": "query budget",
}
VERSIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "ptq": ("-dot", {"width": 2, "color": "#14161a"}),  # a dot and an edge in another colour
    "qat": ("-open-dot", {"width": 2}),
}
"""Marks for eight-bit victims: the suffix of the marker's symbol, and the width of its edge."""
NEAR = 0.06  # share of the plot's height below which the names of two lines would overlap
ARROW = "triangle-right"  # mark of a point that lies further right than the plot
SERIES = ("attack", "queries_from", "dataset", "victim", "precision", "thief", "clone", "budget", "epochs")
SHOWN = ("id", "strength", "max_defender_increase", "max_l1", "runs", "unreliable", "reason")


def thief_scatter(
    rows: pd.DataFrame,
    x: str = "increase",
    *,
    limit: float | None = None,
    y: str = THIEF,
    front: pd.DataFrame | None = None,
    levels: Mapping[str, float] = MappingProxyType({}),
) -> go.Figure:
    """The thief's error against one of `THIEF_AXES`. The higher and the further left a point, the better the defense.

    Measured points are filled and joined by lines in order of strength; if x is "budget", in order of the budget, with a
    line for each strength. Error bars are +- one standard deviation, if `over_seeds` gave one. Points of the paper are
    open. Bounds of its Table II are drawn at their limit and marked "≤": the true point is there or further left.
    Unreliable points are faint. If lines of one defense differ in other columns, their values are written at the end of
    the line. The first value of each point's custom data is its `id`.

    Args:
        rows: result rows, single ones or means by `over_seeds`. Rows without a thief's error or x are left out.
        y: title of the vertical axis: what `adversary_error` is.
        limit: largest x that meets the constraint; the region is shaded.
        front: the Pareto front of the same rows, drawn as steps.
        levels: errors (percent) that do not depend on x, by their names, drawn as horizontal lines.
    """
    points = placed(rows, x)
    if x == "increase" and limit:
        points = _clipped(points, 3 * limit)
    # only columns that vary within one source make separate lines: the paper's conditions always differ from ours
    by_source = points.groupby("source")
    varying = [c for c in SERIES if c in points and c != x and by_source[c].nunique(dropna=False).max() > 1]
    if x == "budget":
        varying.append("strength")
    keys = ["defense", "source", "bound", *varying]
    traces = _legend(points, versions="precision" in varying)
    for key, series in points.groupby(keys, sort=False, dropna=False):
        name, source, bound, *rest = key
        series = series.sort_values("budget" if x == "budget" else "strength")
        known = {column: f"{value}" for column, value in zip(varying, rest, strict=True) if pd.notna(value)}
        traces.append(_series(series, name, source, bound, known))
    if front is not None and not front.empty:
        stairs = placed(front, x).sort_values(["x", "adversary_error"])
        traces.append(
            {
                "type": "scatter",
                "x": stairs["x"],
                "y": stairs["adversary_error"],
                "mode": "lines",
                "name": "Pareto front",
                "line": {"color": CLEAN, "dash": "dot", "shape": "hv", "width": 1.5},
                "hoverinfo": "skip",
            }
        )
    shapes, notes = _level_lines(levels, points["adversary_error"])
    notes += [_note(at, bound_label(x, at)) for at in _apart(points)]
    if limit is not None:
        left = min(points["x"], default=0.0) if x == "defender_error" else min([0.0, *points["x"]])
        shapes.append(_region(left, limit))
        notes.append(_note(left, "allowed") | {"xanchor": "left", "textangle": 0})
    # With "select", Streamlit 1.67 would ignore clicks on points.
    more = {"shapes": shapes, "annotations": notes, "dragmode": "pan"}
    return go.Figure(traces, layout(x=THIEF_AXES[x], y=y, height=460, **more))


def _clipped(points: pd.DataFrame, most: float) -> pd.DataFrame:
    """Points with x at most `most`; those that lie further right are marked `beyond`, and drawn as arrows at the edge."""
    return points.assign(beyond=points["x"] > most, x=points["x"].clip(upper=most))


def _level_lines(
    levels: Mapping[str, float], errors: pd.Series
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Horizontal lines as shapes, and their names as annotations. Names of lines that are close to each other stand below
    each other, above the highest of these lines, in the order of the lines."""
    every = [*errors, *levels.values()]
    near = NEAR * (max(every) - min(every)) if every else 0.0
    shapes: list[dict[str, Any]] = []
    names: list[dict[str, Any]] = []
    for name, at in sorted(levels.items(), key=lambda level: level[1]):
        span = {"xref": "paper", "x0": 0, "x1": 1, "y0": at, "y1": at}
        shapes.append({"type": "line", **span, "line": {"dash": "dash", "color": CLEAN, "width": 1.5}})
        if names and at - names[-1]["y"] < near:
            names[-1] |= {"y": at, "text": f"{name}<br>{names[-1]['text']}"}
        else:
            side = {"xref": "paper", "x": 1, "xanchor": "right", "yanchor": "bottom", "align": "right"}
            names.append({**side, "y": at, "showarrow": False, "text": name})
    return shapes, names


def _series(
    series: pd.DataFrame, name: str, source: str, bound: bool, varying: Mapping[str, str]
) -> dict[str, Any]:
    mark, paper = mark_of(name), source == "paper"
    label = " · ".join([mark.label, *varying.values(), source]) + (", at most" if bound else "")
    apart = [
        value for column, value in varying.items() if column != "precision"
    ]  # the precision has marks of its own
    shown = [
        column for column in SHOWN if column in series
    ]  # few columns, because iterating over a wide table is slow
    change, edge = (
        ("-open", {"width": 2}) if paper else VERSIONS.get(varying.get("precision", ""), ("", {"width": 0}))
    )
    symbol = mark.symbol + change
    trace: dict[str, Any] = {
        "type": "scatter",
        "x": series["x"],
        "y": series["adversary_error"],
        "mode": "markers" if bound or paper else "lines+markers",
        "name": label,
        "legendgroup": name,
        "showlegend": False,
        "line": {"color": mark.color, "dash": mark.dash, "width": 1},
        "marker": {
            "symbol": symbol if "beyond" not in series else np.where(series["beyond"], ARROW, symbol),
            "size": 10,
            "color": mark.color,
            "opacity": np.where(series["unreliable"], 0.35, 1.0),
            "line": edge,
        },
        "customdata": [[row["id"], _conditions(row)] for row in series[shown].to_dict("records")],
        "hovertemplate": ("at most " if bound else "") + "%{x:.3g}; thief %{y:.2f}<br>%{customdata[1]}"
        "<br>%{customdata[0]}<extra>" + label + "</extra>",
    }
    if "adversary_error_std" in series and series["adversary_error_std"].notna().any():
        trace["error_y"] = {"array": series["adversary_error_std"], "visible": True, "thickness": 1}
    if apart and not paper:
        trace["mode"] += "+text"
        trace["text"] = [""] * (len(series) - 1) + [" · ".join(apart)]
        trace["textposition"] = "top center"
    return trace


def _legend(points: pd.DataFrame, *, versions: bool) -> list[dict[str, Any]]:
    """Legend entries without points: one for each defense, one each for filled and open marks, and if they differ, for the
    victim's versions."""
    entries = [(mark_of(name), name, mark_of(name).symbol) for name in in_order(points["defense"])]
    plain = "fp32 victim" if versions else "measured"
    kinds: dict[str, tuple[str, dict[str, Any]]] = {}
    if (points["source"] == "measured").any():
        kinds[plain] = ("", {"width": 0})
    if versions:
        kinds |= {f"{n} victim": VERSIONS[n] for n in VERSIONS if (points["precision"] == n).any()}
    if (points["source"] == "paper").any():
        kinds["paper"] = ("-open", {"width": 2})
    legend = [
        {"name": mark.label, "legendgroup": name, "marker": {"symbol": symbol, "color": mark.color, "size": 10}}
        for mark, name, symbol in entries
    ]
    legend += [
        {
            "name": name,
            "legendgroup": name,
            "marker": {"symbol": f"circle{change}", "color": CLEAN, "size": 10, "line": edge},
        }
        for name, (change, edge) in kinds.items()
    ]
    return [{"type": "scatter", "x": [None], "y": [None], "mode": "markers", **entry} for entry in legend]


def _apart(points: pd.DataFrame) -> list[float]:
    """Positions of the bounds that get a text. One too close to the last is left out: texts would overlap on a phone."""
    least = 0.06 * (points["x"].max() - points["x"].min())
    kept: list[float] = []
    for at in sorted(points.loc[points["bound"], "x"].unique()):
        if not kept or at - kept[-1] >= least:
            kept.append(float(at))
    return kept


def _note(at: float, text: str) -> dict[str, Any]:
    """A vertical text at the top of the plot; vertical so that texts do not overlap on a narrow screen."""
    place = {"x": at, "xanchor": "right", "y": 1, "yref": "paper", "yanchor": "top"}
    return {**place, "showarrow": False, "text": text, "textangle": -90}


def _region(left: float, right: float) -> dict[str, Any]:
    place = {"x0": left, "x1": right, "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    return {"type": "rect", **place, "fillcolor": "#2f8fd8", "opacity": 0.1, "line": {"width": 0}}


def _conditions(row: dict[str, Any]) -> str:
    strength = f"strength {row['strength']:g}" if pd.notna(row["strength"]) else ""
    allowed = f"owner at most +{row['max_defender_increase']:g}, l1 at most {row['max_l1']:g}"
    bound = allowed if pd.notna(row["max_defender_increase"]) else ""
    runs = f"mean of {row['runs']} seeds" if row.get("runs", 1) > 1 else ""
    doubt = f"unreliable: {row['reason']}" if row["unreliable"] else ""
    return "<br>".join(filter(None, (strength, bound, runs, doubt)))


def placed(rows: pd.DataFrame, x: str) -> pd.DataFrame:
    """The rows that `thief_scatter` can draw, with their position `x`; `bound` is true if only a limit of it is known."""
    bound = rows["max_defender_increase"].notna()
    limits = {"increase": "max_defender_increase", "l1": "max_l1", "l1_queries": "max_l1"}
    known = rows["defender_error"] - rows["victim_error"] if x == "increase" else rows[x].astype(float)
    if x in limits:
        known = known.where(~bound, rows[limits[x]])
    bound &= x in limits
    return rows.assign(x=known, bound=bound).dropna(subset=["x", "adversary_error"])


def bound_label(x: str, at: float) -> str:
    """The label of a bound, such as "≤ +1 point (paper)"."""
    if x != "increase":
        return f"≤ {at:g} (paper)"
    return f"≤ +{at:g} point{'s' if at != 1 else ''} (paper)"


def describe_thief_scatter(rows: pd.DataFrame, x: str = "increase", y: str = THIEF) -> str:
    """Alt text of `thief_scatter`: one sentence with its conclusion."""
    points = placed(rows, x)
    parts = []
    for source, group in points[~points["unreliable"]].groupby("source"):
        best = group.loc[group["adversary_error"].idxmax()]
        at = f"at {'most ' if best['bound'] else ''}{best['x']:.3g}"
        parts.append(
            f"of {len(group)} points ({source}) {mark_of(best['defense']).label} is highest, "
            f"{best['adversary_error']:.1f} {'%' if y == THIEF else 'points'} {at}"
        )
    return f"{y} against {THIEF_AXES[x]}: {'; '.join(parts) or 'no reliable point yet'}."
