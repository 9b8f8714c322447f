"""Figures of attacks: learning curves of clones, and results with a defense beside results without one."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any
from urllib.parse import quote

import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import CLEAN, layout, mark_of
from dcp_core.results.decision import AS_IS
from dcp_core.results.rows import differing_parameters, words_of

ACROSS = {"work": "work done (%)", "queries": "queries the thief has made"}
SCORES = {"error": "clone's test error (%)", "fidelity": "fidelity to the victim (%)"}
PATTERNS = {  # Plotly's dashes as SVG's
    "solid": "none",
    "dash": "6,4",
    "dot": "2,3",
    "dashdot": "6,3,2,3",
    "longdash": "10,4",
    "longdashdot": "10,3,2,3",
}
DASHES = tuple(PATTERNS)
SETTING = ["attack", "budget", "queries_from", "thief", "clone", "epochs", "differing", "victim", "seed"]
LABEL = 56  # characters in a line of a label: fits on a phone
DIRECT = 4  # largest number of lines that are named at their ends instead of in a legend
APART = 7  # smallest distance of two such names, in units of the vertical axis
LOWEST = 9  # smallest height of a name that stands below the end of its line


def run_curves(
    points: pd.DataFrame, victims: pd.DataFrame, across: str = "work", score: str = "error"
) -> go.Figure:
    """Learning curves of the clones of several runs. Up to `DIRECT` of them are named at their ends, more in a legend.

    Dotted lines mark each undefended victim's error, and the error of guessing. Before the first score, the figure says so.

    Args:
        points: columns run, name, defense, work, queries, error, fidelity; rows without an error are left out. `run` tells
            runs apart, and `name` is written.
        victims: columns victim, error and guessing (percent), one row for each victim.
        across: the horizontal axis, one of `ACROSS`.
        score: the vertical axis, one of `SCORES`.
    """
    points = points.dropna(subset=["error"])
    curves = list(points.groupby("run", sort=False))
    dashes = dashes_of([(str(run), str(curve["defense"].iloc[0])) for run, curve in curves])
    direct = len(curves) <= DIRECT
    traces: list[dict[str, Any]] = []
    for run, curve in curves:
        mark, name = mark_of(str(curve["defense"].iloc[0])), str(curve["name"].iloc[0])
        traces.append(
            {
                "type": "scatter",
                "x": curve[across],
                "y": curve[score],
                "mode": "lines+markers",
                "name": name,
                "showlegend": not direct,
                "cliponaxis": False,
                "line": {"color": mark.color, "dash": dashes[str(run)], "width": 2.5},
                "marker": {"symbol": mark.symbol, "size": 7, "color": mark.color},
                "hovertemplate": "%{y:.2f} % at %{x:,.4g}<extra>" + name + "</extra>",
            }
        )
    shapes, notes = [], []
    if score == "error":
        for row in victims.itertuples():
            shapes += [_level(row.error), _level(row.guessing)]
            notes += [_note(row.error, f"victim {row.victim}: {row.error:.1f} %")]
            notes += [_note(row.guessing, f"guessing: {row.guessing:.1f} %")]
    if not curves:
        middle = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
        notes.append({**middle, "text": "No clone has been scored yet."})
    elif direct:
        ends = [(float(curve[score].iloc[-1]), str(curve["name"].iloc[0])) for _, curve in curves]
        notes += _names(ends, below=score == "error")  # where such a line does not come from
    ranged = {"range": [0, 100]} if across == "work" else {"rangemode": "tozero"}
    figure = layout(
        x=ACROSS[across],
        y=SCORES[score],
        height=400,
        margin={"l": 56, "r": 14, "t": 16, "b": 52},
        xaxis=ranged,
        yaxis={"range": [0, 102]},
        shapes=shapes,
        annotations=notes,
        uirevision=f"runs-{across}-{score}",  # an update of the figure keeps the zoom
    )
    return go.Figure(traces, figure)


def dashes_of(runs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The dash of each run's line; runs with the same defense have the same colour and different dashes.

    Args:
        runs: (run, defense), in the order in which they are drawn.
    """
    seen: dict[str, int] = {}
    dashes = {}
    for run, defense in runs:
        dashes[run] = DASHES[seen.get(defense, 0) % len(DASHES)]
        seen[defense] = seen.get(defense, 0) + 1
    return dashes


def swatch(defense: str, dash: str = "solid") -> str:
    """A picture of a run's line in `run_curves`, as the address of an SVG picture."""
    color, pattern = mark_of(defense).color, PATTERNS[dash]
    line = f"<line x1='1' y1='8' x2='31' y2='8' stroke='{color}' stroke-width='4' stroke-dasharray='{pattern}'/>"
    picture = f"<svg xmlns='http://www.w3.org/2000/svg' width='32' height='16'>{line}</svg>"
    return f"data:image/svg+xml;utf8,{quote(picture)}"


def _level(at: float) -> dict[str, Any]:
    """A dotted horizontal line."""
    line = {"dash": "dot", "width": 1.5, "color": CLEAN}
    return {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "y0": at, "y1": at, "line": line}


def _note(y: float, text: str) -> dict[str, Any]:
    """A text above a height, at the left end of the plot."""
    place = {"xref": "x domain", "x": 0, "xanchor": "left", "y": y, "yanchor": "bottom"}
    return {**place, "showarrow": False, "text": text}


def _names(ends: Sequence[tuple[float, str]], below: bool) -> list[dict[str, Any]]:
    """The names of lines at their right ends, above or below them, so that no two overlap.

    Args:
        ends: last value and name of each line.
        below: write the names below the ends, if all have room there.
    """
    step = -APART if below else APART
    heights: list[float] = []
    placed = sorted(ends, reverse=below)
    for value, _ in placed:
        free = heights[-1] + step if heights else value
        heights.append(min(value, free) if below else max(value, free))
    if below and heights[-1] < LOWEST:
        return _names(ends, below=False)
    side = {"yanchor": "top", "yshift": -12} if below else {"yanchor": "bottom", "yshift": 12}
    at_end = {"xref": "x domain", "x": 1, "xanchor": "right", "showarrow": False, **side}
    return [
        {**at_end, "y": height, "text": f"<b>{name}: {value:.0f} %</b>"}
        for (value, name), height in zip(placed, heights, strict=True)
    ]


def describe_run_curves(points: pd.DataFrame) -> str:
    """Alt text of `run_curves`: one sentence with its conclusion."""
    last = points.dropna(subset=["error"]).groupby("run", sort=False).last()
    parts = [
        f"{row['name']}: clone error {row.error:.1f} %, fidelity {row.fidelity:.1f} %"
        for _, row in last.iterrows()
    ]
    return f"Latest scores of each run: {'; '.join(parts) or 'no clone has been scored yet'}."


def compared(rows: pd.DataFrame, keys: set[str], limit: int) -> pd.DataFrame:
    """Result rows of attacks, grouped by setting: rows with the same `setting` differ by the defense alone.

    Args:
        keys: keys of runs. Their settings come first, then settings with both an undefended and a defended row.
        limit: number of settings to keep.

    Returns:
        the rows with the columns `setting` (in words) and `paired` (whether it has an undefended and a defended row).
    """
    rows = rows.dropna(subset=["adversary_error", "attack"])
    if rows.empty:
        return rows.assign(setting="", paired=False)
    rows = rows.copy()
    rows["differing"] = differing_parameters(rows)
    rows["setting"] = [_setting(row) for _, row in rows.iterrows()]
    undefended = rows.loc[rows["defense"] == "none", "setting"]
    rows["paired"] = rows["setting"].isin(undefended) & (
        rows.groupby("setting")["defense"].transform("nunique") > 1
    )
    rows["asked"] = rows["setting"].isin(rows.loc[rows["key"].isin(keys), "setting"])
    rows = rows.sort_values(["asked", "paired", "source"], ascending=[False, False, True], kind="stable")
    return rows[rows["setting"].isin(list(rows["setting"].unique())[:limit])].drop(columns=["asked", "differing"])


def _setting(row: pd.Series) -> str:
    """What the rows of a setting have in common, in words: "KnockoffNets, 2,000 queries, clone resnet8"."""
    named = [name for name in SETTING if pd.notna(row[name]) and row[name] not in ("", AS_IS)]
    words = [row[name] if name == "differing" else words_of(name, row) for name in named if name != "seed"]
    words += [f"seed {row['seed']}"] if "seed" in named else []
    return ("paper: " if row["source"] == "paper" else "") + ", ".join(words)


def in_common(settings: Sequence[str]) -> str:
    """What all settings of `compared` have in common, in words; empty for a single setting."""
    if len(settings) < 2:
        return ""
    first, *others = [setting.split(", ") for setting in settings]
    return ", ".join(word for word in first if all(word in other for other in others))


def pairs(rows: pd.DataFrame) -> go.Figure:
    """The clone's error with and without defenses: one line for each setting, one mark for each defense.

    A line's name leaves out what is `in_common`. Filled marks are measured, open ones are the paper's, faint ones are
    unreliable. The tick is the victim's own error.

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
    settings = [str(setting) for setting in rows["setting"].unique()]
    common = in_common(settings).split(", ")
    own = [", ".join(word for word in setting.split(", ") if word not in common) for setting in settings]
    names = [wrap(words or "nothing else", LABEL) for words in own]
    above = {"x": 0, "xref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 6, "align": "left"}
    labels = [
        {**above, "y": setting, "text": "<br>".join(name), "showarrow": False, "font": {"size": 13}}
        for setting, name in zip(settings, names, strict=True)
    ]
    tall = max((len(name) for name in names), default=1)
    axis = {"autorange": "reversed", "showticklabels": False}
    return go.Figure(
        traces,
        layout(
            x=SCORES["error"],
            y="",
            height=180 + (44 + 17 * tall) * max(1, len(settings)),  # on a phone, the legend takes 180
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
