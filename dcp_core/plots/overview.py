"""The first picture of the home page: the victim's accuracy beside its clones'."""

import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import CLEAN, DEFENDED, HIGHLIGHT, layout
from dcp_core.results import overview

COLORS = {overview.VICTIM: CLEAN, overview.CLONE: HIGHLIGHT, overview.DEFENDED: DEFENDED}


def accuracy_bars(table: pd.DataFrame) -> go.Figure:
    """One bar for the victim and one for each clone, with its accuracy; clones from labels only are a dashed line.

    Args:
        table: of `results.overview.accuracies`.
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
