import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from drawn import titles

from dcp_core.plots import describe_thief_scatter, thief_scatter
from dcp_core.plots.style import mark_of
from dcp_core.plots.thief import bound_label
from dcp_core.results.rows import SHIPPED, load_results, over_seeds


def results(**columns: object) -> pd.DataFrame:
    """Measured rows; a column given as a list sets how many."""
    base = {
        "source": "measured",
        "dataset": "svhn",
        "precision": "fp32",
        "victim_error": 5.0,
        "defense": "dcp",
        "attack": "knockoff",
        "queries_from": "cifar10",
        "unreliable": False,
        "reason": None,
        "max_defender_increase": math.nan,
        "max_l1": math.nan,
        "budget": 50_000,
        "l1_queries": math.nan,
        "victim": "v",
        "thief": "as is",
        "clone": "c",
        "epochs": 30,
    }
    table = pd.DataFrame(base | columns)
    return table.assign(id=[f"mine.csv:{i + 2}" for i in range(len(table))])


def drawn(figure: go.Figure) -> list[go.Scatter]:
    """Traces with points: not the entries of the legend."""
    return [trace for trace in figure.data if trace.x[0] is not None]


def named(figure: go.Figure) -> dict[str, go.Scatter]:
    return {trace.name: trace for trace in drawn(figure)}


MEASURED = results(
    strength=[0.0, 0.5, 1.0],
    defender_error=[5.0, 5.2, 8.0],
    adversary_error=[20.0, 35.0, 60.0],
    l1=[0.0, 0.3, 1.1],
)


@pytest.fixture(scope="module")
def paper() -> pd.DataFrame:
    rows, _ = load_results(SHIPPED)
    return rows[(rows["source"] == "paper") & (rows["dataset"] == "svhn")]


def test_thief_scatter_works_with_the_papers_bounds_alone(paper: pd.DataFrame):
    figure = thief_scatter(paper)
    traces = named(figure)
    assert set(traces) == {
        f"{mark_of(d).label} · paper, at most" for d in ("none", "rs", "am", "mad", "grad2", "dcp")
    }
    mad = traces["MAD · paper, at most"]
    assert sorted(zip(mad.x, mad.y, strict=True)) == [(1, 40.42), (2, 43.55), (5, 51.98)]
    assert mad.marker.symbol == "triangle-up-open"
    assert mad.mode == "markers"
    assert [note.text for note in figure.layout.annotations] == [
        "≤ +1 point (paper)",
        "≤ +2 points (paper)",
        "≤ +5 points (paper)",
    ]
    assert titles(figure) == (
        "rise of the owner's error (percentage points)",
        "thief's test error (%)",
    )


def test_the_papers_bounds_lie_at_the_l1_limit_on_the_l1_axis_and_have_no_place_on_the_owners_error(
    paper: pd.DataFrame,
):
    figure = thief_scatter(paper, "l1")
    assert set(np.concatenate([trace.x for trace in drawn(figure)])) == {0.9}
    assert [note.text for note in figure.layout.annotations] == ["≤ 0.9 (paper)"]
    assert not thief_scatter(paper, "defender_error").data


def test_measured_points_are_filled_joined_and_beside_the_papers(paper: pd.DataFrame):
    both = pd.concat([MEASURED.sample(frac=1, random_state=1), paper], ignore_index=True)
    traces = named(thief_scatter(both))
    assert len(traces) == 7
    ours = traces["DCP · measured"]
    assert ours.mode == "lines+markers"
    assert ours.marker.symbol == "circle"
    np.testing.assert_allclose(ours.x, [0, 0.2, 3])
    assert list(ours.y) == [20, 35, 60]


def test_a_selection_finds_rows_by_their_id():
    figure = thief_scatter(MEASURED)
    assert figure.layout.dragmode not in ("select", "lasso")  # Streamlit ignores clicks with these
    assert [datum[0] for datum in drawn(figure)[0].customdata] == ["mine.csv:2", "mine.csv:3", "mine.csv:4"]
    assert drawn(figure)[0].customdata[1][1] == "strength 0.5"


@pytest.mark.parametrize(
    ("x", "expected"),
    [("increase", [0, 0.2, 3]), ("defender_error", [5, 5.2, 8]), ("l1", [0, 0.3, 1.1])],
)
def test_the_thief_against_each_axis(x: str, expected: list[float]):
    np.testing.assert_allclose(drawn(thief_scatter(MEASURED, x))[0].x, expected)


def test_error_bars_are_one_standard_deviation_over_seeds():
    runs = pd.concat(
        [MEASURED.assign(adversary_error=MEASURED["adversary_error"] + d, seed=d) for d in (-2, 0, 2)]
    )
    missing = {"fidelity": math.nan, "transfer_rate": math.nan}
    runs = runs.assign(parameters="{}", attack_parameters="{}", where="here", **missing)
    figure = thief_scatter(over_seeds(runs))
    assert list(drawn(figure)[0].error_y.array) == [2, 2, 2]
    assert list(drawn(figure)[0].y) == [20, 35, 60]
    assert drawn(thief_scatter(MEASURED))[0].error_y.array is None


def test_series_that_differ_in_more_than_the_defense_are_told_apart():
    rows = results(
        attack=["knockoff", "maze"], strength=1.0, defender_error=6.0, adversary_error=[30.0, 50.0], l1=0.2
    )
    assert set(named(thief_scatter(rows))) == {"DCP · knockoff · measured", "DCP · maze · measured"}


def test_the_victims_versions_have_marks_of_their_own_instead_of_words():
    rows = results(
        precision=["fp32", "ptq", "qat"],
        strength=1.0,
        defender_error=6.0,
        adversary_error=[30.0, 50.0, 51.0],
        l1=0.2,
    )
    figure = thief_scatter(rows)
    assert len({trace.marker.symbol for trace in drawn(figure)}) == 3
    assert all(trace.text is None for trace in drawn(figure))
    edges = {trace.marker.line.color for trace in drawn(figure)}
    assert len(edges) == 2  # a dot in the mark's own colour is not seen
    named = {trace.name: trace.marker.symbol for trace in figure.data if trace.showlegend is None}
    assert named.pop("DCP") == "circle"
    assert named == {"fp32 victim": "circle", "ptq victim": "circle-dot", "qat victim": "circle-open-dot"}


def test_unreliable_points_are_faint_and_say_why():
    rows = MEASURED.assign(unreliable=[False, False, True], reason=[None, None, "no convergence"])
    trace = drawn(thief_scatter(rows))[0]
    assert list(trace.marker.opacity) == [1, 1, 0.35]
    assert trace.customdata[2][1] == "strength 1<br>unreliable: no convergence"
    assert "35.0 %" in describe_thief_scatter(rows)


def test_the_constraint_is_shaded_and_the_front_is_a_staircase():
    figure = thief_scatter(MEASURED, limit=1.0, front=MEASURED[:2])
    assert figure.layout.annotations[0].text == "allowed"
    (region,) = figure.layout.shapes
    assert (region.x0, region.x1) == (0, 1)
    assert thief_scatter(MEASURED, "defender_error", limit=6).layout.shapes[0].x0 == 5
    front = named(figure)["Pareto front"]
    assert list(front.y) == [20, 35]
    assert front.line.shape == "hv"


def test_a_scatter_without_points_still_has_its_axes():
    figure = thief_scatter(MEASURED[:0])
    assert not figure.data
    assert titles(figure)[1] == "thief's test error (%)"
    assert "no reliable point yet" in describe_thief_scatter(MEASURED[:0])


def test_describe_thief_scatter_keeps_paper_and_measured_apart(paper: pd.DataFrame):
    text = describe_thief_scatter(pd.concat([MEASURED, paper], ignore_index=True))
    assert "of 3 points (measured) DCP is highest, 60.0 % at 3" in text
    assert "of 18 points (paper) DCP is highest, 59.7 % at most 1" in text


def test_bounds_too_close_to_be_read_are_named_once(paper: pd.DataFrame):
    far = MEASURED.assign(defender_error=95.0)
    near = [note.text for note in thief_scatter(paper).layout.annotations]
    wide = [note.text for note in thief_scatter(pd.concat([far, paper], ignore_index=True)).layout.annotations]
    assert len(near) == 3
    assert wide == ["≤ +1 point (paper)"]


def test_bound_labels():
    assert [bound_label("increase", at) for at in (1.0, 2.0)] == ["≤ +1 point (paper)", "≤ +2 points (paper)"]
    assert bound_label("l1", 0.9) == "≤ 0.9 (paper)"


def test_the_legend_has_one_entry_a_defense_and_says_what_filled_and_open_mean(paper: pd.DataFrame):
    several = pd.concat([MEASURED, MEASURED.assign(thief="top-1"), paper], ignore_index=True)
    shown = [trace for trace in thief_scatter(several).data if trace.showlegend is None]
    assert [trace.name for trace in shown] == [
        "No defense", "DCP", "RS", "AM", "MAD", "GRAD²", "measured", "paper",
    ]  # fmt: skip
    assert [trace.marker.symbol for trace in shown[-2:]] == ["circle", "circle-open"]


def test_lines_of_one_defense_are_named_at_their_end():
    several = pd.concat([MEASURED, MEASURED.assign(thief="top-1")], ignore_index=True)
    lines = named(thief_scatter(several))
    assert list(lines["DCP · top-1 · measured"].text) == ["", "", "top-1"]
    assert drawn(thief_scatter(MEASURED))[0].text is None


def test_against_the_budget_each_strength_has_its_line():
    rows = results(budget=[1000, 1000, 5000, 5000], strength=[0.5, 0.9, 0.5, 0.9], defender_error=5.0, l1=0.1,
                   adversary_error=[30.0, 40.0, 20.0, 30.0])  # fmt: skip
    lines = named(thief_scatter(rows, "budget"))
    assert list(lines["DCP · 0.9 · measured"].x) == [1000, 5000]
    assert list(lines["DCP · 0.9 · measured"].y) == [40, 30]


def test_points_beyond_three_times_the_allowed_rise_are_arrows_at_the_edge() -> None:
    (trace,) = drawn(thief_scatter(MEASURED, "increase", limit=0.5))
    np.testing.assert_allclose(trace.x, [0, 0.2, 1.5])
    assert list(trace.marker.symbol) == ["circle", "circle", "triangle-right"]
    assert drawn(thief_scatter(MEASURED, "l1", limit=0.1))[0].x[-1] == 1.1


def test_errors_that_no_defense_changes_are_named_lines() -> None:
    figure = thief_scatter(MEASURED, "l1", levels={"victim": 5.0, "labels only": 22.0})
    assert [shape.y0 for shape in figure.layout.shapes] == [5, 22]
    assert [(note.text, note.y) for note in figure.layout.annotations] == [("victim", 5), ("labels only", 22)]


def test_names_of_lines_close_to_each_other_stand_below_each_other() -> None:
    figure = thief_scatter(MEASURED, "l1", levels={"victim": 5.0, "far": 40.0, "labels only": 5.9, "best": 5.4})
    assert [(note.text, note.y) for note in figure.layout.annotations] == [
        ("labels only<br>best<br>victim", 5.9),
        ("far", 40),
    ]
