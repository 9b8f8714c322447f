"""Figures of one answer: clean and defended posteriors, and the functions of Eq. 4 to 7."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dcp_core.plots.style import CLEAN, DEFENDED, HIGHLIGHT, mark_of, polish


def answer_bars(
    classes: Sequence[str], clean: np.ndarray, defended: np.ndarray | None = None, top: int = 10
) -> go.Figure:
    """Bars of clean and defended posteriors (K,), for the `top` classes with the largest values. ★ marks the top class."""
    after = clean if defended is None else defended
    table = answer_table(classes, clean, after, top).iloc[::-1]
    figure = go.Figure()
    kinds = [("clean", CLEAN, "", clean.argmax())]
    if defended is not None:  # drawn first, because bars stack upwards
        kinds.insert(0, ("defended", DEFENDED, "/", defended.argmax()))
    for name, color, pattern, winner in kinds:
        stars = ["★ " if index == winner else "" for index in table["index"]]
        figure.add_bar(
            y=table["class"],
            x=table[name],
            orientation="h",
            name=name,
            marker={"color": color, "pattern": {"shape": pattern, "solidity": 0.7, "size": 5}},
            text=[f"{star}{value:.3f}" for star, value in zip(stars, table[name], strict=True)],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.6f}<extra>" + name + "</extra>",
        )
    figure.update_layout(barmode="group", legend_traceorder="reversed", bargap=0.25)
    polish(figure, x="posterior (probability)", y="", height=max(300, 90 + 34 * len(table)))
    figure.update_layout(margin_r=64)  # for the number beside the longest bar, also on a phone
    return figure.update_xaxes(range=[0, 1.02 * float(max(clean.max(), after.max()))])


def answer_table(classes: Sequence[str], clean: np.ndarray, defended: np.ndarray, top: int) -> pd.DataFrame:
    """The rows of `answer_bars` (columns index, class, clean, defended), largest clean posterior first."""
    table = pd.DataFrame(
        {"index": range(len(classes)), "class": list(classes), "clean": clean, "defended": defended}
    )
    order = np.argsort(-np.maximum(clean, defended), kind="stable")[:top]
    return table.iloc[order].sort_values("clean", ascending=False, kind="stable")


def describe_answer(classes: Sequence[str], clean: np.ndarray, defended: np.ndarray) -> str:
    """Alt text of `answer_bars`: one sentence with its conclusion."""
    before, after = int(clean.argmax()), int(defended.argmax())
    kept = "still" if before == after else "now"
    return (
        f"Clean, the victim answers {classes[before]} with {clean[before]:.3f}; defended, {kept} {classes[after]} "
        f"with {defended[after]:.3f}; the l1 distance is {np.abs(defended - clean).sum():.3f}."
    )


def function_plot(
    curve: pd.DataFrame,
    points: pd.DataFrame,
    *,
    x: str,
    y: str,
    labels: Sequence[str] = (),
    limit: float | None = None,
) -> go.Figure:
    """A curve with points on it.

    Args:
        curve: points of the function, columns x and y.
        points: values of this answer, columns x and y.
        x, y: axis titles.
        labels: hover text of the points.
        limit: position of a vertical line, the threshold τ.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=curve["x"],
        y=curve["y"],
        mode="lines",
        line={"color": CLEAN, "width": 2},
        name="function",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=points["x"],
        y=points["y"],
        mode="markers",
        marker={"color": DEFENDED, "size": 9, "line": {"width": 1, "color": "white"}},
        name="this answer",
        text=list(labels) or None,
        hovertemplate="%{text}<br>%{x:.4f} → %{y:.4f}<extra></extra>"
        if labels
        else "%{x:.4f} → %{y:.4f}<extra></extra>",
    )
    if limit is not None:
        figure.add_vline(x=limit, line={"dash": "dot", "color": HIGHLIGHT}, annotation_text=f"τ = {limit:g}")
    return polish(figure, x=x, y=y, height=300).update_layout(showlegend=False)


def class_map(classes: Sequence[str], clean: np.ndarray, defended: np.ndarray) -> go.Figure:
    """Defended against clean posterior (K,) of every class, on logarithmic axes, with the line of unchanged values."""
    floor = 1e-6
    figure = go.Figure()
    figure.add_scatter(
        x=[floor, 1],
        y=[floor, 1],
        mode="lines",
        line={"dash": "dot", "color": CLEAN},
        name="unchanged",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=clean.clip(floor),
        y=defended.clip(floor),
        mode="markers",
        marker={"color": DEFENDED, "size": 9, "line": {"width": 1, "color": "white"}},
        text=list(classes),
        name="classes",
        customdata=np.stack([clean, defended], 1),
        hovertemplate="%{text}<br>%{customdata[0]:.3g} → %{customdata[1]:.3g}<extra></extra>",
    )
    polish(figure, x="clean posterior y (log scale)", y="defended posterior y′ (log scale)", height=300)
    ticks = {"type": "log", "tickvals": [1e-6, 1e-4, 1e-2, 1], "ticktext": ["≤1e-6", "1e-4", "0.01", "1"]}
    return figure.update_xaxes(ticks).update_yaxes(ticks).update_layout(showlegend=False)


def class_values(classes: Sequence[str], values: np.ndarray, unit: str, top: int = 10) -> go.Figure:
    """Bars of the `top` classes with the largest absolute values (K,), sorted by value. `unit` is the axis title."""
    chosen = np.argsort(-np.abs(values), kind="stable")[:top]
    chosen = chosen[np.argsort(values[chosen], kind="stable")]
    figure = go.Figure(
        go.Bar(
            y=[classes[k] for k in chosen],
            x=values[chosen],
            orientation="h",
            marker_color=HIGHLIGHT,
            hovertemplate="%{y}: %{x:.5g}<extra></extra>",
        )
    )
    return polish(figure, x=unit, y="", height=300)


def all_defenses(classes: Sequence[str], answers: pd.DataFrame, top: int = 6) -> go.Figure:
    """Small multiples: bars of the posterior for each defense, with the same classes and scale in each.

    Args:
        answers: one row for each defense: `defense` (short name), `posterior` (K,), `l1`, `milliseconds` (NaN if unknown).
        top: number of classes to show.
    """
    strongest = np.max(np.stack(answers["posterior"].tolist()), axis=0)
    chosen = np.argsort(-strongest, kind="stable")[:top]
    names = [classes[k] for k in chosen]
    titles = [
        f"{mark_of(row.defense).label}<br><sup>l1 {row.l1:.2f}{_duration(row.milliseconds)}</sup>"
        for row in answers.itertuples()
    ]
    columns = min(4, len(answers))
    rows = -(-len(answers) // columns)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=titles,
        shared_yaxes=True,
        horizontal_spacing=0.02,
        vertical_spacing=0.3 / rows,
    )
    for index, row in enumerate(answers.itertuples()):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        values = np.asarray(row.posterior)[chosen]
        winner = int(np.asarray(row.posterior).argmax())
        figure.add_bar(
            y=names[::-1],
            x=values[::-1],
            orientation="h",
            marker_color=mark_of(row.defense).color,
            text=["★" if k == winner else "" for k in chosen[::-1]],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.5f}<extra>" + mark_of(row.defense).label + "</extra>",
            **place,
        )
    figure.update_xaxes(range=[0, 1.1])
    return figure.update_layout(
        showlegend=False, height=90 + 230 * rows, margin={"l": 10, "r": 10, "t": 60, "b": 10}
    ).update_yaxes(automargin=True)


def _duration(milliseconds: float) -> str:
    return "" if np.isnan(milliseconds) else f" · {milliseconds:.2f} ms"
