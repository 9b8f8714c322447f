import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcp_core.evaluation import metrics

CLEAN = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]])
MOVED = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.55, 0.25]])


def test_l1_top_confidence_and_entropy_of_two_answers_by_hand():
    found = metrics.per_answer(MOVED, CLEAN)
    assert found.l1.tolist() == pytest.approx([0, 0.4], abs=1e-6)  # .2 down, .2 up
    assert found.top.tolist() == [0, 1]
    assert found.confidence.tolist() == pytest.approx([0.7, 0.55])
    by_hand = [
        -(0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1)),
        -(0.2 * np.log(0.2) + 0.55 * np.log(0.55) + 0.25 * np.log(0.25)),
    ]
    assert found.entropy.tolist() == pytest.approx(by_hand, abs=1e-6)


def test_a_one_hot_answer_has_entropy_0_and_a_uniform_one_log_k():
    answers = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    assert metrics.per_answer(answers, answers).entropy.tolist() == pytest.approx([0, np.log(4)], abs=1e-6)


def test_strengths_in_front_give_the_same_as_one_by_one():
    generator = torch.Generator().manual_seed(0)
    answers = torch.rand(4, 50, 7, generator=generator).softmax(-1)
    clean = answers[0]
    together = metrics.per_answer(answers, clean)
    for s in range(4):
        alone = metrics.per_answer(answers[s], clean)
        for name in metrics.PerAnswer.__annotations__:
            assert torch.allclose(getattr(together, name)[s], getattr(alone, name))


def test_error_and_fidelity_are_exact_percentages():
    labels = torch.tensor([0, 0])
    assert float(metrics.error(CLEAN, labels)) == 0
    assert metrics.error(torch.stack([CLEAN, MOVED]), labels).tolist() == [0, 50]
    assert float(metrics.fidelity(MOVED, CLEAN)) == 50


def test_of_equal_posteriors_the_first_is_the_top_class():
    tie = torch.tensor([[0.1, 0.45, 0.45]])
    assert metrics.per_answer(tie, tie).top.tolist() == [1]


def test_ece_by_hand():
    confidence = torch.tensor([0.9, 0.9, 0.62])
    correct = torch.tensor([True, False, True])
    # bin of .9: |(1 + 0) - (.9 + .9)| = .8; bin of .62: |1 - .62| = .38; (.8 + .38) / 3 answers
    assert float(metrics.expected_calibration_error(confidence, correct)) == pytest.approx(118 / 3, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 200))
def test_ece_is_the_textbook_loop_over_bins(seed: int, n: int):
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.rand(3, n, generator=generator)
    correct = torch.rand(3, n, generator=generator) < confidence
    for row, right, found in zip(
        confidence, correct, metrics.expected_calibration_error(confidence, correct), strict=True
    ):
        expected = 0.0
        for m in range(15):
            inside = (row > m / 15) & (row <= (m + 1) / 15)
            if inside.any():
                gap = right[inside].double().mean() - row[inside].double().mean()
                expected += float(inside.double().mean() * gap.abs()) * 100
        assert float(found) == pytest.approx(expected, abs=1e-4)


def test_wilson_interval_of_5_in_100():
    # middle (.05 + 3.8415/200) / 1.038415 = .066647; half 1.95996 sqrt(.000475 + .00009604) / 1.038415 = .045104
    low, high = metrics.wilson(5.0, 100)
    assert float(low) == pytest.approx(2.154, abs=1e-3)
    assert float(high) == pytest.approx(11.175, abs=1e-3)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_measured_share_and_stays_between_0_and_100(wrong_of: tuple[int, int]):
    wrong, n = wrong_of
    share = 100 * wrong / n
    low, high = metrics.wilson(share, n)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 100
    assert low < high


def test_standard_error_of_the_mean():
    # variance of 1, 2, 3 is 1; / sqrt(3)
    assert float(metrics.standard_error(torch.tensor([1.0, 2.0, 3.0]))) == pytest.approx(3**-0.5)
