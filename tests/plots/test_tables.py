import math

import pandas as pd
import plotly.graph_objects as go
from drawn import named, titles

from dcp_core.plots import cost_dots, describe_cost, describe_table2, table2_bars, table2_gaps, thief_scatter
from dcp_core.plots.tables import ADDED
from dcp_core.results.rows import SHIPPED, load_results


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


def test_table3_is_logarithmic_with_a_marker_for_each_data_set():
    rows, _ = load_results(SHIPPED)
    assert named(cost_dots(rows))["cifar10, measured"].marker.symbol == "circle"  # filled
    rows = rows[rows["source"] == "paper"]
    figure = cost_dots(rows)
    assert figure.layout.xaxis.type == "log"
    assert titles(figure) == ("latency of a query (ms), log", "defense")
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
    assert "paper: No defense cheapest (0.088), MAD most expensive (193)" in describe_cost(rows)
    assert titles(cost_dots(rows, "energy_wh"))[0] == "energy for all queries (Wh), log"


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
    for figure in (thief_scatter(bounds), table2_bars(bounds), cost_dots(rows)):
        assert figure.layout.template == go.Figure().layout.template
