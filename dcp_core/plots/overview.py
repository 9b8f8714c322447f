"""The first pictures of the home page: the victim's accuracy beside its clones', and how the clones reach it."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import CLEAN, DEFENDED, HIGHLIGHT, SIZE, layout
from dcp_core.results import overview

COLORS = {overview.VICTIM: CLEAN, overview.CLONE: HIGHLIGHT, overview.DEFENDED: DEFENDED, overview.LABELS: CLEAN}
DASHES = {overview.LABELS: "dash", overview.DEFENDED: "solid", overview.CLONE: "solid"}
FREE = "rgba(0,0,0,0)"  # no background
FRAMES, FRAME_MS = 60, 60  # number of frames of the replay, and duration of each in milliseconds


def accuracy_bars(table: pd.DataFrame) -> go.Figure:
    """One bar for the victim and one for each clone, with its accuracy; clones from labels only are a dashed line.

    Args:
        table: accuracies, from `results.overview.accuracies`.
    """
    bars = table[table["who"] != overview.LABELS]
    figure = layout(
        x="correct answers on the test set (%)",
        y="",
        height=250,
        xaxis={"range": [0, 109], "tickvals": [0, 25, 50, 75, 100], "tickfont": {"size": 14}},
        yaxis={"autorange": "reversed", "automargin": True, "tickfont": {"size": 16}},
        margin={"l": 10, "r": 10, "t": 30, "b": 48},
        bargap=0.3,
    )
    for labels in table.loc[table["who"] == overview.LABELS, "accuracy"]:
        span = {"x0": labels, "x1": labels, "yref": "paper", "y0": 0, "y1": 1}
        figure["shapes"] = [{"type": "line", **span, "line": {"dash": "dash", "color": CLEAN, "width": 2}}]
        note = {"x": labels, "y": 1, "yref": "paper", "yanchor": "bottom", "xanchor": "right", "showarrow": False}
        figure["annotations"] = [{**note, "text": f"labels only: {labels:.0f} %", "font": {"size": 14}}]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": bars["accuracy"],
        "y": bars["who"],
        "marker": {"color": [COLORS[who] for who in bars["who"]]},
        "text": [f"{accuracy:.0f} %" for accuracy in bars["accuracy"]],
        "textposition": "outside",
        "textfont": {"size": 16},
        "cliponaxis": False,
        "hovertemplate": "%{y}: %{x:.2f} %<extra></extra>",
    }
    return go.Figure([trace], figure)


def describe_accuracies(table: pd.DataFrame) -> str:
    """Alt text of `accuracy_bars`: one sentence with all its numbers."""
    return "Correct answers: " + ", ".join(f"{row.who} {row.accuracy:.1f} %" for row in table.itertuples()) + "."


def learning_curves(table: pd.DataFrame, victim: float) -> go.Figure:
    """The clones' accuracies against the number of queries, with a button that replays them from the first query on.

    Args:
        table: learning curves, from `results.overview.learning`, with at least two numbers of queries.
        victim: accuracy of the victim in percent, drawn as a dotted line.
    """
    first, last = int(table["queries"].min()), int(table["queries"].max())
    ends = {"x0": first, "x1": last * 1.08, "y0": victim, "y1": victim}
    figure = layout(
        x="queries (log scale)",
        y="correct answers (%)",
        height=350,
        xaxis={
            "type": "log",
            "range": np.log10([first * 0.93, last * 1.08]),
            "tickvals": sorted(set(table["queries"])),
            "tickformat": ",d",
        },
        yaxis={"range": [max(0, table["accuracy"].min() - 8), 103]},
        margin={"l": 58, "r": 28, "t": 48, "b": 52},  # room for half of the last number below the axis
        legend={"x": 1, "xanchor": "right", "y": 0, "yanchor": "bottom", "bgcolor": FREE, "font": SIZE},
        shapes=[{"type": "line", **ends, "line": {"dash": "dot", "color": CLEAN, "width": 2}}],
        annotations=[
            {
                "x": np.log10(first), "y": victim, "text": f"{overview.VICTIM}: {victim:.0f} %", "font": {"size": 14},
                "xanchor": "left", "yanchor": "bottom", "showarrow": False,
            }
        ],
        updatemenus=[_player()],
    )  # fmt: skip
    curves = dict(list(table.groupby("who", sort=False)))
    steps = np.geomspace(first, last, FRAMES)
    frames = [go.Frame(data=[_until(curve, queries) for curve in curves.values()]) for queries in steps]
    return go.Figure([_curve(str(who), curve) for who, curve in curves.items()], figure, frames)


def describe_learning(table: pd.DataFrame, victim: float) -> str:
    """Alt text of `learning_curves`: the first and the last point of each curve."""
    said = [
        f"{who} from {curve['accuracy'].iloc[0]:.0f} % after {curve['queries'].iloc[0]:,} queries to "
        f"{curve['accuracy'].iloc[-1]:.0f} % after {curve['queries'].iloc[-1]:,}"
        for who, curve in table.groupby("who", sort=False)
    ]
    return f"Correct answers: {overview.VICTIM} {victim:.0f} %; {'; '.join(said)}."


def _curve(who: str, curve: pd.DataFrame) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": who,
        "x": curve["queries"],
        "y": curve["accuracy"],
        "line": {"color": COLORS[who], "width": 3, "dash": DASHES[who]},
        "marker": {"size": 8},
        "customdata": curve["std"],
        "hovertemplate": "%{x:,} queries: %{y:.1f} %, standard deviation %{customdata:.1f}<extra>%{fullData.name}</extra>",
    }


def _until(curve: pd.DataFrame, queries: float) -> dict[str, Any]:
    """A curve up to a number of queries; its end lies on the line between two measured points."""
    x, y = curve["queries"].to_numpy(float), curve["accuracy"].to_numpy(float)
    end = min(max(queries, x[0]), x[-1])
    before = x <= end
    height = np.interp(np.log(end), np.log(x), y)
    return {"type": "scatter", "x": [*x[before], end], "y": [*y[before], height]}


def _player() -> dict[str, Any]:
    """Buttons that start and stop the replay."""
    motion = {"frame": {"duration": FRAME_MS, "redraw": False}, "transition": {"duration": 0}}
    play = {"label": "▶ replay the theft", "method": "animate", "args": [None, {**motion, "fromcurrent": False}]}
    stop = {"frame": {"duration": 0, "redraw": False}, "mode": "immediate"}
    pause = {"label": "❚❚ pause", "method": "animate", "args": [[None], stop]}
    place = {
        "x": 0,
        "xanchor": "left",
        "y": 1.02,
        "yanchor": "bottom",
        "direction": "right",
        "pad": {"t": 0, "r": 0},
    }
    return {
        "type": "buttons",
        "showactive": False,
        "bgcolor": "rgba(138,143,152,0.15)",
        "buttons": [play, pause],
        **place,
    }
