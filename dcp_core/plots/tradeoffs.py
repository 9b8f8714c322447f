"""Figures of a whole test set: curves over strength, the l1 distribution, the thief's error, Tables II and III.

Curves are what `dcp_core.evaluation.curves.tradeoff_curve` returns, points are result rows
(`dcp_core/result_schema.py`). What the paper says is drawn open or hatched, what was measured here filled.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import MARKS, Mark, polish

CURVES = {
    "defender_error": "owner's test error (%)",
    "l1": "mean l1 distance (0 to 2)",
    "touched": "answers touched (%)",
    "changed": "top classes changed (%)",
    "ece": "calibration error, ECE (percentage points)",
    "entropy": "mean entropy (nats)",
}
STRENGTH = "strength (each defense's own parameter)"
THIEF = "thief's test error (%)"
THIEF_AXES = {
    "increase": "owner's error over the undefended victim's (percentage points)",
    "defender_error": "owner's test error (%)",
    "l1": "mean l1 distance, test set (0 to 2)",
    "l1_queries": "mean l1 distance, thief's queries (0 to 2)",
    "budget": "query budget",
}
COSTS = {"latency_ms": "inference latency per query (ms)", "energy_wh": "energy for all queries (Wh)"}
INCREASES = {1.0: "#a6c8e6", 2.0: "#4f8fc4", 5.0: "#1c4f82"}  # light to dark with the allowance
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "hexagon", "cross")
SERIES = ("attack", "queries_from", "dataset", "victim", "precision", "thief", "clone", "budget", "epochs")


def strength_curves(
    curves: pd.DataFrame, y: str, *, x: str = "strength", current: float | None = None
) -> go.Figure:
    """Defenses overlaid: one of `CURVES` over the strength, or over another of them, with its 95 % band.

    Args:
        curves: trade-off curves of several defenses, one below the other.
        y, x: columns; x is "strength" or one of `CURVES` ("l1" puts different defenses on one scale).
        current: strength at which to draw a vertical line.
    """
    figure = go.Figure()
    for name, curve in curves.groupby("defense", sort=False):
        mark = mark_of(str(name))
        curve = curve.sort_values("strength")
        if len(curve) > 1 and f"{y}_low" in curve:
            figure.add_scatter(
                x=[*curve[x], *curve[x][::-1]],
                y=[*curve[f"{y}_high"], *curve[f"{y}_low"][::-1]],
                fill="toself",
                fillcolor=faint(mark.color, 0.18),
                line={"width": 0},
                hoverinfo="skip",
                legendgroup=mark.label,
                showlegend=False,
                name=f"{mark.label}, 95 % band",
            )
        figure.add_scatter(
            x=curve[x].fillna(0) if x == "strength" else curve[x],  # a defense without a strength is drawn at 0
            y=curve[y],
            mode="lines+markers",
            name=mark.label,
            legendgroup=mark.label,
            line={"color": mark.color, "dash": mark.dash},
            marker={"symbol": mark.symbol, "size": 8, "color": mark.color},
            customdata=curve[["strength"]],
            hovertemplate="strength %{customdata[0]:g}<br>%{y:.3f}<extra>" + mark.label + "</extra>",
        )
    if current is not None:
        figure.add_vline(x=current, line={"dash": "dot", "width": 1.5}, annotation_text=f"now {current:g}")
    return polish(figure, x=STRENGTH if x == "strength" else CURVES[x], y=CURVES[y])


def describe_strength_curves(curves: pd.DataFrame, y: str) -> str:
    """One sentence for who cannot see `strength_curves`."""
    parts = [
        f"{mark_of(str(name)).label} from {curve[y].iloc[0]:.2f} to {curve[y].iloc[-1]:.2f}"
        for name, curve in curves.sort_values("strength").groupby("defense", sort=False)
    ]
    return f"From the weakest to the strongest setting, {CURVES[y]}: {'; '.join(parts)}."


def l1_distribution(l1: Mapping[str, np.ndarray], touched: float = 1e-3) -> go.Figure:
    """Share of answers with an l1 of at most x, a step curve a defense, its mean marked.

    Answers are mostly either untouched or moved far, so that few lie near the mean: the step at 0 is the untouched
    share, and where the mean's marker lies on a flat part, no answer is like the mean.

    Args:
        l1: per defense the l1 distances (N,).
        touched: l1 up to which an answer counts as untouched (`dcp_core.evaluation.metrics.TOUCHED`).
    """
    figure = go.Figure()
    top = max([1e-3, *(float(values.max()) for values in l1.values() if len(values))])
    grid = np.linspace(0, top, 401)
    for name, values in l1.items():
        mark, mean = mark_of(name), float(values.mean())
        ordered = np.sort(np.where(values <= touched, 0, values))

        def share(at: np.ndarray | float, ordered: np.ndarray = ordered) -> np.ndarray:
            return np.searchsorted(ordered, at, side="right") / len(ordered) * 100

        figure.add_scatter(
            x=[0, *grid],
            y=[0, *share(grid)],
            mode="lines",
            name=f"{mark.label}: {share(0):.0f} % untouched",
            legendgroup=name,
            line={"color": mark.color, "dash": mark.dash, "shape": "hv"},
            hovertemplate="%{y:.1f} % of answers have l1 ≤ %{x:.3f}<extra>" + mark.label + "</extra>",
        )
        figure.add_scatter(
            x=[mean],
            y=[share(mean)],
            mode="markers",
            name=f"{mark.label}: mean {mean:.2f}",
            legendgroup=name,
            marker={"symbol": mark.symbol, "size": 11, "color": mark.color, "line": {"width": 1.5}},
            hovertemplate="mean l1 %{x:.3f}<extra>" + mark.label + "</extra>",
        )
    polish(figure, x="l1 distance of an answer (0 to 2)", y="answers with at most this l1 (%)")
    return figure.update_yaxes(range=[0, 102])


def describe_l1_distribution(l1: Mapping[str, np.ndarray], touched: float = 1e-3) -> str:
    """One sentence for who cannot see `l1_distribution`."""
    parts = []
    for name, values in l1.items():
        moved = values[values > touched]
        same = 100 - 100 * len(moved) / len(values)
        rest = f", the others move by {np.median(moved):.2f} in the median" if len(moved) else ""
        parts.append(
            f"{mark_of(name).label} leaves {same:.0f} % of answers untouched{rest} (mean l1 {values.mean():.2f})"
        )
    return "; ".join(parts) + "."


def thief_scatter(
    rows: pd.DataFrame, x: str = "increase", *, limit: float | None = None, front: pd.DataFrame | None = None
) -> go.Figure:
    """The thief's error against one of `THIEF_AXES`: the higher and the further left, the better the defense.

    Measured points are filled and joined in order of strength, with +- one standard deviation where `over_seeds`
    gave one; the paper's are open. The paper's Table II bounds lie at their limit, marked "≤": the true point is
    there or further left. Points not to be trusted are faint. Each point's first custom datum is its `id`.

    Args:
        rows: result rows, as they are or averaged by `over_seeds`; without a thief's error or x, left out.
        limit: x up to which points meet the constraint; shaded.
        front: a Pareto front of the same rows; drawn as a staircase.
    """
    points = placed(rows, x)
    figure = go.Figure()
    # told apart by what differs among the points of one source: the paper's conditions always differ from ours
    by_source = points.groupby("source")
    varying = [c for c in SERIES if c in points and c != x and by_source[c].nunique(dropna=False).max() > 1]
    for key, series in points.groupby(["defense", "source", "bound", *varying], sort=False, dropna=False):
        name, source, bound, *rest = key
        mark = mark_of(name)
        label = " · ".join([mark.label, *(str(value) for value in rest if pd.notna(value)), source])
        series = series.sort_values("budget" if x == "budget" else "strength")
        figure.add_scatter(
            x=series["x"],
            y=series["adversary_error"],
            mode="markers" if bound or source == "paper" else "lines+markers",
            name=label + (", at most" if bound else ""),
            line={"color": mark.color, "dash": mark.dash, "width": 1},
            marker={
                "symbol": mark.symbol + ("-open" if source == "paper" else ""),
                "size": 10,
                "color": mark.color,
                "opacity": np.where(series["unreliable"], 0.35, 1.0),
                "line": {"width": 2 if source == "paper" else 0},
            },
            error_y={"array": series["adversary_error_std"], "visible": True, "thickness": 1}
            if "adversary_error_std" in series and series["adversary_error_std"].notna().any()
            else None,
            customdata=[[row["id"], _conditions(row)] for _, row in series.iterrows()],
            hovertemplate=("at most " if bound else "") + "%{x:.3g}; thief %{y:.2f} %<br>%{customdata[1]}"
            "<br>%{customdata[0]}<extra>" + label + "</extra>",
        )
    for at in points.loc[points["bound"], "x"].unique():
        figure.add_annotation(x=at, y=1, yref="paper", yanchor="top", showarrow=False, text=bound_label(x, at))
    if limit is not None:
        left = min(points["x"], default=0.0) if x == "defender_error" else min([0.0, *points["x"]])
        figure.add_vrect(
            x0=left,
            x1=limit,
            fillcolor="#2f8fd8",
            opacity=0.1,
            line_width=0,
            layer="below",
            annotation_text="allowed",
            annotation_position="bottom left",
        )
    if front is not None and not front.empty:
        stairs = placed(front, x).sort_values(["x", "adversary_error"])
        figure.add_scatter(
            x=stairs["x"],
            y=stairs["adversary_error"],
            mode="lines",
            name="Pareto front",
            line={"color": "#8a8f98", "dash": "dot", "shape": "hv", "width": 1.5},
            hoverinfo="skip",
        )
    figure.update_layout(dragmode="select")
    return polish(figure, x=THIEF_AXES[x], y=THIEF, height=440)


def _conditions(row: pd.Series) -> str:
    strength = f"strength {row['strength']:g}" if pd.notna(row["strength"]) else ""
    allowed = f"owner at most +{row['max_defender_increase']:g}, l1 at most {row['max_l1']:g}"
    bound = allowed if pd.notna(row["max_defender_increase"]) else ""
    doubt = f"unreliable: {row['reason']}" if row["unreliable"] else ""
    return "<br>".join(filter(None, (strength, bound, doubt)))


def placed(rows: pd.DataFrame, x: str) -> pd.DataFrame:
    """The rows that have a place in `thief_scatter`, with it in `x`; `bound` where only a limit of it is known."""
    bound = rows["max_defender_increase"].notna()
    limits = {"increase": "max_defender_increase", "l1": "max_l1", "l1_queries": "max_l1"}
    known = rows["defender_error"] - rows["victim_error"] if x == "increase" else rows[x].astype(float)
    if x in limits:
        known = known.where(~bound, rows[limits[x]])
    bound &= x in limits
    return rows.assign(x=known, bound=bound).dropna(subset=["x", "adversary_error"])


def bound_label(x: str, at: float) -> str:
    """What a bound's position says: "≤ +1 point (paper)"."""
    if x != "increase":
        return f"≤ {at:g} (paper)"
    return f"≤ +{at:g} point{'s' if at != 1 else ''} (paper)"


def describe_thief_scatter(rows: pd.DataFrame, x: str = "increase") -> str:
    """One sentence for who cannot see `thief_scatter`."""
    points = placed(rows, x)
    parts = []
    for source, group in points[~points["unreliable"]].groupby("source"):
        best = group.loc[group["adversary_error"].idxmax()]
        at = f"at {'most ' if best['bound'] else ''}{best['x']:.3g}"
        parts.append(
            f"of {len(group)} points ({source}) {mark_of(best['defense']).label} is highest, "
            f"{best['adversary_error']:.1f} % {at}"
        )
    return f"{THIEF} against {THIEF_AXES[x]}: {'; '.join(parts) or 'no reliable point yet'}."


def table2_bars(cells: pd.DataFrame) -> go.Figure:
    """Table II for one victim: the best attainable thief error of each defense under each allowed increase.

    Args:
        cells: source, defense, max_defender_increase (percentage points), adversary_error (percent or NaN), as the
            paper's rows have them; ours from `best_under`.
    """
    figure = go.Figure()
    order = [MARKS[name].label for name in MARKS if (cells["defense"] == name).any()]
    for (increase, source), group in cells.groupby(["max_defender_increase", "source"]):
        figure.add_bar(
            x=[mark_of(name).label for name in group["defense"]],
            y=group["adversary_error"],
            name=f"≤ +{increase:g}, {source}",
            marker={
                "color": INCREASES.get(increase, "#8a8f98"),
                "pattern": {"shape": "/" if source == "paper" else "", "fgopacity": 0.6},
            },
            text=[f"+{increase:g}"] * len(group),
            textposition="inside",
            hovertemplate=f"%{{x}}: thief %{{y:.2f}} %, owner at most +{increase:g}<extra>{source}</extra>",
        )
    figure.update_layout(barmode="group")
    polish(figure, x="defense", y=THIEF)
    return figure.update_xaxes(categoryorder="array", categoryarray=order)


def describe_table2(cells: pd.DataFrame) -> str:
    """One sentence for who cannot see `table2_bars`."""
    parts = []
    for (source, increase), group in cells.dropna(subset=["adversary_error"]).groupby(
        ["source", "max_defender_increase"]
    ):
        best = group.loc[group["adversary_error"].idxmax()]
        parts.append(
            f"{mark_of(best['defense']).label} with {best['adversary_error']:.1f} % at +{increase:g} ({source})"
        )
    return f"Largest thief error by allowed increase of the owner's: {'; '.join(parts) or 'none known yet'}."


def cost_dots(rows: pd.DataFrame, quantity: str = "latency_ms") -> go.Figure:
    """Table III: a cost of each defense on a logarithmic axis, one marker a data set; the paper's are open."""
    known = rows.dropna(subset=[quantity])
    figure = go.Figure()
    symbols = dict(zip(known["dataset"].unique(), SYMBOLS * 9, strict=False))
    for (dataset, source), group in known.groupby(["dataset", "source"], sort=False):
        figure.add_scatter(
            x=group[quantity],
            y=[mark_of(name).label for name in group["defense"]],
            mode="markers",
            name=f"{dataset}, {source}",
            marker={
                "symbol": symbols[dataset] + ("-open" if source == "paper" else ""),
                "size": 10,
                "color": [mark_of(name).color for name in group["defense"]],
                "line": {"width": 2 if source == "paper" else 0},
            },
            customdata=group[["hardware"]],
            hovertemplate="%{y}: %{x:.4g}<br>%{customdata[0]}<extra>" + f"{dataset}, {source}</extra>",
        )
    polish(figure, x=f"{COSTS[quantity]}, logarithmic", y="defense")
    order = [MARKS[name].label for name in MARKS if (known["defense"] == name).any()]
    figure.update_yaxes(categoryorder="array", categoryarray=order[::-1])
    return figure.update_xaxes(type="log")


def describe_cost(rows: pd.DataFrame, quantity: str = "latency_ms") -> str:
    """One sentence for who cannot see `cost_dots`."""
    parts = []
    for source, group in rows.dropna(subset=[quantity]).groupby("source"):
        mean = group.groupby("defense")[quantity].mean().sort_values()
        cheap, dear = mark_of(mean.index[0]).label, mark_of(mean.index[-1]).label
        parts.append(f"{source}: {cheap} cheapest ({mean.iloc[0]:.3g}), {dear} dearest ({mean.iloc[-1]:.3g})")
    return f"Mean over the data sets of {COSTS[quantity]}; {'; '.join(parts) or 'none known yet'}."


def mark_of(name: str) -> Mark:
    """How a defense is drawn; a grey cross with its own name if `MARKS` does not know it."""
    return MARKS.get(name, Mark(name, "#8a8f98", "x"))


def faint(color: str, opacity: float) -> str:
    """A colour "#rrggbb" as "rgba(...)"."""
    return f"rgba({int(color[1:3], 16)},{int(color[3:5], 16)},{int(color[5:7], 16)},{opacity})"
