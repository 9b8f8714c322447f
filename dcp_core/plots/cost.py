"""Latency and energy of each defense on a logarithmic axis: measured values beside the paper's."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import CLEAN, in_order, layout, mark_of

AXES = {
    "latency": "latency relative to no defense",
    "energy": "energy relative to no defense",
    "latency_ms": "latency of a query (ms)",
}
INTERVALS = {"latency": ("latency_low", "latency_high"), "latency_ms": ("latency_low_ms", "latency_high_ms")}
SYMBOLS = {"measured": "circle", "measured, as published": "diamond-wide", "paper": "circle-open"}


def costs(cells: pd.DataFrame, quantity: str = "latency") -> go.Figure:
    """One cost of each defense. Filled marks, with 95 % intervals, are measured; open marks are the paper's.

    Args:
        cells: as `results.table3.table3` gives them.
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
    order = [mark_of(name).label for name in in_order(known["defense"])]
    axes: dict[str, Any] = {
        "xaxis": {"type": "log", "dtick": 1},
        "yaxis": {"categoryorder": "array", "categoryarray": order[::-1], "automargin": True},
    }
    figure = go.Figure(traces, layout(x=f"{AXES[quantity]} (log)", y="", **axes))
    if quantity in ("latency", "energy"):
        figure.add_vline(1.0, line={"dash": "dot", "width": 1.5, "color": CLEAN})
    return figure


def describe_costs(cells: pd.DataFrame, quantity: str = "latency") -> str:
    """Alt text of `costs`: one sentence with its conclusion."""
    parts = []
    for who, group in cells.dropna(subset=[quantity]).groupby("who", sort=False):
        ordered = group[group["defense"] != "none"].sort_values(quantity)
        if len(ordered):
            words = ", ".join(
                f"{mark_of(row.defense).label} {getattr(row, quantity):.3g}" for row in ordered.itertuples()
            )
            parts.append(f"{who}: {words}")
    return f"{AXES[quantity][0].upper()}{AXES[quantity][1:]}: {'; '.join(parts) or 'nothing known yet'}."


def latency_table(cells: pd.DataFrame) -> pd.DataFrame:
    """The latencies of `table3`, one row for each defense, without empty columns."""
    each = {who: cells[cells["who"] == who].set_index("defense") for who in SYMBOLS}
    ours, literal, paper = each.values()
    names = in_order(cells["defense"])
    columns = {
        "× no defense": ours["latency"],
        "95 % interval": spans(ours["latency_low"], ours["latency_high"]),
        "×, as published": literal["latency"],
        "×, paper": paper["latency"],
        "ms a query": ours["latency_ms"],
        "95 % interval, ms": spans(ours["latency_low_ms"], ours["latency_high_ms"]),
        "p95, ms": ours["latency_p95_ms"],
        "ms, as published": literal["latency_ms"],
        "ms, paper": paper["latency_ms"],
        "repeats": ours["repeats"],
        "repeats, as published": literal["repeats"],
    }
    table = pd.DataFrame({title: column.reindex(names) for title, column in columns.items()})
    table.insert(0, "defense", [mark_of(name).label for name in names])
    return table.dropna(axis=1, how="all").reset_index(drop=True)


def energy_table(cells: pd.DataFrame) -> pd.DataFrame:
    """The measured energies of `table3`, one row for each defense; empty if energy was not measured."""
    known = cells.dropna(subset=["energy_mj"])
    return pd.DataFrame(
        {
            "defense": [mark_of(name).label for name in known["defense"]],
            "source": known["who"],
            "× no defense": known["energy"],
            "mJ a query": known["energy_mj"],
            "lowest to highest window": spans(known["energy_low_mj"], known["energy_high_mj"]),
        }
    )


def spans(low: pd.Series, high: pd.Series) -> pd.Series:
    """Intervals in words, such as '1.02 to 1.05'; None for a missing bound."""
    words = [f"{a:.4g} to {b:.4g}" if pd.notna(a) else None for a, b in zip(low, high, strict=True)]
    return pd.Series(words, low.index, dtype="object")
