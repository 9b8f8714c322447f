"""What each defense adds to the thief's error within the owner's limits."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import CLEAN, below, layout, mark_of

GAIN = "added to the thief's error (percentage points)"


def point_name(defense: str, strength: float) -> str:
    """Name of a measured point: the defense and its strength if it has one, such as "DCP 0.9"."""
    label = mark_of(defense).label
    return f"{label} {strength:g}" if pd.notna(strength) else label


def gains(table: pd.DataFrame, labels: float | None = None, within: str = "") -> go.Figure:
    """What each defense adds to the thief's error, one row a defense: for the thief who trusts the answers, filled, with
    its 95 % interval; for the best measured thief, open, where that is another one.

    Args:
        table: rows of `results.decision.operating_points`; those without a point are left out.
        labels: what an API that sends only labels adds, without a defense; drawn as a line.
        within: the limits in words, written below the axis.
    """
    known = table.dropna(subset=["gain"]).iloc[::-1]  # the largest gain on top
    traces = [trace for row in known.to_dict("records") for trace in _marks(row)]
    shapes, notes = [_line(0)], []
    if labels is not None:
        shapes.append(_line(labels))
        notes.append(
            {
                "x": labels,
                "y": 1,
                "yref": "paper",
                "yanchor": "bottom",
                "showarrow": False,
                "text": "labels only",
            }
        )
    place = layout(
        x=below(GAIN, within.replace(", ", "<br>")),
        y="",
        height=156 + 44 * max(1, len(known)),
        yaxis={"automargin": True, "showgrid": False},
        margin={"l": 10, "r": 20, "t": 26, "b": 84},
        shapes=shapes,
        annotations=notes,
    )
    return go.Figure(traces, place)


def _marks(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The filled mark of a defense with its interval, and the open one of its best measured thief."""
    mark, name = mark_of(row["defense"]), point_name(row["defense"], row["strength"])
    common = {"type": "scatter", "y": [name], "mode": "markers", "showlegend": False}
    trusting = common | {
        "x": [row["gain"]],
        "marker": {"symbol": mark.symbol, "color": mark.color, "size": 13},
        "hovertemplate": f"{name}: %{{x:+.2f}} points; owner +{row['increase']:.2f}, mean l1 {row['l1_queries']:.2f} on "
        f"the thief's queries, {row['l1']:.2f} on customers' answers<extra></extra>",
    }
    if pd.notna(row["gain_low"]):
        up, down = row["gain_high"] - row["gain"], row["gain"] - row["gain_low"]
        bars = {"type": "data", "array": [up], "arrayminus": [down], "color": mark.color, "thickness": 1.5}
        trusting["error_x"] = bars
    if row["best_error"] == row["adversary_error"]:
        return [trusting]
    best = common | {
        "x": [row["gain"] + row["best_error"] - row["adversary_error"]],
        "marker": {"symbol": f"{mark.symbol}-open", "color": mark.color, "size": 13, "line": {"width": 2}},
        "hovertemplate": f"{name}, best measured thief ({row['best_thief']}): %{{x:+.2f}} points<extra></extra>",
    }
    return [trusting, best]


def _line(at: float) -> dict[str, Any]:
    span = {"x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1}
    return {"type": "line", **span, "line": {"color": CLEAN, "dash": "dot"}}


def describe_gains(table: pd.DataFrame, labels: float | None = None) -> str:
    """Alt text of `gains`: one sentence with its numbers."""
    known = table.dropna(subset=["gain"])
    parts = [
        f"{mark_of(row.defense).label} {row.gain:+.1f} ({row.gain_low:+.1f} to {row.gain_high:+.1f})"
        if pd.notna(row.gain_low)
        else f"{mark_of(row.defense).label} {row.gain:+.1f}"
        for row in known.itertuples()
    ]
    if labels is not None:
        parts.append(f"labels only {labels:+.1f}")
    return f"Points added to the thief's error within the limits: {'; '.join(parts) or 'no defense has a point'}."
