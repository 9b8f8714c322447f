"""One defense after another answers as the two do, with the parameters of both."""

import re

import pytest
import torch
from torch import Tensor

from dcp_core.defenses import (
    DEFENSES,
    MAD,
    Deception,
    Defense,
    ModelGuardS,
    RandomNoise,
    ReverseSigmoid,
    Rounding,
    make_defense,
)
from dcp_core.defenses.chain import Chain, chain
from dcp_core.defenses.modelguard_s import Learned, StoredAnswers


def logits(count: int = 300, seed: int = 0) -> Tensor:
    return 2 * torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def test_the_second_answers_what_the_first_answered() -> None:
    both = make_defense("dcp_rounding", beta=0.7, gamma=0.5, digits=2)
    expected = Rounding(digits=2)(Deception(beta=0.7, gamma=0.5)(logits=logits()))
    assert torch.equal(both(logits=logits()), expected)


def test_the_first_gets_the_logits_that_keep_it_exact() -> None:
    sure = torch.tensor([[40.0, 0.0, -1.0]])  # y_top rounds to 1
    both = make_defense("dcp_rounding", beta=1.5, cap_odds=False, digits=6)
    expected = Rounding(digits=6)(Deception(beta=1.5, cap_odds=False)(logits=sure))
    assert torch.equal(both(logits=sure), expected)


def test_a_codebook_behind_another_defense_keeps_what_that_one_does() -> None:
    both = make_defense("dcp_mgs", beta=0.9, epsilon=0.5)
    assert isinstance(both, Learned)
    stored = StoredAnswers(logits())
    answers = both.armed(stored)(logits=logits(seed=1))
    first = Deception(beta=0.9)
    learned_behind = ModelGuardS(epsilon=0.5).armed(StoredAnswers(first(logits=logits()).log()))
    torch.testing.assert_close(answers, learned_behind(first(logits=logits(seed=1))), rtol=0, atol=1e-6)
    of_the_first = {tuple(row) for row in first(logits=logits()).numpy().round(5).tolist()}
    assert {tuple(row) for row in answers.numpy().round(5).tolist()} <= of_the_first


def test_it_declares_the_parameters_of_both_and_sweeps_the_firsts_strength() -> None:
    kind = DEFENSES["dcp_mgs"]
    assert list(kind.parameters()) == [*Deception.parameters(), *ModelGuardS.parameters()]
    assert (kind.strength, kind.grid) == (Deception.strength, Deception.grid)
    assert not kind.symmetric
    assert DEFENSES["dcp_rounding"].symmetric
    with pytest.raises(ValueError, match="epsilon must be between"):
        make_defense("dcp_mgs", epsilon=3.0)


def test_any_two_defenses_of_the_posterior_can_be_chained() -> None:
    made = chain(RandomNoise, Rounding)(epsilon=1.0, digits=1)
    assert isinstance(made, Chain)
    assert made.randomised
    dice = [torch.Generator().manual_seed(3) for _ in range(2)]
    expected = Rounding(digits=1)(RandomNoise(epsilon=1.0)(logits=logits(), generator=dice[0]))
    assert torch.equal(made(logits=logits(), generator=dice[1]), expected)
    assert not chain(ReverseSigmoid, Rounding)().randomised


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (Deception, Deception, "two different defenses, not Deception (DCP) twice"),
        (Deception, MAD, "(MAD) uses the picture"),
        (MAD, Rounding, "(MAD) uses the picture"),
        (Deception, ReverseSigmoid, "both have a parameter 'beta, cap_odds, gamma'"),
    ],
)
def test_what_cannot_be_chained_is_refused(first: type[Defense], second: type[Defense], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        chain(first, second)
