"""ModelGuard-W against worked examples and against an independent solver of linear programs."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from dcp_core.defenses import ModelGuardW, make_defense

SMALL, MARGIN = 1e-6, 1e-4


def cost(answer: np.ndarray, clean: np.ndarray) -> float:
    return float(np.log(clean + SMALL) @ answer)


def solved(clean: np.ndarray, epsilon: float) -> float | None:
    """The least cost by HiGHS, over y' and bounds u >= |y' - y|; None for an infeasible program."""
    classes, top = len(clean), int(clean.argmax())
    one, none = np.eye(classes), np.zeros((classes, classes))
    others = np.delete(np.arange(classes), top)
    rows = np.vstack(
        [
            np.hstack([one, -one]),
            np.hstack([-one, -one]),
            np.r_[np.zeros(classes), np.ones(classes)],
            np.hstack([one[others] - one[top], none[others]]),
        ]
    )
    found = linprog(
        np.r_[np.log(clean + SMALL), np.zeros(classes)],
        A_ub=rows,
        b_ub=np.r_[clean, -clean, epsilon, np.full(classes - 1, -MARGIN)],
        A_eq=np.r_[np.ones(classes), np.zeros(classes)][None],
        b_eq=[1.0],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return found.fun if found.status == 0 else None


def posterior(kind: str, classes: int, dice: np.random.Generator) -> np.ndarray:
    """A random posterior; one with many equal classes; or one with zeros, from flat to nearly one-hot."""
    if kind == "tied":
        weights = dice.integers(0, 4, classes) + (np.arange(classes) == dice.integers(classes))
    else:
        logits = dice.normal(size=classes) * dice.choice([0.3, 1, 3] if kind == "random" else [0.001, 10, 40])
        weights = np.exp(logits - logits.max())
        if kind == "extreme":
            weights[weights < 0.01] = 0
    return weights / weights.sum()


def check_constraints(answer: np.ndarray, clean: np.ndarray, epsilon: float, slack: float) -> None:
    top = clean.argmax()
    assert answer.min() >= -slack
    assert abs(answer.sum() - 1) <= slack
    assert np.abs(answer - clean).sum() <= epsilon + slack
    assert answer[top] >= np.delete(answer, top).max() + MARGIN - slack


@pytest.mark.parametrize("classes", [2, 3, 5, 10, 43, 200])
@pytest.mark.parametrize("kind", ["random", "tied", "extreme"])
def test_no_answer_within_the_budget_costs_less(kind: str, classes: int) -> None:
    dice = np.random.default_rng(classes)
    for _ in range(3 if classes == 200 else 12):
        clean = posterior(kind, classes, dice)
        epsilon = float(dice.choice([0.05, 0.5, 1.0, 2.0, dice.uniform(0, 2)]))
        answer = ModelGuardW(epsilon=epsilon)(torch.tensor(clean)[None])[0].numpy()
        least = solved(clean, epsilon)
        if least is None:
            np.testing.assert_allclose(answer, clean, atol=1e-12)
        else:
            check_constraints(answer, clean, epsilon, 1e-9)
            assert cost(answer, clean) == pytest.approx(least, abs=1e-8)


@pytest.mark.parametrize(
    ("epsilon", "clean", "expected"),
    [
        (0.2, [0.9, 0.05, 0.03, 0.02], [0.8, 0.05, 0.03, 0.12]),  # eps/2 goes to the least likely class
        (0.2, [0.4, 0.3, 0.2, 0.1], [0.30005, 0.29995, 0.2, 0.2]),
        (0.5, [0.55, 0.25, 0.15, 0.05], [0.3001, 0.2499, 0.15, 0.3]),
        (1.0, [0.9, 0.05, 0.03, 0.02], [0.4, 0.05, 0.1501, 0.3999]),
        (1.0, [0.4, 0.35, 0.25, 0.0], [0.45005, 0.0, 0.1, 0.44995]),  # the top posterior has to rise
        (1.0, [0.4, 0.3, 0.2, 0.1], [0.3334, 0.0, 0.3333, 0.3333]),  # l1 .7332: the budget does not bind
    ],
)
def test_worked_examples(epsilon: float, clean: list[float], expected: list[float]) -> None:
    answer = ModelGuardW(epsilon=epsilon)(torch.tensor([clean], dtype=torch.float64))
    torch.testing.assert_close(answer[0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)


def test_a_worked_example_with_ten_classes() -> None:
    clean = torch.tensor([[0.72, 0.11, 0.06, 0.04, 0.03, 0.015, 0.01, 0.008, 0.005, 0.002]], dtype=torch.float64)
    answer = ModelGuardW(epsilon=1.0)(clean)
    assert cost(answer[0].numpy(), clean[0].numpy()) == pytest.approx(-3.721487, abs=5e-7)


def test_a_tie_within_the_margin_and_no_budget_answers_the_posterior_itself() -> None:
    tied = torch.tensor([[0.4, 0.4, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(ModelGuardW(epsilon=5e-5)(tied), tied, rtol=0, atol=1e-15)
    assert ModelGuardW(epsilon=0.2)(tied).argmax() == 0


def answers(dtype: torch.dtype) -> Tensor:
    logits = torch.randn(2000, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (logits * torch.logspace(-3, 1.5, 2000, dtype=torch.float64)[:, None]).to(dtype)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_top_class_is_always_kept(dtype: torch.dtype, epsilon: float) -> None:
    y = answers(dtype).softmax(-1)
    assert torch.equal(ModelGuardW(epsilon=epsilon)(y).argmax(-1), y.argmax(-1))


def test_single_precision_keeps_the_constraints_and_the_cost_to_a_millionth() -> None:
    z = answers(torch.float32)
    single, double = ModelGuardW()(logits=z), ModelGuardW()(logits=z.double())
    clean = z.double().softmax(-1).numpy()
    for answer, exact, y in zip(single.double().numpy(), double.numpy(), clean, strict=True):
        check_constraints(answer, y, 1.0, 1e-6)
        assert cost(answer, y) == pytest.approx(cost(exact, y), abs=1e-5)


@pytest.mark.parametrize("epsilon", [-0.1, 2.5, float("nan")])
def test_a_budget_that_no_answer_can_have_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon must be between 0 and 2"):
        make_defense("mgw", epsilon=epsilon)
    with pytest.raises(ValueError, match="epsilon must be between 0 and 2"):
        ModelGuardW().sweep([epsilon], torch.tensor([[0.7, 0.3]]))
