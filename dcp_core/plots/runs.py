"""Figures of attacks: learning curves of clones, and results with a defense beside results without one."""

from textwrap import wrap
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import layout, mark_of
from dcp_core.results.rows import differing_parameters

ACROSS = {"work": "work done (%)", "queries": "queries the thief has made"}
SCORES = {"error": "clone's test error (%)", "fidelity": "fidelity to the victim (%)"}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SETTING = ["victim", "attack", "queries_from", "thief", "clone", "budget", "epochs", "differing", "seed"]
LABEL = 56  # characters in a line of a label: fits on a phone
HALF = 0.39  # share of the width of each of two panels


def run_curves(points: pd.DataFrame, victims: pd.DataFrame, across: str = "work") -> go.Figure:
    """Learning curves of several runs: the clone's error (left) and fidelity (right).

    A dotted line marks the error of each undefended victim.

    Args:
        points: columns run, defense, work, queries, error, fidelity; rows without an error are left out.
        victims: columns victim and error, one row for each dotted line.
        across: the horizontal axis, one of `ACROSS`.
    """
    points = points.dropna(subset=["error"])
    seen: dict[str, int] = {}
    traces: list[dict[str, Any]] = []
    for run, curve in points.groupby("run", sort=False):
        defense = str(curve["defense"].iloc[0])
        mark, turn = mark_of(defense), seen.get(defense, 0)
        seen[defense] = turn + 1
        for panel, score in enumerate(SCORES):
            traces.append(
                {
                    "type": "scatter",
                    "x": curve[across],
                    "y": curve[score],
                    "mode": "lines+markers",
                    "name": str(run),
                    "legendgroup": str(run),
                    "showlegend": panel == 0,
                    "xaxis": "x" if panel == 0 else "x2",
                    "yaxis": "y" if panel == 0 else "y2",
                    "line": {"color": mark.color, "dash": DASHES[turn % len(DASHES)]},
                    "marker": {"symbol": mark.symbol, "size": 7, "color": mark.color},
                    "hovertemplate": "%{y:.2f} % at %{x:,.4g}<extra>" + str(run) + "</extra>",
                }
            )
    lines, notes = [], []
    for row in victims.itertuples():
        lines.append(
            {
                "type": "line",
                "xref": "x domain",
                "x0": 0,
                "x1": 1,
                "y0": row.error,
                "y1": row.error,
                "line": {"dash": "dot", "width": 1.5},
            }
        )
        note = {"xref": "x domain", "x": 0, "xanchor": "left", "y": row.error, "yanchor": "bottom"}
        notes.append({**note, "showarrow": False, "text": f"victim {row.victim}: {row.error:.2f} %"})
    ranged = {"range": [0, 100]} if across == "work" else {"rangemode": "tozero"}
    figure = layout(
        x=ACROSS[across],
        y=SCORES["error"],
        height=400,
        xaxis={"domain": [0, HALF], **ranged},
        yaxis={"rangemode": "tozero"},
        shapes=lines,
        annotations=notes,
        uirevision="runs",  # an update of the figure keeps the zoom
    )
    figure["xaxis2"] = {**figure["xaxis"], "domain": [1 - HALF, 1], "anchor": "y2"}
    figure["yaxis2"] = {
        "title": {"text": SCORES["fidelity"]},
        "anchor": "x2",
        "automargin": True,
        "range": [0, 100],
    }
    return go.Figure(traces, figure)


def describe_run_curves(points: pd.DataFrame) -> str:
    """Alt text of `run_curves`: one sentence with its conclusion."""
    last = points.dropna(subset=["error"]).groupby("run", sort=False).last()
    parts = [
        f"{run}: clone error {row.error:.1f} %, fidelity {row.fidelity:.1f} %" for run, row in last.iterrows()
    ]
    return f"Latest scores of each run: {'; '.join(parts) or 'no clone has been scored yet'}."


def compared(rows: pd.DataFrame, keys: set[str], limit: int) -> pd.DataFrame:
    """Result rows of attacks, grouped by setting: rows with the same `setting` differ by the defense alone.

    Args:
        keys: of runs; their settings come first. Settings with both an undefended and a defended row come next.
        limit: number of settings to keep.

    Returns:
        the rows with the columns `setting` (in words) and `paired` (whether it has an undefended and a defended row).
    """
    rows = rows.dropna(subset=["adversary_error", "attack"])
    if rows.empty:
        return rows.assign(setting="", paired=False)
    rows = rows.copy()
    rows["differing"] = differing_parameters(rows)
    rows["setting"] = [_setting(row) for row in rows[[*SETTING, "source"]].to_dict("records")]
    undefended = rows.loc[rows["defense"] == "none", "setting"]
    rows["paired"] = rows["setting"].isin(undefended) & (
        rows.groupby("setting")["defense"].transform("nunique") > 1
    )
    rows["asked"] = rows["setting"].isin(rows.loc[rows["key"].isin(keys), "setting"])
    rows = rows.sort_values(["asked", "paired", "source"], ascending=[False, False, True], kind="stable")
    return rows[rows["setting"].isin(list(rows["setting"].unique())[:limit])].drop(columns=["asked", "differing"])


def _setting(row: dict[str, Any]) -> str:
    words = [row["attack"], row["victim"], row["queries_from"]]
    words += [f"{row['budget']:,} queries"] if pd.notna(row["budget"]) else []
    words += [f"{row['epochs']} epochs"] if pd.notna(row["epochs"]) else []
    words += [row["thief"], row["clone"], row["differing"]]
    words += [f"seed {row['seed']}"] if pd.notna(row["seed"]) else []
    named = [str(word) for word in words if pd.notna(word) and str(word)]
    return " · ".join(["paper:" if row["source"] == "paper" else "", *named]).removeprefix(" · ")


def pairs(rows: pd.DataFrame) -> go.Figure:
    """The clone's error with and without defenses: one line for each setting, one mark for each defense.

    Filled marks are measured, open ones are the paper's, faint ones are unreliable. The tick is the victim's own error.

    Args:
        rows: as `compared` gives them.
    """
    traces: list[dict[str, Any]] = []
    for setting, group in rows.groupby("setting", sort=False):
        low, high = group["adversary_error"].min(), group["adversary_error"].max()
        line = {"color": "#8a8f98", "width": 1.5}
        traces.append(
            _trace([low, high], [setting] * 2, mode="lines", line=line, showlegend=False, hoverinfo="skip")
        )
    victims = rows.dropna(subset=["victim_error"]).drop_duplicates("setting")
    tick = {"symbol": "line-ns-open", "size": 9, "color": "#8a8f98", "line": {"width": 2}}
    traces.append(_trace(victims["victim_error"], victims["setting"], name="victim itself", marker=tick))
    for (defense, source), group in rows.groupby(["defense", "source"], sort=False):
        mark = mark_of(str(defense))
        label = mark.label + (" (paper)" if source == "paper" else "")
        strengths = [f"strength {row.strength:g}" if pd.notna(row.strength) else "" for row in group.itertuples()]
        doubtful = group["unreliable"].fillna(False).astype(bool)
        traces.append(
            _trace(
                group["adversary_error"],
                group["setting"],
                name=label,
                customdata=strengths,
                marker={
                    "symbol": mark.symbol + ("-open" if source == "paper" else ""),
                    "size": 12,
                    "color": mark.color,
                    "opacity": [0.55 if doubt else 1.0 for doubt in doubtful],
                    "line": {"width": 2 if source == "paper" else 0},
                },
                hovertemplate="%{x:.2f} % %{customdata}<br>%{y}<extra>" + label + "</extra>",
            )
        )
    count = rows["setting"].nunique()
    above = {"x": 0, "xref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 6, "align": "left"}
    labels = [
        {
            **above,
            "y": setting,
            "text": "<br>".join(wrap(setting, LABEL)),
            "showarrow": False,
            "font": {"size": 11},
        }
        for setting in rows["setting"].unique()
    ]
    axis = {"autorange": "reversed", "showticklabels": False}
    return go.Figure(
        traces,
        layout(
            x=SCORES["error"],
            y="",
            height=130 + 58 * max(1, count),
            yaxis=axis,
            xaxis={"rangemode": "tozero"},
            annotations=labels,
        ),
    )


def _trace(x: Any, y: Any, mode: str = "markers", **more: Any) -> dict[str, Any]:
    return {"type": "scatter", "mode": mode, "x": x, "y": y, **more}


def describe_pairs(rows: pd.DataFrame) -> str:
    """Alt text of `pairs`: one sentence with its conclusion."""
    parts = []
    for setting, group in rows[rows["paired"]].groupby("setting", sort=False):
        plain = group.loc[group["defense"] == "none", "adversary_error"].iloc[0]
        best = group.loc[group["adversary_error"].idxmax()]
        parts.append(
            f"{setting}: {plain:.1f} % undefended, {best['adversary_error']:.1f} % with {mark_of(best['defense']).label}"
        )
    return f"Clone's error: {'; '.join(parts) or 'no defended run has a matching undefended run yet'}."
