import pandas as pd
import pytest

from dcp_core.results.constraints import STD
from dcp_core.results.facts import about_thief, as_text, values_of, what_defenses_add
from dcp_core.results.rows import load_results, thief_points


def thief(*errors: tuple[str, float, float]) -> pd.DataFrame:
    """Points of one thief: defense, mean l1, and the clone's error with seeds 0, 1, 2 a little around it."""
    rows = [
        {
            "defense": defense, "strength": 0.9, "l1": l1, "l1_queries": l1, "adversary_error": error, STD: 0.1,
            "victim_error": 5.0, "defender_error": 5.0 + l1, "unreliable": False, "attack": "knockoff",
            "by_seed": f'{{"0": {error - 0.1}, "1": {error}, "2": {error + 0.1 + (l1 > 0) * 0.01}}}',
        }
        for defense, l1, error in errors
    ]  # fmt: skip
    return pd.DataFrame(rows)


WEAK = thief(("none", 0.0, 20.0), ("dcp", 0.5, 30.0), ("rs", 0.9, 50.0))


def test_the_sentence_names_the_best_defense_within_the_limits() -> None:
    assert "DCP at strength 0.9 hinders this thief most: its clone misses 30 instead of 20 of 100" in about_thief(
        WEAK, 1, 0.6, "l1"
    )
    assert "RS at strength 0.9 hinders this thief most: its clone misses 50" in about_thief(WEAK, 1, 1, "l1")
    assert "No measured defense lies within your limits" in about_thief(WEAK, 1, 0.1, "l1")
    assert "No measured defense lies within your limits" in about_thief(WEAK, 0.1, 1, "l1")


def test_a_gain_of_less_than_a_point_is_none() -> None:
    told = about_thief(thief(("none", 0.0, 20.0), ("dcp", 0.5, 20.5)), 1, 1, "l1")
    assert "no measured defense clearly hinders this thief" in told
    assert "20 of 100" in told


def test_without_an_undefended_thief_nothing_is_said_of_what_a_defense_adds() -> None:
    alone = WEAK[WEAK["defense"] != "none"]
    assert "not measured without a defense" in about_thief(alone, 1, 1, "l1")
    assert what_defenses_add(alone).empty


def test_what_defenses_add_is_the_difference_by_seed() -> None:
    found = what_defenses_add(WEAK).set_index("defense")
    assert list(found.index) == ["dcp", "rs"]
    assert found.loc["dcp", "adversary_error"] == pytest.approx(10, abs=0.01)
    assert 0 < found.loc["dcp", STD] < 0.1  # of the differences; the errors themselves vary more


def test_facts_of_shipped_results_have_words_and_the_most_frequent_comes_first() -> None:
    points = thief_points(load_results()[0])
    points = points[(points["victim"] == "signs-resnet8") & (points["source"] == "measured")]
    attacks = values_of(points, "attack")
    assert next(iter(attacks)) == "knockoff"
    assert attacks["knockoff"] == "KnockoffNets"
    assert values_of(points, "budget")["2000"] == "2,000 queries"
    assert values_of(points, "queries_from")[""] == "none: the attack draws its own"
    counts = [int((as_text(points, "attack") == each).sum()) for each in attacks]
    assert counts == sorted(counts, reverse=True)


def test_a_strong_thief_comes_before_the_beginners_that_have_more_points() -> None:
    points = thief_points(load_results()[0])
    points = points[(points["victim"] == "signs-resnet8") & (points["source"] == "measured")]
    assert set(as_text(points[points["attack"] == "dfme"], "recipe")) == {""}
    points = points[points["budget"] == 2000]
    assert list(values_of(points, "recipe")) == ["strong", "plain"]
    recipe = as_text(points, "recipe")
    assert (recipe == "plain").sum() > (recipe == "strong").sum() > 0
    beginners = points[recipe == "plain"]
    assert set(beginners["clone"]) == {"resnet8"}
    assert list(values_of(beginners, "recipe")) == ["plain"]
