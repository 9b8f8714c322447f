"""Deception (DCP): Khaled, Dhaouadi, Gohring de Magalhães and Nicolescu, Eq. 3 to 7, and functions that RS uses too.

    alpha = S(nu (tau - y_max))           uncertain answers are perturbed: text of the paper, and released code
            S(nu (y_max - tau))           confident answers are perturbed: Eq. 4 as printed
    r     = S(gamma log(y / (1 - y))) - 1/2                                                            Eq. 6
    y'    = N(max(0, y - beta alpha r))                                                                Eq. 7

S is the logistic function. N divides each row by its sum. y_max is the top posterior.

The released code limits the odds y / (1 - y) to at most 1, so that a class with y > 1/2 is never lowered directly. This is
the default here too; `cap_odds=False` gives the printed form.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dcp_core.defenses.base import Answer, Defense, normalise, parameter
from dcp_core.defenses.nodes import NORMALISE, Nodes, is_top

PAPER = 'Khaled et al., "Efficient Defense Against Model Stealing Attacks on Convolutional Neural Networks"'
LOG_ODDS_FLOOR = math.log(1e-12)  # lower limit in the released code


def detector(y_max: Tensor, tau: Any, nu: float, perturb: str) -> Tensor:
    """alpha of Eq. 4: near 1 for answers that are perturbed, near 0 for others. The step at tau has a width of about 10/nu.

    Args:
        y_max: top posteriors, any shape.
        tau: threshold, a number or a tensor.
        nu: steepness.
        perturb: "uncertain" or "confident".
    """
    distance = tau - y_max if perturb == "uncertain" else y_max - tau
    return torch.sigmoid(nu * distance)


def log_odds(answer: Answer, cap_odds: bool) -> Tensor:
    """log(y / (1 - y)) of Eq. 6, (N, K): exact, or with odds clamped to [1e-12, 1] as in the released code."""
    if cap_odds:  # log-odds above 0 become 0, so the top class needs no exact logits
        return torch.logit(answer.y).clamp_(LOG_ODDS_FLOOR, 0.0)
    return answer.log_odds()


def reverse_sigmoid_noise(answer: Answer, gamma: float, cap_odds: bool) -> Tensor:
    """r(y) of Eq. 6, (N, K), in [-1/2, 1/2], exact also for y = 0 and y = 1."""
    return doubled_noise(answer, gamma, cap_odds) / 2


def doubled_noise(answer: Answer, gamma: float, cap_odds: bool) -> Tensor:
    """2 r(y), (N, K): tanh(z/2) with z = gamma log(y / (1 - y)), because S(z) - 1/2 loses precision by cancellation.

    It is computed in place, because for many answers new memory takes longer than the arithmetic.
    """
    return log_odds(answer, cap_odds).mul_(gamma / 2).tanh_()


def subtract_noise(y: Tensor, strength: Any, doubled: Tensor, alpha: Tensor | None = None) -> Tensor:
    """N(max(0, y - strength * alpha * r)), the last step of Eq. 7, from `doubled` = 2 r (N, K).

    Args:
        strength: a number or a tensor (S, 1, 1).
        alpha: output of the detector (N, 1) or (S, N, 1); None: 1 for every answer.
    """
    amount = strength if alpha is None else strength * alpha
    if isinstance(amount, Tensor):
        raised = torch.addcmul(y, doubled, amount, value=-0.5)
    else:
        raised = torch.sub(y, doubled, alpha=amount / 2)
    raised.clamp_min_(0.0)
    return raised.div_(raised.sum(-1, keepdim=True))


def formula(cap_odds: bool) -> str:
    """Eq. 6 and 7 in LaTeX."""
    odds = r"\min\big(1, \tfrac{y}{1-y}\big)" if cap_odds else r"\tfrac{y}{1-y}"
    return (
        r"y' = N\big(\max(0,\; y - \beta\,\alpha\,r(y))\big),\quad r(y) = S(\gamma \log " + odds + r") - \tfrac12"
    )


def noise_steps(answer: Answer, alpha: Tensor, beta: float, gamma: float, cap_odds: bool) -> dict[str, Tensor]:
    """The terms of Eq. 7 by name, each (N, K). `alpha` has shape (N, 1)."""
    odds, noise = log_odds(answer, cap_odds), reverse_sigmoid_noise(answer, gamma, cap_odds)
    raised = (answer.y - beta * alpha * noise).clamp_min(0.0)
    return {
        "y": answer.y,
        "log-odds used": odds,
        "γ · log-odds": gamma * odds,
        "r = S(·) − ½": noise,
        "α": alpha.expand_as(answer.y),
        "−β·α·r": -beta * alpha * noise,
        "y − β·α·r": raised,
        "y′ (normalised)": normalise(raised),
    }


def noise_nodes(detector: str, amount: str, cap_odds: bool) -> str:
    """ONNX nodes of Eq. 6 and 7.

    Args:
        detector: nodes that compute `amount`, or an empty string.
        amount: name of the value beta alpha / 2, which is multiplied with tanh.
    """
    odds = _CAPPED if cap_odds else is_top("logits") + _EXACT
    return _NOISE.format(detector=detector, log_odds=odds, amount=amount) + NORMALISE


FOLLOWS = -1.0  # value of the input `tau` of an ONNX file that means "equal to beta"
_DETECTOR = """
    defense_y_max = ReduceMax <keepdims = 1> (defense_y, defense_last)
    defense_follows = Less (tau, defense_zero)
    defense_tau = Where (defense_follows, beta, tau)
    defense_distance = Sub ({minuend}, {subtrahend})
    defense_steep = Mul (nu, defense_distance)
    defense_alpha = Sigmoid (defense_steep)
    defense_amount = Mul (defense_half_beta, defense_alpha)"""
_NOISE = """
    defense_half_beta = Mul (beta, defense_half)
    {detector}
    {log_odds}
    defense_half_gamma = Mul (gamma, defense_half)
    defense_scaled = Mul (defense_half_gamma, defense_log_odds)
    defense_noise = Tanh (defense_scaled)
    defense_moved = Mul ({amount}, defense_noise)
    defense_kept = Sub (defense_y, defense_moved)
    defense_raised = Relu (defense_kept)"""
_CAPPED = """
    defense_rest = Sub (defense_one, defense_y)
    defense_odds = Div (defense_y, defense_rest)
    defense_odds_capped = Clip (defense_odds, defense_floor, defense_one)
    defense_log_odds = Log (defense_odds_capped)"""
# ONNX Runtime's ReduceLogSumExp overflows and underflows, so the largest of its numbers is subtracted first.
_EXACT = """
    defense_largest = ReduceMax <keepdims = 1> (logits, defense_last)
    defense_behind = Sub (logits, defense_largest)
    defense_parts = Exp (defense_behind)
    defense_whole = ReduceSum <keepdims = 1> (defense_parts, defense_last)
    defense_rest = Sub (defense_whole, defense_parts)
    defense_log_rest = Log (defense_rest)
    defense_all_log_odds = Sub (defense_behind, defense_log_rest)
    defense_others = Where (defense_is_top, defense_nothing, logits)
    defense_second = ReduceMax <keepdims = 1> (defense_others, defense_last)
    defense_shifted = Sub (defense_others, defense_second)
    defense_shifted_sum = ReduceLogSumExp <keepdims = 1> (defense_shifted, defense_last)
    defense_ahead = Sub (logits, defense_second)
    defense_top_log_odds = Sub (defense_ahead, defense_shifted_sum)
    defense_log_odds = Where (defense_is_top, defense_top_log_odds, defense_all_log_odds)"""


@dataclass(frozen=True)
class Deception(Defense):
    """DCP: reverse-sigmoid noise on the answers that the detector selects (Eq. 7)."""

    beta: float = parameter(
        0.9,
        "β",
        "Strength of the noise. If τ follows β, it also decides which answers are perturbed.",
        high=1.5,
        label="Strength",
    )
    tau: float | None = parameter(
        None,
        "τ",
        "Answers whose top posterior is below τ are perturbed.",
        optional="follows β",
        high=1.5,
        label="Change answers below",
    )
    gamma: float = parameter(
        0.2,
        "γ",
        "How steeply the noise grows for unlikely classes.",
        low=0.01,
        high=1.0,
        expert=True,
        label="Steepness of the noise",
    )
    nu: float = parameter(
        1000.0,
        "ν",
        "Steepness of the detector's step at τ.",
        low=1.0,
        high=10000.0,
        step=1.0,
        expert=True,
        label="Sharpness of the threshold",
    )
    perturb: Literal["uncertain", "confident"] = parameter(
        "uncertain",
        "direction",
        "Which answers are perturbed: 'uncertain' as in the paper's text and code, 'confident' as in Eq. 4 as printed.",
        choices=("uncertain", "confident"),
        expert=True,
        label="Answers to change",
    )
    cap_odds: bool = parameter(
        True,
        "cap",
        "Limit the odds y/(1-y) to 1 as the released code does, so that a class above 1/2 is never lowered directly. "
        "Eq. 6 as printed has no limit.",
        choices=(True, False),
        expert=True,
        label="Cap the odds",
    )

    name: ClassVar[str] = "dcp"
    title: ClassVar[str] = "Deception (DCP)"
    short: ClassVar[str] = "DCP"
    source: ClassVar[str] = PAPER
    strength: ClassVar[str | None] = "beta"
    grid: ClassVar[tuple[float, ...]] = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)
    mark: ClassVar[tuple[str, str, str] | None] = ("#e1542b", "circle", "solid")

    @property
    def threshold(self) -> float:
        """The threshold: tau, or beta if tau is None (it then follows beta)."""
        return self.beta if self.tau is None else self.tau

    def alpha(self, y_max: Tensor) -> Tensor:
        """The detector's output (0 to 1) for top posteriors of any shape, Eq. 4."""
        return detector(y_max, self.threshold, self.nu, self.perturb)

    def noise(self, answer: Answer) -> Tensor:
        """The noise r (N, K) for an answer, Eq. 6."""
        return reverse_sigmoid_noise(answer, self.gamma, self.cap_odds)

    @property
    def formula(self) -> str:
        """Eq. 6 and 7 in LaTeX."""
        return formula(self.cap_odds)

    def steps(self, answer: Answer) -> dict[str, Tensor]:
        """The terms of Eq. 7 by name, each (N, K)."""
        return noise_steps(answer, self.alpha(answer.y_max), self.beta, self.gamma, self.cap_odds)

    def remarks(self) -> list[str]:
        """See `Defense`."""
        found = []
        if self.perturb == "confident":
            found.append(
                "Eq. 4 as printed perturbs *confident* answers (y_max > τ). The paper's text and released code perturb "
                "*uncertain* ones."
            )
        if self.threshold > 1.01:
            nothing = self.perturb == "confident"
            effect = "no answer, so there is no defense" if nothing else "every answer, so this defense equals RS"
            found.append(f"Because τ = {self.threshold:g} is above 1, the detector selects {effect}.")
        return found

    def nodes(self, classes: int) -> Nodes:
        """See `Defense`."""
        pair = ("defense_tau", "defense_y_max")
        minuend, subtrahend = pair if self.perturb == "uncertain" else pair[::-1]
        detector_nodes = _DETECTOR.format(minuend=minuend, subtrahend=subtrahend)
        tau = FOLLOWS if self.tau is None else self.tau
        inputs = {"beta": self.beta, "gamma": self.gamma, "tau": tau, "nu": self.nu}
        return Nodes(noise_nodes(detector_nodes, "defense_amount", self.cap_odds), inputs)

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        tau = strength if self.tau is None else self.tau
        alpha = detector(answer.y_max, tau, self.nu, self.perturb)
        return subtract_noise(answer.y, strength, doubled_noise(answer, self.gamma, self.cap_odds), alpha)
