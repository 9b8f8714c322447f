"""Table III from result rows: what each defense costs, as a ratio to no defense, measured beside published.

Pure pandas: no torch.
"""

from collections.abc import Mapping

import pandas as pd

OURS, LITERAL, PAPER = "measured", "measured, as published", "paper"
ORIGIN = ["victim", "dataset", "batch", "clock", "where", "hardware", "versions", "date"]


def measurements(
    rows: pd.DataFrame, victim: str, begun: Mapping[str, float] | None = None
) -> dict[str, pd.DataFrame]:
    """A victim's measured costs by the file they are in ("precomputed/bench_signs-resnet8.csv").

    The user's own go first, the newest of them first of all.

    Args:
        begun: when the run of a file began, by the file's name without its folder; a row's date is but a day.
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
    """One measurement beside the paper's rows of one data set.

    Args:
        measured: rows of `measurements`, maybe none; those of other batch sizes are left out.
        paper: rows of the paper's Table III for one data set.
        batch: queries answered at once; the paper's are of 64.

    Returns:
        `who` (`OURS`, `LITERAL` or `PAPER`), `defense`, `latency` and `energy` as ratios to no defense (NaN where unknown)
        with `latency_low`, `latency_high`; `latency_ms` with its interval and `latency_p95_ms`; `energy_mj` with its
        range, or `energy_wh`; `repeats`, `memory_mb`, and `ORIGIN`.
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


def _undefended(rows: pd.DataFrame, column: str) -> float:
    values = rows.loc[rows["defense"] == "none", column]
    return float(values.iloc[0]) if len(values) else float("nan")
