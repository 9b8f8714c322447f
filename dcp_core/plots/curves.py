"""Trade-off curves of defenses over a test set, and distributions of the l1 distance.

Curves are tables as `dcp_core.evaluation.curves.tradeoff_curve` returns them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import Mark, faint, layout, mark_of, vertical_line

CURVES = {
    "defender_error": "owner's test error (%)",
    "l1": "mean l1 distance (0 to 2)",
    "touched": "answers changed (%)",
    "changed": "top classes changed (%)",
    "ece": "calibration error, ECE (percentage points)",
    "entropy": "mean entropy (nats)",
}
STRENGTH = "strength (each defense's own parameter)"
POINTS = 201  # points of a distribution; finer than the pixels of a chart of half the page width


def strength_curves(
    curves: pd.DataFrame, y: str, *, x: str = "strength", current: float | None = None
) -> go.Figure:
    """Curves of several defenses: one of `CURVES` against the strength, or against another of them, with 95 % bands.

    Args:
        curves: trade-off curves of several defenses in one table.
        y, x: columns; x is "strength" or one of `CURVES` ("l1" puts different defenses on one scale).
        current: strength that is marked by a vertical line.
    """
    traces: list[dict[str, Any]] = []
    for name, curve in curves.groupby("defense", sort=False):
        mark = mark_of(str(name))
        curve = curve.sort_values("strength")
        if len(curve) > 1 and f"{y}_low" in curve:
            traces.append(_band(curve, x, y, mark))
        traces.append(
            {
                "type": "scatter",
                "x": curve[x].fillna(0)
                if x == "strength"
                else curve[x],  # defenses without a strength are drawn at 0
                "y": curve[y],
                "mode": "lines+markers",
                "name": mark.label,
                "legendgroup": mark.label,
                "line": {"color": mark.color, "dash": mark.dash},
                "marker": {"symbol": mark.symbol, "size": 8, "color": mark.color},
                "customdata": curve[["strength"]],
                "hovertemplate": "strength %{customdata[0]:g}<br>%{y:.3f}<extra>" + mark.label + "</extra>",
            }
        )
    own = f"strength of {traces[-1]['name']}" if len(curves["defense"].unique()) == 1 else STRENGTH
    title = own if x == "strength" else CURVES[x]
    line = {} if current is None else vertical_line(current, f"now {current:g}")
    return go.Figure(traces, layout(x=title, y=CURVES[y], **line))


def _band(curve: pd.DataFrame, x: str, y: str, mark: Mark) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [*curve[x], *curve[x][::-1]],
        "y": [*curve[f"{y}_high"], *curve[f"{y}_low"][::-1]],
        "fill": "toself",
        "fillcolor": faint(mark.color, 0.18),
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "legendgroup": mark.label,
        "showlegend": False,
        "name": f"{mark.label}, 95 % band",
    }


def describe_strength_curves(curves: pd.DataFrame, y: str) -> str:
    """Alt text of `strength_curves`: one sentence with its conclusion."""
    parts = [
        f"{mark_of(str(name)).label} from {curve[y].iloc[0]:.2f} to {curve[y].iloc[-1]:.2f}"
        for name, curve in curves.sort_values("strength").groupby("defense", sort=False)
    ]
    return f"From the weakest to the strongest setting, {CURVES[y]}: {'; '.join(parts)}."


def l1_distribution(l1: Mapping[str, np.ndarray], touched: float = 1e-3) -> go.Figure:
    """Cumulative distribution of the l1 distance: percentage of answers with an l1 of at most x, with the mean marked.

    Most answers are either unchanged or changed much. The step at 0 is the share of unchanged answers. If the mark of the
    mean is on a flat part of the curve, no answer has an l1 near the mean.

    Args:
        l1: l1 distances (N,) for each defense, by its name.
        touched: largest l1 at which an answer counts as unchanged (`dcp_core.evaluation.metrics.TOUCHED`).
    """
    traces: list[dict[str, Any]] = []
    top = max([1e-3, *(float(values.max()) for values in l1.values() if len(values))])
    grid = np.linspace(0, top, POINTS)
    for name, values in l1.items():
        mark, mean = mark_of(name), float(values.mean())
        ordered = np.sort(np.where(values <= touched, 0, values))
        share = np.searchsorted(ordered, grid, side="right") / len(ordered) * 100
        traces.append(
            {
                "type": "scatter",
                "x": np.r_[0, grid],
                "y": np.r_[0, share],
                "mode": "lines",
                "name": f"{mark.label}: {share[0]:.0f} % unchanged, mean {mean:.2f}",
                "legendgroup": name,
                "line": {"color": mark.color, "dash": mark.dash, "shape": "hv"},
                "hovertemplate": "%{y:.1f} % of answers have l1 ≤ %{x:.3f}<extra>" + mark.label + "</extra>",
            }
        )
        traces.append(
            {
                "type": "scatter",
                "x": [mean],
                "y": [np.searchsorted(ordered, mean, side="right") / len(ordered) * 100],
                "mode": "markers",
                "name": f"{mark.label}: mean",
                "legendgroup": name,
                "showlegend": False,
                "marker": {"symbol": mark.symbol, "size": 11, "color": mark.color, "line": {"width": 1.5}},
                "hovertemplate": "mean l1 %{x:.3f}<extra>" + mark.label + "</extra>",
            }
        )
    axes = layout(
        x="l1 distance of an answer (0 to 2)", y="answers with at most this l1 (%)", yaxis={"range": [0, 102]}
    )
    return go.Figure(traces, axes)


def describe_l1_distribution(l1: Mapping[str, np.ndarray], touched: float = 1e-3) -> str:
    """Alt text of `l1_distribution`: one sentence with its conclusion."""
    parts = []
    for name, values in l1.items():
        moved = values[values > touched]
        same = 100 - 100 * len(moved) / len(values)
        rest = f", the others move by {np.median(moved):.2f} in the median" if len(moved) else ""
        parts.append(
            f"{mark_of(name).label} leaves {same:.0f} % of answers unchanged{rest} (mean l1 {values.mean():.2f})"
        )
    return "; ".join(parts) + "."
