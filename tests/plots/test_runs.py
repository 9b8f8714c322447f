"""Figures of attacks: positions of marks and lines, and alt texts."""

import pandas as pd

from dcp_core.plots import compared, describe_pairs, describe_run_curves, pairs, run_curves
from dcp_core.results.schema import COLUMNS, check


def points() -> pd.DataFrame:
    rows = [
        ("a", "none", 50, 10, 60.0, 40.0),
        ("a", "none", 100, 10, 50.0, 50.0),
        ("b", "dcp", 100, 20, 80.0, 20.0),
    ]
    return pd.DataFrame(rows, columns=["run", "defense", "work", "queries", "error", "fidelity"])


def rows(*changes: dict) -> pd.DataFrame:
    base = {
        "source": "measured", "where": "x", "dataset": "signs", "victim": "v", "precision": "fp32", "victim_error": 6,
        "defense": "none", "parameters": "{}", "attack": "knockoff", "budget": 100, "seed": 0, "adversary_error": 50,
        "hardware": "h", "versions": "{}", "date": "2026-01-01",
    }  # fmt: skip
    table = pd.DataFrame([{**base, **change} for change in changes]).reindex(columns=list(COLUMNS)).astype("str")
    checked, problems = check(table.replace({"nan": "", "None": ""}))
    assert not problems
    return checked


def test_curves_draw_error_left_and_fidelity_right_with_the_victims_line() -> None:
    figure = run_curves(points(), pd.DataFrame({"victim": ["v"], "error": [6.5]}), "queries")
    assert [(trace.name, trace.yaxis, list(trace.y)) for trace in figure.data] == [
        ("a", "y", [60, 50]),
        ("a", "y2", [40, 50]),
        ("b", "y", [80]),
        ("b", "y2", [20]),
    ]
    assert list(figure.data[0].x) == [10, 10]
    assert figure.layout.shapes[0].y0 == 6.5
    assert "6.50 %" in figure.layout.annotations[0].text
    assert "a: clone error 50.0 %" in describe_run_curves(points())
    assert "no clone" in describe_run_curves(points()[:0])


def test_two_runs_of_one_defense_are_told_apart_without_colour() -> None:
    both = pd.concat([points(), points().assign(run="c")])
    dashes = {
        trace.name: trace.line.dash for trace in run_curves(both, pd.DataFrame(columns=["victim", "error"])).data
    }
    assert len({dashes["a"], dashes["c"]}) == 2


def test_pairs_stand_on_one_line_and_the_asked_ones_come_first() -> None:
    table = rows(
        {"adversary_error": 40, "seed": 1},
        {"defense": "dcp", "strength": 0.9, "adversary_error": 55, "seed": 1},
        {"adversary_error": 30, "seed": 2, "key": "mine"},
        {"defense": "rs", "adversary_error": 45, "seed": 3},
    )
    found = compared(table, {"mine"}, 2)
    settings = list(found["setting"].unique())
    assert "seed 2" in settings[0]
    assert "seed 1" in settings[1]
    assert len(settings) == 2
    assert found["paired"].tolist() == [False, True, True]
    assert "40.0 % undefended, 55.0 % with DCP" in describe_pairs(found)
    figure = pairs(found)
    (dcp,) = (trace for trace in figure.data if trace.name == "DCP")
    assert list(dcp.x) == [55]
    assert dcp.y[0] == settings[1]


def test_a_figure_of_nothing_is_a_figure() -> None:
    none = compared(rows({"attack": ""}), set(), 3)
    assert none.empty
    assert pairs(none).layout.xaxis.title.text
