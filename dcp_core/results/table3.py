"""Table III from result rows: the cost of each defense as a ratio to no defense, measured and published.

This module uses pandas only and does not import torch.
"""

from collections.abc import Mapping

import pandas as pd

OURS, LITERAL, PAPER = "measured", "measured, as published", "paper"
UNITS = ("latency_ms", "energy_wh")
ORIGIN = ["victim", "dataset", "batch", "clock", "where", "hardware", "versions", "date"]


def measurements(
    rows: pd.DataFrame, victim: str, begun: Mapping[str, float] | None = None
) -> dict[str, pd.DataFrame]:
    """Measured cost rows of a victim, by the file that has them ("precomputed/bench_signs-resnet8.csv").

    The user's own measurements come first, newest first; the included ones follow.

    Args:
        rows: result rows.
        begun: start time of the run of each file, by file name without folder. It sorts measurements of the same day,
            because rows have only a date.
    """
    begun = begun or {}
    costs = rows[(rows["source"] == "measured") & (rows["victim"] == victim) & rows["batch"].notna()]
    files = costs["id"].str.rsplit(":", n=1).str[0]
    found = dict(tuple(costs.groupby(files, sort=False)))
    own = [name for name in found if not name.startswith("precomputed/")]
    newest = sorted(
        own, key=lambda name: (found[name]["date"].max(), begun.get(name.rpartition("/")[2], 0.0)), reverse=True
    )
    return {name: found[name] for name in [*newest, *(name for name in found if name not in own)]}


def table3(measured: pd.DataFrame, paper: pd.DataFrame, batch: int) -> pd.DataFrame:
    """Rows of one measurement and of the paper for one data set, in one table.

    Args:
        measured: rows of one file of `measurements`, or an empty frame. Rows of other batch sizes are left out.
        paper: rows of the paper's Table III for one data set.
        batch: queries in one batch; 64 in the paper.

    Returns:
        Columns `who` (`OURS`, `LITERAL` or `PAPER`) and `defense`; `latency` and `energy` as ratios to no defense (NaN if
        unknown), with the interval `latency_low` to `latency_high`; `latency_ms` with its interval, and `latency_p95_ms`;
        `energy_mj` with its range, or `energy_wh`; `repeats`, `memory_mb`, and the columns `ORIGIN`.
    """
    ours = measured[measured["batch"] == batch]
    mine = ours.assign(
        who=ours["implementation"].map({"here": OURS, "literal": LITERAL}),
        latency=ours["latency_ratio"],
        latency_low=ours["latency_ratio_low"],
        latency_high=ours["latency_ratio_high"],
        energy=ours["energy_mj"] / _undefended(ours, "energy_mj"),
    )
    known = paper.dropna(subset=["latency_ms"])
    theirs = known.assign(
        who=PAPER,
        latency=known["latency_ms"] / _undefended(known, "latency_ms"),
        energy=known["energy_wh"] / _undefended(known, "energy_wh"),
    )
    columns = ["who", "defense", "latency", "latency_low", "latency_high", "energy"]
    columns += ["latency_ms", "latency_low_ms", "latency_high_ms", "latency_p95_ms"]
    columns += ["energy_mj", "energy_low_mj", "energy_high_mj", "energy_wh", "repeats", "memory_mb", *ORIGIN]
    parts = [part.reindex(columns=columns) for part in (mine, theirs) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Result rows with the columns `latency` and `energy`: ratios to no defense of the same source, data set and victim.

    They can be compared between machines; milliseconds and watt-hours cannot. NaN if unknown.
    """
    by = [rows[name] for name in ("source", "dataset", "victim")]
    base = {name: rows[name].where(rows["defense"] == "none").groupby(by).transform("first") for name in UNITS}
    latency = rows["latency_ratio"].fillna(rows["latency_ms"] / base["latency_ms"])
    return rows.assign(latency=latency, energy=rows["energy_wh"] / base["energy_wh"])


def _undefended(rows: pd.DataFrame, column: str) -> float:
    values = rows.loc[rows["defense"] == "none", column]
    return float(values.iloc[0]) if len(values) else float("nan")
