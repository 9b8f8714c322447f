import math

import pandas as pd
import pytest

from dcp_core.results.decision import (
    Needs,
    as_good,
    cleverer,
    difference,
    label_only,
    operating_points,
    recommended,
)
from dcp_core.results.schema import COLUMNS

COMMON = dict.fromkeys(COLUMNS) | {"unreliable": False, "thief": "as is", "victim_error": 10.0, "runs": 3}


def point(defense: str, thief_error: float, std: float, **more: object) -> dict[str, object]:
    errors = {
        "adversary_error": thief_error,
        "adversary_error_std": std,
        "defender_error": 10.0,
        "l1": 0.5,
        "l1_queries": 0.5,
    }
    return COMMON | {"defense": defense, "strength": 0.5, "parameters": "{}"} | errors | more


def points(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(rows)


NONE = point("none", 40.0, 2.0, strength=None, l1=0.0, l1_queries=0.0)
WIDE = Needs(increase=1.0, l1=0.9)


def test_the_interval_of_a_difference_is_welchs():
    # Seeds (38, 40, 42) and (49, 50, 51): s^2 = 4 and 1; se^2 = 4/3 + 1/3 = 5/3; freedom = (5/3)^2 / ((4/3)^2/2 +
    # (1/3)^2/2) = 2.9412; Student's t at 0.975 for it is 3.2183 (between 4.303 for 2 and 3.182 for 3).
    gain, low, high = difference(pd.Series(point("dcp", 50.0, 1.0)), pd.Series(NONE))
    assert gain == 10
    half = 3.2183 * math.sqrt(5 / 3)
    assert (low, high) == (pytest.approx(10 - half, abs=0.01), pytest.approx(10 + half, abs=0.01))


def test_one_seed_has_no_interval_and_is_not_recommended():
    lone = point("dcp", 90.0, math.nan, runs=1)
    assert math.isnan(difference(pd.Series(lone), pd.Series(NONE))[1])
    assert recommended(operating_points(points(NONE, lone), WIDE)) is None


def test_the_most_helpful_within_the_limits_is_recommended():
    table = operating_points(
        points(
            NONE,
            point("dcp", 60.0, 1.0),
            point("dcp", 80.0, 1.0, strength=0.9, l1_queries=1.2),  # moves answers too far
            point("rs", 50.0, 1.0),
            point("mad", 95.0, 1.0, defender_error=12.0),  # costs the owner too much
        ),
        WIDE,
    )
    assert table["defense"].tolist() == ["dcp", "rs", "mad"]
    best = recommended(table)
    assert best is not None
    assert (best["defense"], best["strength"], best["gain"], best["increase"]) == ("dcp", 0.5, 20.0, 0.0)
    assert "at least 2.00 points" in table.set_index("defense")["why_not"]["mad"]
    allowed = recommended(
        operating_points(points(NONE, point("mad", 95.0, 1.0, defender_error=12.0)), Needs(2, 0.9))
    )
    assert allowed is not None
    assert allowed["defense"] == "mad"


def test_a_gain_that_seeds_alone_explain_is_shown_but_not_recommended():
    table = operating_points(points(NONE, point("dcp", 42.0, 2.0)), WIDE)
    assert table["gain"].tolist() == [2.0]
    assert recommended(table) is None


def test_rivals_are_those_that_seeds_cannot_tell_from_the_best():
    given = points(
        NONE, point("dcp", 60.0, 1.0), point("rs", 59.0, 1.0), point("mad", 50.0, 1.0), point("am", 59.5, math.nan)
    )
    table = operating_points(given, WIDE)
    best = recommended(table)
    assert best is not None
    assert as_good(table, best)["defense"].tolist() == ["am", "rs"]


def test_one_file_leaves_out_what_needs_a_second_network():
    given = points(NONE, point("mad", 90.0, 1.0), point("rs", 50.0, 1.0))
    best = recommended(operating_points(given, Needs(1.0, 0.9, one_file=True)))
    assert best is not None
    assert best["defense"] == "rs"


def test_points_not_to_be_trusted_and_cases_without_an_undefended_thief_give_nothing():
    doubtful = point("dcp", 90.0, 1.0, unreliable=True)
    assert recommended(operating_points(points(NONE, doubtful), WIDE)) is None
    assert operating_points(points(point("dcp", 90.0, 1.0)), WIDE).empty
    assert recommended(operating_points(points(NONE), WIDE)) is None


def test_cleverer_thieves_are_those_of_the_very_same_defense():
    strong = point("dcp", 80.0, 1.0, parameters='{"beta": 1.2}')
    knows = point("dcp", 45.0, 1.0, parameters='{"beta": 1.2}', thief="top-1")
    other = point("dcp", 41.0, 1.0, parameters='{"beta": 0.9}', thief="top-1")
    labels = point("none", 55.0, 1.0, thief="top-1")
    given = points(NONE, strong, knows, other, labels)
    assert cleverer(given, pd.Series(strong))["adversary_error"].tolist() == [45.0]
    found = label_only(given)
    assert found is not None
    assert found["adversary_error"] == 55
    assert label_only(points(NONE)) is None
    # a clever thief's points are not the defense's own
    assert operating_points(given, WIDE)["gain"].tolist() == [40.0]
