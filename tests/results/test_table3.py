"""Table III from result rows: which value is in which cell, and to what it is a ratio."""

import math

import pandas as pd
import pytest

from dcp_core.results.rows import load_results
from dcp_core.results.schema import COLUMNS, check
from dcp_core.results.table3 import LITERAL, OURS, PAPER, measurements, table3

BASE = {
    "source": "measured", "where": "bench", "dataset": "cifar10", "victim": "v", "precision": "fp32", "defense": "none",
    "parameters": "{}", "implementation": "here", "batch": 64, "repeats": 9, "latency_ms": 2.0, "latency_ratio": 1.0,
    "hardware": "h", "versions": "{}", "date": "2026-01-01",
}  # fmt: skip


def rows(*changes: dict, files: tuple[str, ...] = ("home/bench-a.csv",)) -> pd.DataFrame:
    table = pd.DataFrame([{**BASE, **change} for change in changes]).reindex(columns=list(COLUMNS)).astype("str")
    table.index = pd.Index([f"{file}:{line + 2}" for file in files for line in range(len(changes) // len(files))])
    checked, problems = check(table.replace({"nan": "", "None": "", "<NA>": ""}))
    assert not problems
    return checked


def papers(dataset: str = "cifar10") -> pd.DataFrame:
    shipped, _ = load_results()
    return shipped[
        (shipped["source"] == "paper") & (shipped["dataset"] == dataset) & shipped["latency_ms"].notna()
    ]


def test_measured_ratios_stand_beside_the_papers_of_the_same_defense():
    ours = rows(
        {"energy_mj": 10.0},
        {"defense": "mad", "latency_ms": 4.1, "latency_ratio": 2.05, "energy_mj": 25.0},
        {"defense": "mad", "implementation": "literal", "latency_ms": 90.0, "latency_ratio": 44.0},
        {"defense": "mad", "batch": 1, "latency_ratio": 3.0},
    )
    cells = table3(ours, papers(), 64).set_index(["who", "defense"])
    assert cells.loc[(OURS, "mad"), "latency"] == 2.05  # of the rounds, not 4.1 / 2.0
    assert cells.loc[(OURS, "mad"), "energy"] == 2.5
    assert cells.loc[(LITERAL, "mad"), "latency"] == 44.0
    # Table III, CIFAR-10: MAD 58.02 ms and 2.79 Wh, no defense 0.1 ms and 0.13 Wh
    assert cells.loc[(PAPER, "mad"), "latency"] == pytest.approx(580.2)
    assert cells.loc[(PAPER, "mad"), "energy"] == pytest.approx(2.79 / 0.13)
    assert math.isnan(cells.loc[(PAPER, "mad"), "energy_mj"])  # the paper's are watt-hours of all queries
    assert table3(ours, papers(), 1).query("who == @OURS")["latency"].tolist() == [3.0]


def test_without_a_measurement_the_papers_figures_stand_alone():
    cells = table3(rows({})[:0], papers(), 64)
    assert set(cells["who"]) == {PAPER}
    assert table3(rows({})[:0], papers()[:0], 64).empty


def test_measurements_are_told_apart_by_file_the_users_newest_first():
    files = ("precomputed/bench_v.csv", "home/bench-old.csv", "home/bench-b.csv", "home/bench-a.csv")
    table = rows({}, {"date": "2025-01-01"}, {}, {}, files=files)
    begun = {"bench-a.csv": 1.0, "bench-b.csv": 2.0}
    names = ["home/bench-b.csv", "home/bench-a.csv", "home/bench-old.csv", "precomputed/bench_v.csv"]
    assert list(measurements(table, "v", begun)) == names
    assert next(iter(measurements(table, "v", {"bench-a.csv": 3.0}))) == "home/bench-a.csv"


def test_nothing_is_found_of_a_victim_that_was_not_measured_or_only_attacked():
    attacked = rows({"batch": "", "implementation": ""})
    assert measurements(attacked, "v") == {}
    assert measurements(rows({}), "another") == {}
    assert measurements(rows({})[:0], "v") == {}
