"""What each defense adds to the thief's error within the owner's limits."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import CLEAN, below, faint, layout, mark_of

GAIN = "added to the thief's error (percentage points)"


LEVEL_COLORS = {"stops": "#2a9d5c", "slows": "#8ab83e", "barely matters": "#e0a526", "no effect": "#c0504d"}
STAIR = 20  # pixels between the names of two levels


def point_name(defense: str, strength: float) -> str:
    """Name of a measured point: the defense and its strength if it has one, such as "DCP 0.9"."""
    label = mark_of(defense).label
    return f"{label} {strength:g}" if pd.notna(strength) else label


def gains(table: pd.DataFrame, labels: float | None = None, within: str = "") -> go.Figure:
    """What each defense adds to the thief's error, in percentage points, with one row for each defense.

    Filled marks with a 95 % interval are for the thief who trusts the answers (trains on them as they are). Open marks are
    for the best measured thief, if that is another one.

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


def thief_against_owner(
    shares: Sequence[tuple[str, float, str]], zones: Sequence[tuple[str, float, float]]
) -> go.Figure:
    """Bars: the share of the model that each clone keeps, over the ranges of the levels ("stops", "slows", ...).

    Args:
        shares: (name, share of the model from 0 to 1, colour), from top to bottom.
        zones: ranges of the levels, from `results.verdict.zones`: (level, low, high), in rising order.
    """
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for step, (level, low, high) in enumerate(zones):
        band = {
            "type": "rect",
            "x0": 100 * low,
            "x1": 100 * high,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "layer": "below",
        }
        shapes.append({**band, "fillcolor": faint(LEVEL_COLORS[level], 0.22), "line": {"width": 0}})
        late = low > 0.6
        notes.append(
            {
                "x": 100 * (high if late else low),
                "xanchor": "right" if late else "left",
                "y": 1,
                "yref": "paper",
                "yanchor": "bottom",
                "yshift": STAIR * (len(zones) - 1 - step),
                "showarrow": False,
                "text": f"{'' if late else '↓ '}{level}{' ↓' if late else ''}",
            }
        )
    names = [name for name, _, _ in shares]
    over: dict[str, Any] = {"x": 0, "xanchor": "left", "yanchor": "bottom", "yshift": 10, "showarrow": False}
    notes += [{**over, "y": name, "text": f"{name}: <b>{100 * share:.0f} %</b>"} for name, share, _ in shares]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [100 * share for _, share, _ in shares],
        "y": names,
        "width": 0.36,
        "marker": {"color": [color for _, _, color in shares]},
        "hovertemplate": "%{y}: %{x:.0f} %<extra></extra>",
    }
    place = layout(
        x="share of your model that is kept (%)",
        y="",
        height=86 + STAIR * len(zones) + 52 * len(shares),
        xaxis={"range": [0, max(100, *(100 * share for _, share, _ in shares))], "showgrid": False},
        yaxis={"autorange": "reversed", "showticklabels": False},
        margin={"l": 10, "r": 20, "t": STAIR * len(zones) + 8, "b": 56},
        shapes=shapes,
        annotations=notes,
    )
    return go.Figure([bars], place)


def describe_thief_against_owner(shares: Sequence[tuple[str, float, str]], level: str) -> str:
    """Alt text of `thief_against_owner`: one sentence with its numbers."""
    said = "; ".join(f"{name} {100 * share:.0f} %" for name, share, _ in shares)
    return f"Share of the model that is kept: {said}. {f'The defense {level}.' if level else ''}".strip()


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
