import pytest
from cases import NONE, adds, point, points

from dcp_core.results.decision import Needs
from dcp_core.results.verdict import SCALE, Verdict, decide, level_of, zones

WIDE = Needs(increase=1.0, l1=0.9)
LABELS = point("none", adds(2), thief="top-1")


def said(verdict: Verdict) -> str:
    return "\n".join([verdict.headline, *verdict.why, *verdict.not_stopped])


@pytest.mark.parametrize(
    ("share", "undefended", "level"),
    [
        (0.20, 0.60, "stops"),
        (0.21, 0.60, "slows"),
        (0.44, 0.60, "slows"),
        (0.46, 0.60, "barely matters"),
        (0.57, 0.60, "barely matters"),
        (0.58, 0.60, "no effect"),
        (0.90, 1.00, "no effect"),  # the thief has the model, although 10 % were lost
        (0.19, 0.21, "barely matters"),  # the thief was nearly that bad before
    ],
)
def test_levels(share: float, undefended: float, level: str):
    assert level_of(share, undefended) == level
    assert level in SCALE


@pytest.mark.parametrize("undefended", [0.15, 0.25, 0.6, 0.93, 1.0, 1.05])
def test_the_zones_of_the_scale_are_the_levels(undefended: float):
    ranges = zones(undefended)
    assert ranges[0][1] == 0
    assert ranges[-1][2] == max(1, undefended)
    assert [low for _, low, _ in ranges[1:]] == [high for _, _, high in ranges[:-1]]
    for level, low, high in ranges:
        assert level_of((low + high) / 2, undefended) == level


def test_the_summary_has_the_thiefs_share_without_and_with_the_defense_and_the_price():
    verdict = decide(points(NONE, point("dcp", adds(35), 0.9), point("dcp", adds(25), 0.9, thief="top-1")), WIDE)
    assert verdict.about is not None
    assert verdict.about["share"] == pytest.approx((90 - 65) / 80)
    assert verdict.summary == (
        "Without a defense, the best measured thief keeps 62 % of your model; behind DCP β = 0.9, 31 %. In exchange, your "
        "own error stays the same, and the probabilities that customers get move by 0.50 (mean l1, 0 to 2)."
    )


def test_yes_names_the_point_the_gain_the_price_and_what_it_will_not_stop():
    case = points(NONE, point("dcp", adds(35), 0.9), point("dcp", adds(25), 0.9, thief="top-1"), LABELS)
    verdict = decide(case, WIDE)
    assert (verdict.answer, verdict.level) == ("yes", "slows")  # 25 of 80 is kept
    assert verdict.headline == "Yes: deploy Deception (DCP), β = 0.9. It slows this thief."
    assert verdict.defense is not None
    assert verdict.defense.values()["beta"] == 0.9
    text = said(verdict)
    for words in (
        "has an error of 40.0 ± 2.0 %: it keeps 62 % of the model",
        "With labels only (the top class of each answer, no defense), the clone has an error of 42.0",
        "has an error of 75.0 ± 2.1 %: +35.0 points (95 % interval over 3 paired seeds: +34.8 to +35.2)",
        "The best thief measured against it is the thief who uses only the top class of each answer: an error of 65.0",
        "Your own error rises by 0.00 points; answers change by a mean l1 of 0.50 on the thief's queries",
        "this one had 5,000",
    ):
        assert words in text


def test_the_best_thief_is_judged_not_the_one_who_trusts():
    # The thief who trusts the answers loses 40 points, who inverts the defense 1: the other defense is recommended.
    case = points(
        NONE,
        point("dcp", adds(40), 0.9),
        point("dcp", adds(1), 0.9, thief="recovery (inverse)"),
        point("rs", adds(30), 0.5),
        point("rs", adds(28), 0.5, thief="top-1"),
    )
    verdict = decide(case, WIDE)
    assert verdict.headline.startswith("Yes: deploy Reverse Sigmoid (RS), β = 0.5.")
    assert "DCP β = 0.9 adds +40.0 points, but the thief who knows the defense" in said(verdict)
    alone = decide(case[case["defense"] != "rs"], WIDE)
    assert (alone.answer, alone.level) == ("no", "no effect")
    assert "With this defense, the thief keeps about as much as without it." in said(alone)


def test_no_for_a_thief_who_keeps_ninety_percent_of_the_model():
    strong = point("none", [10.5, 11.0, 11.5])
    verdict = decide(points(strong, point("dcp", [15.4, 16.0, 16.6], 0.9)), WIDE)
    assert verdict.table["proven"].all()
    assert verdict.answer == "no"
    assert "A thief who keeps at least 90 % of the model has in effect stolen it" in said(verdict)


def test_no_for_a_thief_who_fails_without_a_defense():
    weak = point("none", [75.0, 76.0, 77.0])  # keeps (90 - 76) / 80 = 17.5 %
    verdict = decide(points(weak, point("dcp", [88.0, 89.0, 90.0], 0.9)), WIDE)
    assert verdict.table["proven"].all()
    assert verdict.headline == "No: this thief fails without a defense."
    assert "there is nothing to defend against" in said(verdict)


def test_a_thief_who_fails_on_the_answers_but_not_on_labels_does_not_fail():
    weak, labels = point("none", [75.0, 76.0, 77.0]), point("none", [50.0, 51.0, 52.0], thief="top-1")
    assert "fails" not in decide(points(weak, labels, point("dcp", [88.0, 89.0, 90.0], 0.9)), WIDE).headline


def test_one_seed_is_not_enough():
    verdict = decide(points(point("none", [40.0]), point("dcp", [90.0], 0.9)), WIDE)
    assert (verdict.answer, verdict.headline) == (
        "cannot tell",
        "Cannot tell: one run of each attack is not enough.",
    )


def test_a_gain_within_the_scatter_needs_more_seeds_unless_no_seed_could_make_it_matter():
    assert (
        decide(points(NONE, point("dcp", adds(10, 9), 0.9)), WIDE).headline
        == "Cannot tell: 3 runs of each attack are too few."
    )
    small = decide(points(NONE, point("dcp", adds(0.1, 0.5), 0.9)), WIDE)
    assert small.answer == "no"
    assert small.headline == "No: no measured defense slows this thief enough."


def test_a_point_measured_only_against_the_trusting_thief_counts_labels_alone():
    # 40 points from the trusting thief; labels only leave 60 % of 62.5 %: a thief who uses the top class may lose nothing.
    verdict = decide(points(NONE, point("dcp", adds(40), 0.9), LABELS), WIDE)
    assert verdict.answer == "cannot tell"
    assert "was measured only against a thief who trusts the answers" in verdict.headline
    assert "'Use of the answers' to top-1" in said(verdict)
    unlabelled = decide(points(NONE, point("dcp", adds(40), 0.9)), WIDE)
    assert unlabelled.answer == "yes"
    assert "No other thief was measured against it." in said(unlabelled)


def test_nothing_within_the_limits_is_a_no():
    verdict = decide(points(NONE, point("dcp", adds(40), 0.9, l1_queries=1.5)), WIDE)
    assert verdict.headline == "No: no measured defense is within your limits."


def test_rivals_that_the_seeds_do_not_tell_apart_are_named():
    rival = point("rs", adds(34, 2), 0.5)
    verdict = decide(points(NONE, point("dcp", adds(35), 0.9), rival, point("mad", adds(20), 0.5)), WIDE)
    assert "is not significantly larger than that of RS β = 0.5: compare" in said(verdict)


def test_who_needs_labels_alone_sends_labels_alone():
    verdict = decide(points(NONE, LABELS), Needs(1, 0.9, label_only=True))
    assert verdict.headline == "Yes: send only the label."
    assert "with labels only of 42.0 ± 2.1 %: +2.0 points" in said(verdict)
    assert verdict.defense is not None
    assert verdict.defense.name == "label"
    assert "is not measured in this case" in said(decide(points(NONE), Needs(1, 0.9, label_only=True)))


def test_what_is_marked_unreliable_gives_no_verdict_and_says_why():
    verdict = decide(points(NONE | {"unreliable": True, "reason": "one seed"}, point("dcp", adds(40), 0.9)), WIDE)
    assert verdict.answer == "cannot tell"
    assert "Marked as unreliable: one seed." in verdict.why
    doubtful = point("dcp", adds(40), 0.9, unreliable=True, reason="busy")
    assert "no defense was measured reliably" in decide(points(NONE, doubtful), WIDE).headline
