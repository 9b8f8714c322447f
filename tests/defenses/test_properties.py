"""What every defense promises, tried on posteriors that nobody chose."""

import dataclasses
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcp_core.defenses import (
    DEFENSES,
    Deception,
    LabelOnly,
    RandomNoise,
    ReverseSigmoid,
    Rounding,
    TopK,
    make_defense,
)
from dcp_core.defenses.base import Defense
from dcp_core.defenses.modelguard_s import Learned, StoredAnswers

WITHOUT_INPUTS = [name for name, kind in DEFENSES.items() if not kind.needs_inputs]


@st.composite
def logits(draw: st.DrawFn, rows: int = 6) -> Tensor:
    """Logits from flat to so peaked that posteriors round to exact 0 and 1."""
    classes = draw(st.integers(2, 40))
    scale = draw(st.sampled_from([0.0, 0.5, 3.0, 12.0, 60.0, 300.0]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return torch.randn(rows, classes, generator=generator, dtype=dtype) * scale


@st.composite
def defenses(draw: st.DrawFn, names: tuple[str, ...] = tuple(WITHOUT_INPUTS)) -> Defense:
    """Any defense with any declared parameters."""
    name = draw(st.sampled_from(names))
    values = {}
    for key, declared in DEFENSES[name].parameters().items():
        if declared.choices:
            values[key] = draw(st.sampled_from(declared.choices))
        elif declared.optional and draw(st.booleans()):
            values[key] = None
        elif declared.step == 1.0 and float(declared.low).is_integer():
            values[key] = draw(st.integers(int(declared.low), int(declared.high)))
        else:
            values[key] = draw(st.floats(declared.low, declared.high))
    return make_defense(name, **values)


def armed(defense: Defense, classes: int) -> Defense:
    """The defense, with stored answers to learn on where it is learned."""
    if not isinstance(defense, Learned):
        return defense
    logits = 3 * torch.randn(200, classes, generator=torch.Generator().manual_seed(classes), dtype=torch.float64)
    return defense.armed(StoredAnswers(logits))


def _seeded(defense: Defense, **given: Tensor) -> Tensor:
    return defense(**given, generator=torch.Generator().manual_seed(7))


@settings(max_examples=150, deadline=None)
@given(defenses(), logits())
def test_answers_stay_on_the_simplex(defense: Defense, z: Tensor) -> None:
    defense = armed(defense, z.shape[1])
    for answer in (_seeded(defense, logits=z), _seeded(defense, posteriors=z.softmax(-1))):
        assert answer.dtype == z.dtype
        assert bool(torch.isfinite(answer).all())
        assert float(answer.min()) >= 0
        assert float((answer.sum(-1) - 1).abs().max()) < 1e-5


@settings(max_examples=80, deadline=None)
@given(defenses(tuple(n for n in WITHOUT_INPUTS if n != "random")), logits())
def test_a_batch_is_answered_as_its_pictures_one_by_one(defense: Defense, z: Tensor) -> None:
    defense = armed(defense, z.shape[1])
    together = defense(logits=z)
    alone = torch.cat([defense(logits=row[None]) for row in z])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


@settings(max_examples=80, deadline=None)
@given(defenses(tuple(n for n in WITHOUT_INPUTS if DEFENSES[n].strength)), logits())
def test_a_sweep_gives_what_each_strength_gives_alone(defense: Defense, z: Tensor) -> None:
    defense = armed(defense, z.shape[1])
    assert defense.strength is not None
    swept = defense.sweep(defense.grid, logits=z, generator=torch.Generator().manual_seed(7))
    for strength, answer in zip(defense.grid, swept, strict=True):
        alone = _seeded(dataclasses.replace(defense, **{defense.strength: strength}), logits=z)
        torch.testing.assert_close(answer, alone, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(logits(), st.sampled_from([True, False]), st.sampled_from(["uncertain", "confident"]))
def test_strength_zero_changes_nothing(z: Tensor, cap: bool, perturb: str) -> None:
    y = z.softmax(-1)
    for defense in (Deception(beta=0.0, cap_odds=cap, perturb=perturb), ReverseSigmoid(beta=0.0, cap_odds=cap)):
        torch.testing.assert_close(defense(y), y, rtol=0, atol=1e-6)
    torch.testing.assert_close(_seeded(RandomNoise(epsilon=0.0), posteriors=y), y)


@settings(max_examples=60, deadline=None)
@given(logits(), st.floats(1.02, 1.5), st.booleans())
def test_above_one_following_tau_makes_dcp_rs_and_the_printed_form_no_defense(
    z: Tensor, beta: float, cap: bool
) -> None:
    rs = ReverseSigmoid(beta=beta, cap_odds=cap)(logits=z)
    torch.testing.assert_close(Deception(beta=beta, cap_odds=cap)(logits=z), rs, rtol=0, atol=1e-6)
    printed = Deception(beta=beta, cap_odds=cap, perturb="confident")(logits=z)
    torch.testing.assert_close(printed, z.softmax(-1), rtol=0, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(logits(), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_capped_rs_keeps_a_majority_and_obeys_its_l1_bound(z: Tensor, beta: float, gamma: float) -> None:
    y = z.double().softmax(-1)
    defended = ReverseSigmoid(beta=beta, gamma=gamma)(y)
    majority = y.amax(-1) > 0.5
    assert bool((defended.argmax(-1) == y.argmax(-1))[majority].all())
    # l1 <= 2 (1 - 1 / (1 + added mass)), with at most beta/2 added a class
    bound = 2 * (1 - 1 / (1 + beta / 2 * y.shape[1]))
    assert float((defended - y).abs().sum(-1).max()) <= bound + 1e-9


def test_the_detector_touches_only_the_answers_it_should() -> None:
    y = torch.tensor([[0.85, 0.10, 0.05], [0.95, 0.03, 0.02]], dtype=torch.float64)
    uncertain = Deception(beta=0.9)(y)
    confident = Deception(beta=0.9, perturb="confident")(y)
    assert float((uncertain[0] - y[0]).abs().sum()) > 0.1
    torch.testing.assert_close(uncertain[1], y[1])
    torch.testing.assert_close(confident[0], y[0])
    assert float((confident[1] - y[1]).abs().sum()) > 0.1


def test_tau_decouples_from_beta() -> None:
    y = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(Deception(beta=0.9, tau=0.5)(y), y)
    torch.testing.assert_close(Deception(beta=0.3, tau=0.8)(y), ReverseSigmoid(beta=0.3)(y))


def test_at_the_threshold_half_the_noise_is_applied() -> None:
    y = torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64)
    half = Deception(beta=0.4, tau=0.6)(y)
    torch.testing.assert_close(half, ReverseSigmoid(beta=0.2)(y))


def test_label_only_and_top_one_answer_the_first_of_equals() -> None:
    y = torch.tensor([[0.4, 0.4, 0.2]])
    assert LabelOnly()(y).tolist() == [[1, 0, 0]]
    assert TopK(k=1)(y).tolist() == [[1, 0, 0]]


def test_top_k_renormalises_and_takes_all_when_there_are_fewer() -> None:
    y = torch.tensor([[0.5, 0.3, 0.2]])
    torch.testing.assert_close(TopK(k=2)(y), torch.tensor([[0.625, 0.375, 0.0]]))
    torch.testing.assert_close(TopK(k=50)(y), y)


def test_rounding_keeps_digits_and_never_answers_nothing() -> None:
    torch.testing.assert_close(Rounding(digits=1)(torch.tensor([[0.57, 0.43]])), torch.tensor([[0.6, 0.4]]))
    flat = torch.full((1, 100), 0.01)
    assert Rounding(digits=1)(flat).tolist()[0] == [1.0] + [0.0] * 99


def test_random_noise_spends_its_budget_on_another_class() -> None:
    y = torch.tensor([[0.7, 0.2, 0.1]] * 400, dtype=torch.float64)
    answer = _seeded(RandomNoise(epsilon=0.5), posteriors=y)
    added = answer - 0.75 * y
    receiver = added.argmax(-1)
    assert set(receiver.tolist()) == {1, 2}
    expected = 0.5 * (1 - y[0, receiver])
    torch.testing.assert_close((answer - y).abs().sum(-1), expected)
    assert torch.equal(answer, _seeded(RandomNoise(epsilon=0.5), posteriors=y))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (torch.tensor([[0.5, float("nan")]]), "finite"),
        (torch.tensor([[0.9, 0.3]]), "sum to 1"),
        (torch.tensor([[-0.25, 1.25]]), "non-negative"),
        (torch.tensor([0.5, 0.5]), "(N, K)"),
        (torch.tensor([[1.0]]), "K >= 2"),
        (torch.tensor([[1, 0]]), "floats"),
    ],
)
def test_bad_answers_are_refused_with_a_reason(bad: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match="answers must be") as caught:
        Deception()(bad)
    assert words in str(caught.value)


def test_nan_logits_and_missing_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Deception()(logits=torch.tensor([[0.0, float("nan")]]))
    with pytest.raises(ValueError, match="either"):
        Deception()()


def test_an_empty_batch_gives_an_empty_answer() -> None:
    for name in WITHOUT_INPUTS:
        assert armed(make_defense(name), 5)(torch.zeros(0, 5)).shape == (0, 5)


def test_half_precision_is_computed_in_single() -> None:
    assert Deception()(torch.tensor([[0.75, 0.25]], dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("dcp", {"beta": 2.0}, "beta must be between 0 and 1.5"),
        ("dcp", {"beta": float("nan")}, "beta must be between"),
        ("dcp", {"beta": "0.3"}, "beta must be between"),
        ("dcp", {"perturb": "all"}, "uncertain, confident"),
        ("dcp", {"strength": 1}, "no parameter 'strength'"),
        ("dpc", {}, "unknown defense"),
        ("topk", {"k": 0}, "k must be between 1"),
    ],
)
def test_bad_parameters_are_refused_with_the_allowed_values(name: str, parameters: dict, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        make_defense(name, **parameters)
