import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from dcp_core.evaluation.metrics import TOUCHED
from dcp_core.plots import (
    cost_dots,
    describe_cost,
    describe_l1_distribution,
    describe_strength_curves,
    describe_table2,
    describe_thief_scatter,
    l1_distribution,
    strength_curves,
    table2_bars,
    thief_scatter,
)
from dcp_core.plots.style import MARKS
from dcp_core.plots.tradeoffs import CURVES, bound_label
from dcp_core.results import SHIPPED, load_results, over_seeds

BANDED = ("defender_error", "l1", "touched", "changed", "entropy")


def curve(defense: str, strengths: list[float]) -> pd.DataFrame:
    values = np.linspace(1, 2, len(strengths))
    table = pd.DataFrame({"defense": defense, "strength": strengths} | dict.fromkeys(CURVES, values))
    return table.assign(
        **{f"{y}_low": values - 0.5 for y in BANDED}, **{f"{y}_high": values + 0.5 for y in BANDED}
    )


CURVE_TABLE = pd.concat([curve("dcp", [0, 0.5, 1]), curve("rs", [0, 0.01]), curve("label", [math.nan])])


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


def named(figure: go.Figure) -> dict[str, go.Scatter]:
    return {trace.name: trace for trace in figure.data}


def titles(figure: go.Figure) -> tuple[str, str]:
    return figure.layout.xaxis.title.text, figure.layout.yaxis.title.text


@pytest.mark.parametrize("y", CURVES)
def test_strength_curves_overlay_defenses_with_their_marks_and_bands(y: str):
    figure = strength_curves(CURVE_TABLE, y)
    traces = named(figure)
    assert list(traces["DCP"].x) == [0, 0.5, 1]
    assert list(traces["DCP"].y) == [1, 1.5, 2]
    assert traces["RS"].marker.symbol == "square"
    assert traces["RS"].line.dash == "dash"
    assert list(traces["Label only"].x) == [0]
    assert titles(figure) == ("strength (each defense's own parameter)", CURVES[y])
    bands = [name for name in traces if "95 % band" in name]
    assert bands == (["DCP, 95 % band", "RS, 95 % band"] if y in BANDED else [])
    if bands:
        band = traces[bands[0]]
        assert list(band.y) == [1.5, 2, 2.5, 1.5, 1, 0.5]
        assert list(band.x) == [0, 0.5, 1, 1, 0.5, 0]
        assert band.fillcolor == "rgba(225,84,43,0.18)"


def test_strength_curves_mark_the_current_strength():
    assert not strength_curves(CURVE_TABLE, "l1").layout.shapes
    figure = strength_curves(CURVE_TABLE, "l1", current=0.7)
    assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 0.7
    assert figure.layout.annotations[0].text == "now 0.7"


def test_strength_curves_can_share_the_l1_axis():
    figure = strength_curves(CURVE_TABLE, "changed", x="l1")
    assert list(named(figure)["RS"].x) == [1, 2]
    assert titles(figure)[0] == CURVES["l1"]


def test_describe_strength_curves_gives_both_ends():
    text = describe_strength_curves(CURVE_TABLE, "defender_error")
    assert "owner's test error (%)" in text
    assert "DCP from 1.00 to 2.00" in text


def test_l1_distribution_shows_the_untouched_share_as_a_step_and_where_the_mean_lies():
    l1 = np.array([0, 5e-4, 0, 1.2, 1.6])  # three untouched; mean .5601, where no answer is
    figure = l1_distribution({"dcp": l1, "label": np.full(4, 0.8)})
    step, mean = figure.data[:2]
    assert step.name == "DCP: 60 % untouched"
    assert step.line.shape == "hv"
    assert (step.x[0], step.y[0], step.x[1], step.y[1]) == (0, 0, 0, 60)
    assert step.y[-1] == 100
    assert step.x[-1] == pytest.approx(1.6)
    assert mean.name == "DCP: mean 0.56"
    assert mean.x[0] == pytest.approx(0.5601)
    assert mean.y[0] == 60
    assert named(figure)["Label only: 0 % untouched"].y[1] == 0
    assert titles(figure) == ("l1 distance of an answer (0 to 2)", "answers with at most this l1 (%)")


def test_touched_means_the_same_as_in_the_metrics():
    assert l1_distribution.__defaults__ == describe_l1_distribution.__defaults__ == (TOUCHED,)


def test_describe_l1_distribution_names_the_two_groups():
    text = describe_l1_distribution({"dcp": np.array([0, 0, 0, 1.2, 1.6]), "none": np.zeros(3)})
    assert text == (
        "DCP leaves 60 % of answers untouched, the others move by 1.40 in the median (mean l1 0.56); "
        "No defense leaves 100 % of answers untouched (mean l1 0.00)."
    )


def test_thief_scatter_works_with_the_papers_bounds_alone(paper: pd.DataFrame):
    figure = thief_scatter(paper)
    traces = named(figure)
    assert set(traces) == {
        f"{MARKS[d].label} · paper, at most" for d in ("none", "rs", "am", "mad", "grad2", "dcp")
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
        "owner's error over the undefended victim's (percentage points)",
        "thief's test error (%)",
    )


def test_the_papers_bounds_lie_at_the_l1_limit_on_the_l1_axis_and_have_no_place_on_the_owners_error(
    paper: pd.DataFrame,
):
    figure = thief_scatter(paper, "l1")
    assert set(np.concatenate([trace.x for trace in figure.data])) == {0.9}
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


def test_box_selection_finds_rows_by_their_id():
    figure = thief_scatter(MEASURED)
    assert figure.layout.dragmode == "select"
    assert [datum[0] for datum in figure.data[0].customdata] == ["mine.csv:2", "mine.csv:3", "mine.csv:4"]
    assert figure.data[0].customdata[1][1] == "strength 0.5"


@pytest.mark.parametrize(
    ("x", "expected"),
    [("increase", [0, 0.2, 3]), ("defender_error", [5, 5.2, 8]), ("l1", [0, 0.3, 1.1]), ("budget", [50_000] * 3)],
)
def test_the_thief_against_each_axis(x: str, expected: list[float]):
    np.testing.assert_allclose(thief_scatter(MEASURED, x).data[0].x, expected)


def test_error_bars_are_one_standard_deviation_over_seeds():
    runs = pd.concat([MEASURED.assign(adversary_error=MEASURED["adversary_error"] + d) for d in (-2, 0, 2)])
    runs = runs.assign(parameters="{}", fidelity=math.nan, where="here", seed=0)
    figure = thief_scatter(over_seeds(runs))
    assert list(figure.data[0].error_y.array) == [2, 2, 2]
    assert list(figure.data[0].y) == [20, 35, 60]
    assert thief_scatter(MEASURED).data[0].error_y.array is None


def test_series_that_differ_in_more_than_the_defense_are_told_apart():
    rows = results(
        attack=["knockoff", "maze"], strength=1.0, defender_error=6.0, adversary_error=[30.0, 50.0], l1=0.2
    )
    assert set(named(thief_scatter(rows))) == {"DCP · knockoff · measured", "DCP · maze · measured"}


def test_unreliable_points_are_faint_and_say_why():
    rows = MEASURED.assign(unreliable=[False, False, True], reason=[None, None, "no convergence"])
    trace = thief_scatter(rows).data[0]
    assert list(trace.marker.opacity) == [1, 1, 0.35]
    assert trace.customdata[2][1] == "strength 1<br>unreliable: no convergence"
    assert "35.0 %" in describe_thief_scatter(rows)


def test_the_constraint_is_shaded_and_the_front_is_a_staircase():
    figure = thief_scatter(MEASURED, limit=1.0, front=MEASURED[:2])
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


def test_bound_labels():
    assert [bound_label("increase", at) for at in (1.0, 2.0)] == ["≤ +1 point (paper)", "≤ +2 points (paper)"]
    assert bound_label("l1", 0.9) == "≤ 0.9 (paper)"


def test_table2_puts_our_bars_beside_the_papers_hatched_ones(paper: pd.DataFrame):
    ours = pd.DataFrame(
        {
            "source": "measured",
            "defense": ["dcp", "rs"],
            "max_defender_increase": 1.0,
            "adversary_error": [44.0, math.nan],
        }
    )
    bounds = paper[paper["max_defender_increase"].notna()]
    figure = table2_bars(pd.concat([bounds, ours]))
    bars = named(figure)
    assert set(bars) == {"≤ +1, measured", "≤ +1, paper", "≤ +2, paper", "≤ +5, paper"}
    assert dict(zip(bars["≤ +1, measured"].x, bars["≤ +1, measured"].y, strict=True))["DCP"] == 44
    assert dict(zip(bars["≤ +5, paper"].x, bars["≤ +5, paper"].y, strict=True))["MAD"] == 51.98
    assert bars["≤ +1, paper"].marker.pattern.shape == "/"
    assert not bars["≤ +1, measured"].marker.pattern.shape
    assert len({bars[f"≤ +{delta}, paper"].marker.color for delta in (1, 2, 5)}) == 3
    assert figure.layout.barmode == "group"
    assert figure.layout.xaxis.categoryarray == ("No defense", "DCP", "RS", "AM", "MAD", "GRAD²")
    assert titles(figure) == ("defense", "thief's test error (%)")
    assert "DCP with 59.7 % at +1 (paper)" in describe_table2(bounds)
    assert "none known yet" in describe_table2(ours[:0])


def test_table3_is_logarithmic_with_a_marker_for_each_data_set():
    rows, _ = load_results(SHIPPED)
    figure = cost_dots(rows)
    assert figure.layout.xaxis.type == "log"
    assert titles(figure) == ("inference latency per query (ms), logarithmic", "defense")
    traces = named(figure)
    assert len(traces) == 5
    assert len({trace.marker.symbol for trace in figure.data}) == 5
    cifar = traces["cifar10, paper"]
    assert dict(zip(cifar.y, cifar.x, strict=True)) == {
        "No defense": 0.10,
        "RS": 0.10,
        "AM": 0.14,
        "MAD": 58.02,
        "GRAD²": 4.09,
        "DCP": 0.11,
    }
    assert cifar.marker.symbol.endswith("-open")
    assert "paper: No defense cheapest (0.088), MAD dearest (193)" in describe_cost(rows)
    assert titles(cost_dots(rows, "energy_wh"))[0] == "energy for all queries (Wh), logarithmic"


def test_no_figure_brings_a_template_of_its_own():
    rows, _ = load_results(SHIPPED)
    bounds = rows[rows["max_defender_increase"].notna()]
    default = go.Figure().layout.template
    for figure in (
        strength_curves(CURVE_TABLE, "l1"),
        l1_distribution({"dcp": np.ones(3)}),
        thief_scatter(bounds),
        table2_bars(bounds),
        cost_dots(rows),
    ):
        assert figure.layout.template == default
