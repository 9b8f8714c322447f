"""What each defense costs, measured here beside the paper's figures, on a logarithmic axis."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import CLEAN, MARKS, layout, mark_of

AXES = {
    "latency": "latency of a query, × no defense",
    "energy": "energy of a query, × no defense",
    "latency_ms": "latency of a query (ms)",
}
INTERVALS = {"latency": ("latency_low", "latency_high"), "latency_ms": ("latency_low_ms", "latency_high_ms")}
SYMBOLS = {"measured": "circle", "measured, as published": "diamond-wide", "paper": "circle-open"}


def costs(cells: pd.DataFrame, quantity: str = "latency") -> go.Figure:
    """A cost of each defense: filled marks with their 95 % intervals are measured, open ones the paper's.

    Args:
        cells: as `evaluation.table3.table3` gives them.
        quantity: a key of `AXES`.
    """
    known = cells.dropna(subset=[quantity])
    traces: list[dict[str, Any]] = []
    for who, group in known.groupby("who", sort=False):
        trace: dict[str, Any] = {
            "type": "scatter",
            "x": group[quantity],
            "y": [mark_of(name).label for name in group["defense"]],
            "mode": "markers",
            "name": str(who),
            "marker": {
                "symbol": SYMBOLS[str(who)],
                "size": 11,
                "color": [mark_of(name).color for name in group["defense"]],
                "line": {"width": 2 if who == "paper" else 0},
            },
            "customdata": group[["hardware"]],
            "hovertemplate": "%{y}: %{x:.4g}<br>%{customdata[0]}<extra>" + str(who) + "</extra>",
        }
        if quantity in INTERVALS and who != "paper":
            low, high = (group[name] for name in INTERVALS[quantity])
            trace["error_x"] = {
                "array": high - group[quantity],
                "arrayminus": group[quantity] - low,
                "width": 4,
                "color": CLEAN,
            }
        traces.append(trace)
    order = [MARKS[name].label for name in MARKS if (known["defense"] == name).any()]
    axes: dict[str, Any] = {
        "xaxis": {"type": "log", "dtick": 1},
        "yaxis": {"categoryorder": "array", "categoryarray": order[::-1], "automargin": True},
    }
    figure = go.Figure(traces, layout(x=f"{AXES[quantity]}, logarithmic", y="", **axes))
    if quantity in ("latency", "energy"):
        figure.add_vline(1.0, line={"dash": "dot", "width": 1.5, "color": CLEAN})
    return figure


def describe_costs(cells: pd.DataFrame, quantity: str = "latency") -> str:
    """One sentence for who cannot see `costs`."""
    parts = []
    for who, group in cells.dropna(subset=[quantity]).groupby("who", sort=False):
        ordered = group[group["defense"] != "none"].sort_values(quantity)
        if len(ordered):
            words = ", ".join(
                f"{mark_of(row.defense).label} {getattr(row, quantity):.3g}" for row in ordered.itertuples()
            )
            parts.append(f"{who}: {words}")
    return f"{AXES[quantity][0].upper()}{AXES[quantity][1:]}: {'; '.join(parts) or 'nothing known yet'}."
