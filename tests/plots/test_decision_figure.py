import math

import pandas as pd
from drawn import titles

from dcp_core.plots.decision import describe_gains, gains

TABLE = pd.DataFrame(
    {
        "defense": ["dcp", "rs", "mad"],
        "strength": [0.9, 0.32, math.nan],
        "gain": [12.0, 3.0, math.nan],
        "gain_low": [10.0, math.nan, math.nan],
        "gain_high": [15.0, math.nan, math.nan],
        "increase": [0.1, 0.0, math.nan],
        "l1": [0.5, 0.6, math.nan],
        "l1_queries": [0.8, 0.3, math.nan],
        "adversary_error": [52.0, 43.0, math.nan],
        "best_error": [44.0, 43.0, math.nan],
        "best_thief": ["top-1", "as is", None],
    }
)


def test_each_defense_within_the_limits_has_a_mark_with_its_interval():
    figure = gains(TABLE)
    marks = {trace.y[0]: trace for trace in figure.data if not trace.marker.symbol.endswith("-open")}
    assert list(marks) == ["RS 0.32", "DCP 0.9"]  # drawn from below: the most helpful on top
    assert marks["DCP 0.9"].x[0] == 12
    assert (marks["DCP 0.9"].error_x.array[0], marks["DCP 0.9"].error_x.arrayminus[0]) == (3, 2)
    assert marks["RS 0.32"].error_x.array is None
    assert titles(figure)[0] == "added to the thief's error (percentage points)"


def test_the_best_measured_thief_has_an_open_mark_where_that_is_not_the_one_who_trusts():
    (best,) = (trace for trace in gains(TABLE).data if trace.marker.symbol.endswith("-open"))
    assert (best.y[0], best.x[0]) == ("DCP 0.9", 4)  # 52 - 44 points less than 12
    assert "top-1" in best.hovertemplate


def test_labels_alone_are_a_line_and_the_limits_are_written_below():
    figure = gains(TABLE, 6.0, "mean l1 ≤ 0.9")
    assert [line.x0 for line in figure.layout.shapes] == [0, 6]
    assert figure.layout.annotations[0].text == "labels only"
    assert "mean l1 ≤ 0.9" in titles(figure)[0]
    assert len(gains(TABLE).layout.shapes) == 1


def test_the_sentence_gives_the_same_numbers():
    assert describe_gains(TABLE).endswith("DCP +12.0 (+10.0 to +15.0); RS +3.0.")
    assert describe_gains(TABLE, 6.0).endswith("RS +3.0; labels only +6.0.")
    assert "no defense has a point" in describe_gains(TABLE[2:])
