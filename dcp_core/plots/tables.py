"""Figures of the paper's Tables II and III. The paper's values have open marks, measured values filled ones."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import CLEAN, SIZE, below, faint, in_order, layout, mark_of
from dcp_core.plots.thief import THIEF

ADDED = "thief's error above the undefended (points)"
TABLE2 = {ADDED: "what the defense adds", THIEF: "the thief's error, as printed"}
"""Quantities that `table2_bars` can show -> their names on pages."""
ERROR_BARS = {
    ADDED: "95 % interval of the differences, paired by seed",
    THIEF: "one standard deviation over the seeds",
}
TABLE3_COSTS = {"latency": "latency relative to no defense", "energy": "energy relative to no defense"}
"""Quantities that `cost_dots` can show -> titles of the axis."""
INCREASES = {1.0: "#86bbe6", 2.0: "#3f8dce", 5.0: "#2763a8"}  # darker for a larger allowed increase
GREY = "#8a8f98"  # visible on light and dark backgrounds
OTHER_INCREASE = "#c9862b"  # for increases that the user has entered
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "hexagon", "cross")


def table2_bars(cells: pd.DataFrame, what: str = THIEF, within: str = "") -> go.Figure:
    """Table II for one victim: the largest thief error of each defense, for each allowed increase of the owner's error.

    Args:
        cells: source, defense, max_defender_increase (percentage points), adversary_error (percent or NaN), as the
            paper's rows have them; ours from `table2`, with the strength that attains it and the deviation over seeds.
        what: kind of the numbers: `THIEF`, or `ADDED` for those of `constraints.added`, which have intervals.
        within: the l1 constraint of our cells in words, written below the axis.
    """
    unit = "points" if what == ADDED else "%"
    traces: list[dict[str, Any]] = []
    for (increase, source), group in cells.groupby(["max_defender_increase", "source"]):
        color = INCREASES.get(increase, OTHER_INCREASE)
        open_bar = {"color": faint(color, 0.12), "line": {"color": color, "width": 2}}
        at = group["strength"] if "strength" in group else pd.Series(float("nan"), group.index)
        traces.append(
            {
                "type": "bar",
                "x": [mark_of(name).label for name in group["defense"]],
                "y": group["adversary_error"],
                "name": f"≤ +{increase:g}, {source}",
                "marker": open_bar if source == "paper" else {"color": color},
                "error_y": _scatter_of(group),
                "customdata": [f", at strength {value:g}" if pd.notna(value) else "" for value in at],
                "hovertemplate": f"%{{x}}: thief %{{y:.2f}} {unit}, owner at most +{increase:g}%{{customdata}}"
                f"<extra>{source}</extra>",
            }
        )
    order = [mark_of(name).label for name in in_order(cells["defense"])]
    axis = {"categoryorder": "array", "categoryarray": order, "automargin": True}  # vertical for long names
    title = below("defense", f"ours: {within}" if within else "")
    return go.Figure(traces, layout(x=title, y=what, xaxis=axis, barmode="group"))


def _scatter_of(group: pd.DataFrame) -> dict[str, Any]:
    """Error bars: the interval `low` to `high` of what a defense adds; else one standard deviation over seeds."""
    drawn = {"thickness": 1, "width": 3, "color": GREY}
    if "low" in group and group["low"].notna().any():
        value = group["adversary_error"]
        return {"array": group["high"] - value, "arrayminus": value - group["low"], **drawn}
    if "adversary_error_std" in group and group["adversary_error_std"].notna().any():
        return {"array": group["adversary_error_std"], **drawn}
    return {"visible": False}


def describe_table2(cells: pd.DataFrame, what: str = THIEF) -> str:
    """Alt text of `table2_bars`: one sentence with its conclusion."""
    unit = "points" if what == ADDED else "%"
    parts = []
    for (source, increase), group in cells.dropna(subset=["adversary_error"]).groupby(
        ["source", "max_defender_increase"]
    ):
        best = group.loc[group["adversary_error"].idxmax()]
        parts.append(
            f"{mark_of(best['defense']).label} with {best['adversary_error']:.1f} {unit} at +{increase:g} ({source})"
        )
    largest = "Most added to the thief's error" if what == ADDED else "Largest thief error"
    return f"{largest} by allowed increase of the owner's: {'; '.join(parts) or 'none known yet'}."


def table2_gaps(cells: pd.DataFrame) -> str:
    """Why bars are missing, such as "MAD at +1 (every point has a mean l1 of at least 1.20)"; empty if none is missing."""
    gaps = cells[cells["adversary_error"].isna()].groupby(["defense", "reason"], sort=False)[
        "max_defender_increase"
    ]
    return "; ".join(
        f"{mark_of(defense).label} at {', '.join(f'+{increase:g}' for increase in increases)} ({reason})"
        for (defense, reason), increases in gaps
    )


def table2_grid(cells: pd.DataFrame, columns: Mapping[str, str]) -> go.Figure:
    """Table II as one grid: our number above the paper's in each cell, and their difference as colour.

    Args:
        cells: as `constraints.beside_paper` gives them.
        columns: title of each data set's columns, in their order. It says where the queries come from.
    """
    cells = cells[cells["dataset"].isin(list(columns))]
    order = in_order(cells["defense"])
    at = {
        "x": [
            [columns[name] for name in cells["dataset"]],
            [f"≤ +{increase:g}" for increase in cells["max_defender_increase"]],
        ],
        "y": [mark_of(name).label for name in cells["defense"]],
    }
    numbers = zip(cells["measured"], cells["paper"], strict=True)
    texts = [f"<b>{_number(ours)}</b><br>{_number(paper)}" for ours, paper in numbers]
    limit = max(5.0, float(cells["difference"].abs().max()))
    colors = [(0, "rgba(47,143,216,0.6)"), (0.5, "rgba(138,143,152,0.1)"), (1, "rgba(225,84,43,0.6)")]
    bar = {"title": {"text": "ours − paper<br>(points)", "font": SIZE}, "tickfont": SIZE, "thickness": 14}
    color = {"colorscale": colors, "zmin": -limit, "zmax": limit, "colorbar": bar}
    heat = {"type": "heatmap", **at, "z": cells["difference"], "xgap": 2, "ygap": 2, "hoverinfo": "skip", **color}
    # The texts are a trace of their own, because a heat map shows no text in cells without a difference.
    hover = "%{y}, %{x}<br>ours and the paper's: %{text}<extra></extra>"
    text = {"type": "scatter", **at, "mode": "text", "text": texts, "textfont": SIZE, "hovertemplate": hover}
    place = layout(
        x="victim's data ← queries; allowed increase of the owner's error (points)",
        y="",
        height=140 + 52 * len(order),
        yaxis={"categoryorder": "array", "categoryarray": [mark_of(name).label for name in order][::-1]},
        margin={"l": 110, "r": 10, "t": 12, "b": 96},
    )
    return go.Figure([heat, text], place)


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.1f}"


def describe_table2_grid(cells: pd.DataFrame) -> str:
    """Alt text of `table2_grid`: one sentence with its conclusion."""
    known = cells.dropna(subset=["difference"])
    if known.empty:
        return "Table II of the paper; nothing is measured yet that can be compared with it."
    far = known.loc[known["difference"].abs().idxmax()]
    return (
        f"Table II, measured and published: {len(known)} of {len(cells)} cells are measured. The largest difference is "
        f"{far['difference']:+.1f} points, {mark_of(far['defense']).label} on {far['dataset']}."
    )


def cost_dots(rows: pd.DataFrame, quantity: str = "latency") -> go.Figure:
    """Table III: one cost of each defense on a logarithmic axis, with a marker for each data set. The paper's are open.

    Args:
        rows: as `results.table3.ratios` gives them.
        quantity: a key of `TABLE3_COSTS`.
    """
    known = rows.dropna(subset=[quantity])
    symbols = dict(zip(known["dataset"].unique(), SYMBOLS * 9, strict=False))
    traces = [
        {
            "type": "scatter",
            "x": group[quantity],
            "y": [mark_of(name).label for name in group["defense"]],
            "mode": "markers",
            "name": f"{dataset}, {source}",
            "marker": {
                "symbol": symbols[dataset] + ("-open" if source == "paper" else ""),
                "size": 10,
                "color": [mark_of(name).color for name in group["defense"]],
                "line": {"width": 2 if source == "paper" else 0},
            },
            "customdata": group[["hardware"]],
            "hovertemplate": "%{y}: %{x:.4g} times<br>%{customdata[0]}<extra>" + f"{dataset}, {source}</extra>",
        }
        for (dataset, source), group in known.groupby(["dataset", "source"], sort=False)
    ]
    order = [mark_of(name).label for name in in_order(known["defense"])]
    place = layout(
        x=f"{TABLE3_COSTS[quantity]}, log",
        y="defense",
        xaxis={"type": "log", "dtick": 1},
        yaxis={"categoryorder": "array", "categoryarray": order[::-1]},
        margin={"l": 100, "r": 10, "t": 36, "b": 52},  # names of defenses instead of numbers
    )
    figure = go.Figure(traces, place)
    figure.add_vline(1.0, line={"dash": "dot", "width": 1.5, "color": CLEAN})
    return figure


def describe_cost(rows: pd.DataFrame, quantity: str = "latency") -> str:
    """Alt text of `cost_dots`: one sentence with its conclusion."""
    parts = []
    for source, group in rows.dropna(subset=[quantity]).groupby("source"):
        mean = group.groupby("defense")[quantity].mean().sort_values()
        cheap, dear = mark_of(mean.index[0]).label, mark_of(mean.index[-1]).label
        parts.append(
            f"{source}: {cheap} cheapest ({mean.iloc[0]:.3g}), {dear} most expensive ({mean.iloc[-1]:.3g})"
        )
    return f"Mean over the data sets of {TABLE3_COSTS[quantity]}; {'; '.join(parts) or 'none known yet'}."
