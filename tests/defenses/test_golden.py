"""Reference values of DCP and RS, computed once in float64 from the formulas of the paper and its released code.

Each line of `golden/dcp_vectors.txt`: the posterior's letter, beta, gamma, the row kind (C: odds capped as in
the released code, P: as printed), which form of DCP perturbs it (c: uncertain, p: confident, -: neither), whether
the top class is kept, the l1 distance, and RS's answer. Where its detector is off, DCP returns y.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dcp_core.defenses import Deception, ReverseSigmoid

TAIL = (0.30, 0.22, 0.16, 0.12, 0.08, 0.06, 0.03, 0.02, 0.01)


def _with_top(top: float) -> list[float]:
    return [top, *((1 - top) * t for t in TAIL)]


POSTERIORS = {
    "A": _with_top(0.9999),
    "B": _with_top(0.95),
    "C": _with_top(0.75),
    "E": [0.35, 0.25, 0.15, 0.10, 0.06, 0.04, 0.03, 0.015, 0.004, 0.001],
}
LINES = (Path(__file__).parents[1] / "golden" / "dcp_vectors.txt").read_text().splitlines()[1:]


def _check(given: Tensor, expected: list[float], defense: Deception | ReverseSigmoid) -> None:
    wanted = torch.tensor(expected, dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        y = given.to(dtype)
        torch.testing.assert_close(defense(y[None])[0].double(), wanted, rtol=0, atol=1e-6)
        torch.testing.assert_close(defense(logits=y.log()[None])[0].double(), wanted, rtol=0, atol=1.5e-6)


@pytest.mark.parametrize("line", LINES)
def test_rs_and_both_forms_of_dcp_give_the_reference_values(line: str) -> None:
    letter, beta_text, gamma_text, row, direction, kept, l1_text, *answer = line.split()
    beta, gamma, capped = float(beta_text), float(gamma_text), row == "C"
    given = torch.tensor(POSTERIORS[letter], dtype=torch.float64)
    perturbed = [float(value) for value in answer]

    _check(given, perturbed, ReverseSigmoid(beta=beta, gamma=gamma, cap_odds=capped))
    for perturb, mark in (("uncertain", "c"), ("confident", "p")):
        # The vectors pair the coded form with capped odds and the printed form with uncapped ones.
        if (perturb == "uncertain") != capped:
            continue
        expected = perturbed if direction == mark else given.tolist()
        _check(given, expected, Deception(beta=beta, gamma=gamma, perturb=perturb, cap_odds=capped))

    defended = ReverseSigmoid(beta=beta, gamma=gamma, cap_odds=capped)(given[None])[0]
    assert abs(float((defended - given).abs().sum()) - float(l1_text)) < 1e-6
    assert (int(defended.argmax()) == 0) == (kept == "1")


@pytest.mark.parametrize("cap_odds", [True, False])
@pytest.mark.parametrize("perturb", ["uncertain", "confident"])
def test_the_uniform_posterior_is_a_fixed_point(cap_odds: bool, perturb: str) -> None:
    uniform = torch.full((1, 10), 0.1, dtype=torch.float64)
    for defense in (Deception(beta=0.9, perturb=perturb, cap_odds=cap_odds), ReverseSigmoid(cap_odds=cap_odds)):
        torch.testing.assert_close(defense(uniform), uniform)


def test_one_hot_answers_are_exact() -> None:
    """Capped: y_top = 1 / (1 + 9 beta c), c = 1/2 - S(gamma log 1e-12) = 0.496035 for gamma = .2.
    As printed: (1 - beta/2) / (1 - beta/2 + 9 beta/2)."""
    one_hot = torch.eye(10)[:1]
    capped = ReverseSigmoid(beta=0.9, gamma=0.2)(one_hot)[0]
    assert float(capped[0]) == pytest.approx(1 / (1 + 9 * 0.9 * 0.496035), abs=1e-6)
    printed = ReverseSigmoid(beta=0.9, gamma=0.2, cap_odds=False)(one_hot)[0]
    assert float(printed[0]) == pytest.approx(0.55 / (0.55 + 9 * 0.45), abs=1e-6)


def test_a_two_way_answer_flips_its_top_class() -> None:
    """H = (.6, .4, 0 x 8), beta 1.5, gamma .2: each zero gains 1.5 c = .744, more than .6."""
    given = torch.tensor([[0.6, 0.4] + [0.0] * 8], dtype=torch.float64)
    defended = ReverseSigmoid(beta=1.5, gamma=0.2)(given)[0]
    assert int(defended.argmax()) >= 2
    total = 0.6 + 0.4 + 1.5 * (0.5 - 1 / (1 + (0.4 / 0.6) ** -0.2)) + 8 * 1.5 * 0.496035
    assert float(defended[0]) == pytest.approx(0.6 / total, abs=1e-6)


def test_printed_dcp_stays_exact_in_float32_where_the_posterior_rounds_to_one() -> None:
    """z_top - logsumexp(others) = 30 - log 9: r = S(.2 * that) - 1/2, far from the limit 1/2."""
    logits = torch.tensor([[30.0] + [0.0] * 9])
    defense = ReverseSigmoid(beta=1.0, gamma=0.2, cap_odds=False)
    exact = defense(logits=logits.double())
    torch.testing.assert_close(defense(logits=logits).double(), exact, rtol=0, atol=1e-6)
