import math

import numpy as np
import pandas as pd
import pytest
from cases import NONE, adds, point, points

from dcp_core.results.decision import Needs, kept, label_only, operating_points

WIDE = Needs(increase=1.0, l1=0.9)


def test_each_defense_is_taken_at_its_best_point_within_the_limits():
    table = operating_points(
        points(
            NONE,
            point("dcp", adds(20), 0.5),
            point("dcp", adds(40), 0.9, l1_queries=1.2),  # moves answers too far
            point("rs", adds(10), 0.5),
            point("mad", adds(55), 0.5, defender_error=12.0),  # costs the owner too much
        ),
        WIDE,
    )
    assert table["defense"].tolist() == ["dcp", "rs", "mad"]
    assert table["strength"].tolist()[:2] == [0.5, 0.5]
    assert table["gain"].tolist()[:2] == [20, 10]
    assert "at least 2.00 points" in table["why_not"][2]
    customers = operating_points(
        points(NONE, point("dcp", adds(40), 0.9, l1_queries=1.2)), Needs(1, 0.9, l1_of="l1")
    )
    assert customers["gain"].tolist() == [40]


def test_gains_are_paired_by_seed():
    # The seeds scatter by 2 points, the differences by 0.1: unpaired, +1 would be far within the scatter.
    row = operating_points(points(NONE, point("dcp", adds(1), 0.5)), WIDE).iloc[0]
    half = 4.3027 * 0.1 / math.sqrt(3)
    assert (row["gain_low"], row["gain_high"]) == (
        pytest.approx(1 - half, abs=1e-3),
        pytest.approx(1 + half, abs=1e-3),
    )
    assert row["proven"]


def test_a_gain_that_one_point_would_prove_is_not_proven_as_the_best_of_ten():
    # t = 10 / (1.5 / sqrt(3)) = 11.5 with 2 degrees of freedom: p = 0.0074, below 0.05 but not below 0.05 / 10.
    good = point("dcp", adds(10, 1.5), 0.5)
    others = [point("rs", adds(0, 5), strength) for strength in range(1, 10)]
    assert operating_points(points(NONE, good), WIDE)["proven"].tolist() == [True]
    assert not operating_points(points(NONE, good, *others), WIDE)["proven"].any()


def test_in_a_world_without_effects_at_most_one_case_in_twenty_proves_something():
    dice = np.random.default_rng(1)
    trials, found = 150, 0
    for _ in range(trials):
        defended = [
            point(name, dice.normal(50, 2, 3), strength)
            for name in ("dcp", "rs", "mad")
            for strength in (0.2, 0.5, 0.9)
        ]
        table = operating_points(points(point("none", dice.normal(50, 2, 3)), *defended), WIDE)
        found += bool(table["proven"].any())
    assert found <= 0.05 * trials


def test_the_best_measured_thief_at_a_point_says_what_is_kept():
    table = operating_points(
        points(
            NONE,
            point("dcp", adds(30), 0.9),
            point("dcp", adds(4), 0.9, thief="recovery (bayes)"),
            point("dcp", adds(12), 0.9, thief="top-1"),
            point("dcp", adds(0), 0.5, thief="top-1"),  # another point
            point("dcp", adds(1), 0.9, thief="recovery (inverse)", unreliable=True),
        ),
        WIDE,
    )
    row = table.iloc[0]
    assert (row["gain"], row["best_thief"], row["best_error"]) == (30, "recovery (bayes)", 44)
    assert row["kept"] == pytest.approx((90 - 44) / 80)  # ten classes: guessing is right in 10 %


def test_what_is_kept_is_accuracy_above_guessing():
    clone = pd.Series(point("none", [90.0, 90.0]))
    assert kept(clone) == 0
    assert kept(clone, 10.0) == 1
    assert kept(clone.replace({"cifar10": "somewhere"}), 55.0) == pytest.approx(45 / 90)  # classes unknown


def test_one_seed_has_no_interval_and_proves_nothing():
    row = operating_points(points(point("none", [40.0]), point("dcp", [90.0], 0.5)), WIDE).iloc[0]
    assert row["gain"] == 50
    assert math.isnan(row["gain_low"])
    assert not row["proven"]


def test_one_file_leaves_out_what_needs_a_second_network_and_does_not_count_it_as_tried():
    table = operating_points(
        points(NONE, point("mad", adds(50), 0.5), point("rs", adds(10), 0.5)), Needs(1, 0.9, True)
    )
    assert table["defense"].tolist() == ["rs", "mad"]
    assert "second network" in table["why_not"][1]


def test_points_not_to_be_trusted_and_cases_without_an_undefended_thief_give_nothing():
    assert operating_points(points(NONE, point("dcp", adds(50), 0.5, unreliable=True)), WIDE).empty
    assert operating_points(points(point("dcp", adds(50), 0.5)), WIDE).empty
    assert operating_points(points(NONE), WIDE).empty


def test_labels_alone_are_the_top_class_of_undefended_answers():
    labels = point("none", adds(5), thief="top-1")
    found = label_only(points(NONE, labels, point("dcp", adds(9), 0.5, thief="top-1")))
    assert found is not None
    assert found["adversary_error"] == 45
    assert label_only(points(NONE)) is None
