"""Figures of attacks: positions of marks and lines, and alt texts."""

import itertools

import pandas as pd

from dcp_core.plots import compared, describe_pairs, describe_run_curves, in_common, pairs, run_curves
from dcp_core.plots.runs import swatch
from dcp_core.results.schema import COLUMNS, check


def points() -> pd.DataFrame:
    rows = [
        ("a", "undefended", "none", 50, 10, 60.0, 40.0),
        ("a", "undefended", "none", 100, 10, 50.0, 50.0),
        ("b", "DCP 0.9", "dcp", 100, 20, 80.0, 20.0),
    ]
    return pd.DataFrame(rows, columns=["run", "name", "defense", "work", "queries", "error", "fidelity"])


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


def victims() -> pd.DataFrame:
    return pd.DataFrame({"victim": ["v"], "error": [6.5], "guessing": [90.0]})


def test_curves_draw_the_error_with_the_victims_line_and_the_line_of_guessing() -> None:
    figure = run_curves(points(), victims(), "queries")
    assert [(trace.name, list(trace.y)) for trace in figure.data] == [("undefended", [60, 50]), ("DCP 0.9", [80])]
    assert list(figure.data[0].x) == [10, 10]
    assert [shape.y0 for shape in figure.layout.shapes] == [6.5, 90]
    words = [note.text for note in figure.layout.annotations]
    assert words[:2] == ["victim v: 6.5 %", "guessing: 90.0 %"]
    assert "undefended: clone error 50.0 %" in describe_run_curves(points())
    assert "no clone" in describe_run_curves(points()[:0])


def test_fidelity_has_no_line_of_an_error() -> None:
    figure = run_curves(points(), victims(), "work", "fidelity")
    assert [list(trace.y) for trace in figure.data] == [[40, 50], [20]]
    assert not figure.layout.shapes


def test_few_lines_are_named_at_their_ends_without_overlap_and_many_in_a_legend() -> None:
    close = pd.concat([points().assign(run=str(k), name=f"run {k}", error=50 + k) for k in range(3)])
    named = [note for note in run_curves(close, victims()[:0]).layout.annotations if "run" in note.text]
    assert [note.text for note in named] == [f"<b>run {k}: {50 + k} %</b>" for k in (2, 1, 0)]
    heights = [note.y for note in named]
    assert min(high - low for high, low in itertools.pairwise(heights)) >= 7
    many = pd.concat([points().assign(run=str(k), name=f"run {k}") for k in range(6)])
    figure = run_curves(many, victims()[:0])
    assert not figure.layout.annotations
    assert all(trace.showlegend for trace in figure.data)


def test_a_name_stands_where_its_line_does_not_come_from_and_never_below_the_axis() -> None:
    def sides(score: str, error: float) -> list[str]:
        table = points()[:2].assign(error=[60.0, error])
        return [note.yanchor for note in run_curves(table, victims()[:0], "work", score).layout.annotations]

    assert sides("error", 30) == ["top"]
    assert sides("error", 7) == sides("fidelity", 30) == ["bottom"]


def test_before_the_first_score_the_figure_has_its_levels_and_says_so() -> None:
    figure = run_curves(points()[:0], victims())
    assert len(figure.layout.shapes) == 2
    assert figure.layout.annotations[-1].text == "No clone has been scored yet."
    assert list(figure.layout.yaxis.range) == [0, 102]


def test_two_runs_of_one_defense_are_told_apart_without_colour() -> None:
    both = pd.concat([points(), points()[:2].assign(run="c", name="another")])
    dashes = {trace.name: trace.line.dash for trace in run_curves(both, victims()).data}
    assert dashes["undefended"] != dashes["another"]
    assert swatch("none", dashes["undefended"]) != swatch("none", dashes["another"])


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


def test_what_all_lines_have_in_common_is_said_once() -> None:
    table = rows(
        {"adversary_error": 40, "seed": 1},
        {"adversary_error": 50, "seed": 1, "thief": "top-1"},
        {"adversary_error": 30, "seed": 2},
    )
    found = compared(table, set(), 3)
    settings = list(found["setting"].unique())
    common = in_common(settings)
    assert "KnockoffNets" in common
    assert "seed" not in common
    names = [str(note.text) for note in pairs(found).layout.annotations]
    assert sorted(names) == ["seed 1", "seed 2", "uses the top class alone, seed 1"]
    for name, setting in zip(names, settings, strict=True):
        assert sorted(f"{common}, {name}".split(", ")) == sorted(setting.split(", "))
    assert in_common(settings[:1]) == in_common([]) == ""


def test_a_figure_of_nothing_is_a_figure() -> None:
    none = compared(rows({"attack": ""}), set(), 3)
    assert none.empty
    assert pairs(none).layout.xaxis.title.text
