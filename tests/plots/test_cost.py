"""The figure and tables of Table III: marks and values of each source, and the alt text."""

import pandas as pd
import pytest
from drawn import named, titles

from dcp_core.plots import cost
from dcp_core.results.table3 import LITERAL, OURS, PAPER

NAN = float("nan")


@pytest.fixture
def cells() -> pd.DataFrame:
    rows = [
        (OURS, "none", 1.0, NAN, NAN, 2.0, 1.9, 2.2, 10.0, 1.0),
        (OURS, "mad", 2.0, 1.8, 2.4, 4.0, 3.9, 4.1, 25.0, 2.5),
        (LITERAL, "mad", 44.0, 40.0, 45.0, 88.0, 80.0, 99.0, NAN, NAN),
        (PAPER, "mad", 580.2, NAN, NAN, 58.02, NAN, NAN, NAN, 21.5),
    ]
    names = (
        "who defense latency latency_low latency_high latency_ms latency_low_ms latency_high_ms energy_mj energy"
    )
    table = pd.DataFrame(rows, columns=names.split())
    return table.assign(
        latency_p95_ms=NAN, energy_low_mj=table["energy_mj"] - 1, energy_high_mj=table["energy_mj"] + 2,
        repeats=[9, 9, 9, None], hardware="a machine",
    )  # fmt: skip


def test_ratios_are_drawn_on_a_log_axis_with_intervals_of_what_was_measured(cells: pd.DataFrame) -> None:
    figure = cost.costs(cells, "latency")
    drawn = named(figure)
    assert figure.layout.xaxis.type == "log"
    assert list(drawn[OURS].x) == [1.0, 2.0]
    assert list(drawn[OURS].y) == ["No defense", "MAD"]
    assert drawn[OURS].error_x.array[1] == pytest.approx(0.4)
    assert drawn[OURS].error_x.arrayminus[1] == pytest.approx(0.2)
    assert drawn[PAPER].error_x.array is None
    assert len({trace.marker.symbol for trace in figure.data}) == 3  # without colour they are told apart
    assert "relative to no defense" in titles(figure)[0]
    assert figure.layout.shapes[0].x0 == 1.0


def test_absolute_times_have_no_line_at_one_and_their_own_intervals(cells: pd.DataFrame) -> None:
    figure = cost.costs(cells, "latency_ms")
    assert not figure.layout.shapes
    assert named(figure)[LITERAL].error_x.array[0] == pytest.approx(11)
    assert "(ms)" in titles(figure)[0]


def test_only_what_is_known_of_a_quantity_is_drawn(cells: pd.DataFrame) -> None:
    assert set(named(cost.costs(cells, "energy"))) == {OURS, PAPER}
    assert not cost.costs(cells[:0], "energy").data


def test_the_description_says_whose_ratio_is_which(cells: pd.DataFrame) -> None:
    text = cost.describe_costs(cells, "latency")
    assert "measured: MAD 2;" in text
    assert "measured, as published: MAD 44" in text
    assert "paper: MAD 580" in text
    assert "nothing known yet" in cost.describe_costs(cells[:0])


def test_the_table_of_latencies_has_the_papers_beside_ours(cells: pd.DataFrame) -> None:
    table = cost.latency_table(cells)
    assert table["defense"].tolist() == ["No defense", "MAD"]
    mad = table.iloc[1]
    assert (mad["× no defense"], mad["95 % interval"], mad["repeats"]) == (2.0, "1.8 to 2.4", 9)
    assert (mad["×, as published"], mad["×, paper"], mad["ms, paper"]) == (44.0, 580.2, 58.02)
    assert pd.isna(table.iloc[0]["×, paper"])


def test_the_table_of_latencies_leaves_out_columns_without_a_number(cells: pd.DataFrame) -> None:
    assert "p95, ms" not in cost.latency_table(cells)
    paper = cost.latency_table(cells[cells["who"] == PAPER])
    assert list(paper) == ["defense", "×, paper", "ms, paper"]


def test_the_table_of_energies_has_only_what_a_counter_gave(cells: pd.DataFrame) -> None:
    table = cost.energy_table(cells)
    assert table["mJ a query"].tolist() == [10.0, 25.0]
    assert table["lowest to highest window"].tolist() == ["9 to 12", "24 to 27"]
    assert cost.energy_table(cells.assign(energy_mj=NAN)).empty
