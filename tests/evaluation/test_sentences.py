"""Sentences that say what a defense did."""

import numpy as np

from dcp_core import Deception, make_defense
from dcp_core.evaluation.sentences import about_answer, about_tradeoff

CLASSES = ("stop", "yield", "no entry")
SURE = np.array([0.996, 0.003, 0.001])
UNSURE = np.array([0.5, 0.3, 0.2])


def test_an_answer_above_the_threshold_is_told_with_the_threshold_and_what_to_try() -> None:
    assert about_answer(Deception(beta=0.9), SURE, SURE, CLASSES) == (
        "DCP left this answer alone: the victim is 100 % sure, above τ = 0.9. Try “unsure”."
    )


def test_the_printed_direction_leaves_unsure_answers_alone() -> None:
    told = about_answer(Deception(beta=0.9, perturb="confident"), UNSURE, UNSURE, CLASSES)
    assert told.endswith("the victim is 50 % sure, below τ = 0.9. Try “sure and right”.")


def test_a_probability_beside_the_threshold_does_not_look_equal_to_it() -> None:
    near = np.array([0.9004, 0.0996, 0.0])
    assert "90.04 % sure, above τ = 0.9" in about_answer(Deception(beta=0.9), near, near, CLASSES)


def test_strength_zero_and_no_defense_have_their_own_words() -> None:
    assert "as it was at β = 0" in about_answer(Deception(beta=0.0), UNSURE, UNSURE, CLASSES)
    assert "as it was at β = 0" in about_answer(make_defense("rs", beta=0.0), UNSURE, UNSURE, CLASSES)
    assert "There is no defense" in about_answer(make_defense("none"), UNSURE, UNSURE, CLASSES)


def test_a_moved_answer_is_told_by_its_distance_and_its_top_class() -> None:
    kept = about_answer(Deception(), UNSURE, np.array([0.4, 0.35, 0.25]), CLASSES)
    assert kept.startswith("DCP moved this answer by 0.20 of at most 2: stop now gets 40 % instead of 50 %.")
    changed = about_answer(Deception(), UNSURE, np.array([0.3, 0.5, 0.2]), CLASSES)
    assert "changed its top class from stop to yield" in changed


def test_a_tradeoff_names_the_owners_cost_and_the_best_thief() -> None:
    point = {"strength": 0.9, "l1": 0.21, "defender_error": 6.634}
    told = about_tradeoff(Deception(), point, 6.63, (8.6, 9.9))
    assert told == (
        "At β = 0.9, DCP moves answers by 0.21 on average, and your error stays at 6.63 %. "
        "The best thief measured against it errs on 9.9 % of the pictures instead of 8.6 %."
    )
    risen = about_tradeoff(Deception(), point | {"defender_error": 7.1}, 6.63, (8.6, 9.0))
    assert "your error goes from 6.63 to 7.10 %" in risen
    assert "hardly any effect" in risen
    assert "No thief was measured" in about_tradeoff(Deception(), point, 6.63)
