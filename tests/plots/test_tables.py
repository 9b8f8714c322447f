import math

import pandas as pd
import plotly.graph_objects as go
from drawn import named, titles

from dcp_core.plots import (
    cost_dots,
    describe_cost,
    describe_table2,
    describe_table2_grid,
    table2_bars,
    table2_gaps,
    table2_grid,
    thief_scatter,
)
from dcp_core.plots.tables import ADDED
from dcp_core.results.constraints import beside_paper
from dcp_core.results.rows import SHIPPED, load_results
from dcp_core.results.table3 import ratios


def test_table2_puts_our_bars_beside_the_papers_open_ones():
    ours = pd.DataFrame(
        {
            "source": "measured",
            "defense": ["dcp", "rs"],
            "max_defender_increase": 1.0,
            "adversary_error": [44.0, math.nan],
        }
    )
    rows, _ = load_results(SHIPPED)
    bounds = rows[(rows["dataset"] == "svhn") & rows["max_defender_increase"].notna()]
    figure = table2_bars(pd.concat([bounds, ours]))
    bars = named(figure)
    assert set(bars) == {"≤ +1, measured", "≤ +1, paper", "≤ +2, paper", "≤ +5, paper"}
    assert dict(zip(bars["≤ +1, measured"].x, bars["≤ +1, measured"].y, strict=True))["DCP"] == 44
    assert dict(zip(bars["≤ +5, paper"].x, bars["≤ +5, paper"].y, strict=True))["MAD"] == 51.98
    assert bars["≤ +1, paper"].marker.line.color == bars["≤ +1, measured"].marker.color
    assert bars["≤ +1, paper"].marker.color.endswith(",0.12)")
    assert len({bars[f"≤ +{delta}, paper"].marker.line.color for delta in (1, 2, 5)}) == 3
    assert figure.layout.barmode == "group"
    assert figure.layout.xaxis.categoryarray == ("No defense", "DCP", "RS", "AM", "MAD", "GRAD²")
    assert titles(figure) == ("defense", "thief's test error (%)")
    assert "DCP with 59.7 % at +1 (paper)" in describe_table2(bounds)
    assert "none known yet" in describe_table2(ours[:0])
    assert titles(table2_bars(bounds, ADDED)) == ("defense", "thief's error above the undefended (points)")
    assert "DCP with 59.7 points at +1 (paper)" in describe_table2(bounds, ADDED)


def test_table3_shows_ratios_on_a_logarithmic_axis_with_a_marker_for_each_data_set():
    rows, _ = load_results(SHIPPED)
    costs = ratios(rows.dropna(subset=["latency_ms"]))
    assert named(cost_dots(costs))["cifar10, measured"].marker.symbol == "circle"  # filled
    costs = costs[costs["source"] == "paper"]
    figure = cost_dots(costs)
    assert figure.layout.xaxis.type == "log"
    assert titles(figure) == ("latency relative to no defense, log", "defense")
    traces = named(figure)
    assert len(traces) == 5
    assert len({trace.marker.symbol for trace in figure.data}) == 5
    cifar = traces["cifar10, paper"]  # Table III: 0.10, 0.10, 0.14, 58.02, 4.09 and 0.11 ms
    assert dict(zip(cifar.y, cifar.x.round(2), strict=True)) == {
        "No defense": 1.0,
        "RS": 1.0,
        "AM": 1.4,
        "MAD": 580.2,
        "GRAD²": 40.9,
        "DCP": 1.1,
    }
    assert cifar.marker.symbol.endswith("-open")
    assert "paper: No defense cheapest (1), MAD most expensive" in describe_cost(costs)
    assert titles(cost_dots(costs, "energy"))[0] == "energy relative to no defense, log"


def test_the_grid_has_both_numbers_in_each_cell_and_their_difference_as_colour():
    rows, _ = load_results(SHIPPED)
    bounds = rows[rows["max_defender_increase"].notna()]
    mine = {"source": "measured", "dataset": "cifar10", "max_defender_increase": 1.0}
    ours = pd.DataFrame([{**mine, "defense": "dcp", "adversary_error": 46.0}])
    cells = beside_paper(pd.concat([bounds, ours]))
    assert len(cells) == 5 * 6 * 3  # data sets, defenses, allowed increases
    figure = table2_grid(cells, {"svhn": "svhn ← cifar10", "cifar10": "cifar10 ← cifar100"})
    heat, text = figure.data
    assert len(text.text) == 2 * 6 * 3
    found = {
        (data, increase, defense): (words, color)
        for data, increase, defense, words, color in zip(*text.x, text.y, text.text, heat.z, strict=True)
    }
    words, color = found["cifar10 ← cifar100", "≤ +1", "DCP"]  # the paper: 21.87
    assert words == "<b>46.0</b><br>21.9"
    assert round(color, 2) == 24.13
    words, color = found["svhn ← cifar10", "≤ +5", "MAD"]
    assert words == "<b>–</b><br>52.0"
    assert math.isnan(color)
    assert heat.zmax == -heat.zmin >= 24.13
    assert "1 of 90 cells are measured" in describe_table2_grid(cells)
    assert "+24.1 points, DCP on cifar10" in describe_table2_grid(cells)
    assert "nothing is measured" in describe_table2_grid(beside_paper(bounds))


def test_a_bar_says_at_which_strength_it_is_attained_and_a_gap_why_it_is_one():
    cells = pd.DataFrame(
        {
            "source": "measured",
            "defense": ["dcp", "mad", "mad"],
            "max_defender_increase": [1.0, 1.0, 2.0],
            "adversary_error": [44.0, math.nan, math.nan],
            "strength": [0.9, math.nan, math.nan],
            "reason": ["", "too far", "too far"],
        }
    )
    assert list(named(table2_bars(cells))["≤ +1, measured"].customdata) == [", at strength 0.9", ""]
    assert not named(table2_bars(cells))["≤ +1, measured"].error_y.visible
    spread = named(table2_bars(cells.assign(adversary_error_std=[2.0, math.nan, math.nan])))
    assert next(iter(spread["≤ +1, measured"].error_y.array)) == 2.0
    paired = cells.assign(adversary_error_std=2.0, low=[41.0, math.nan, math.nan], high=[48.0, math.nan, math.nan])
    bars = named(table2_bars(paired, ADDED))["≤ +1, measured"].error_y
    assert (bars.array[0], bars.arrayminus[0]) == (4, 3)
    assert "ours: l1 ≤ 1" in titles(table2_bars(cells, within="l1 ≤ 1"))[0]
    assert table2_gaps(cells) == "MAD at +1, +2 (too far)"
    assert table2_gaps(cells[:1]) == ""


def test_no_figure_brings_a_template_of_its_own():
    rows, _ = load_results(SHIPPED)
    bounds = rows[rows["max_defender_increase"].notna()]
    for figure in (thief_scatter(bounds), table2_bars(bounds), cost_dots(ratios(rows))):
        assert figure.layout.template == go.Figure().layout.template
