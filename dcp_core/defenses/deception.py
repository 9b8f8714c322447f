"""Deception (DCP): Khaled, Dhaouadi, Gohring de Magalhães and Nicolescu, Eq. 3 to 7, and what it shares with RS.

    alpha = S(nu (tau - y_max))           uncertain answers are perturbed: the paper's prose and released code
            S(nu (y_max - tau))           confident ones: Eq. 4 as printed
    r     = S(gamma log(y / (1 - y))) - 1/2                                                            Eq. 6
    y'    = N(max(0, y - beta alpha r))                                                                Eq. 7

The released code caps the odds y / (1 - y) at 1, so that a class with y > 1/2 is never lowered directly; that
is the default here too (`cap_odds`), and the printed form the option.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dcp_core.defenses.base import Answer, Defense, normalise, parameter

PAPER = 'Khaled et al., "Efficient Defense Against Model Stealing Attacks on Convolutional Neural Networks"'
LOG_ODDS_FLOOR = math.log(1e-12)  # the released code's lower clamp


def detector(y_max: Tensor, tau: Any, nu: float, perturb: str) -> Tensor:
    """alpha of Eq. 4: near 1 where an answer is to be perturbed, near 0 elsewhere; a step of width ~ 10/nu."""
    distance = tau - y_max if perturb == "uncertain" else y_max - tau
    return torch.sigmoid(nu * distance)


def log_odds(answer: Answer, cap_odds: bool) -> Tensor:
    """log(y / (1 - y)) as Eq. 6 uses it, (N, K): exact, or clamped to [1e-12, 1] as in the released code."""
    if cap_odds:  # capped at 0, the top class needs no exact logits
        return torch.logit(answer.y).clamp(LOG_ODDS_FLOOR, 0.0)
    return answer.log_odds()


def reverse_sigmoid_noise(answer: Answer, gamma: float, cap_odds: bool) -> Tensor:
    """r(y) of Eq. 6 in [-1/2, 1/2], exact at y = 0 and y = 1. S(z) - 1/2 = tanh(z/2) / 2 does not cancel."""
    return torch.tanh(log_odds(answer, cap_odds) * (gamma / 2)) / 2


def subtract_noise(y: Tensor, amount: Any, noise: Tensor) -> Tensor:
    """N(max(0, y - amount * r)): the last step of Eq. 7."""
    return normalise((y - amount * noise).clamp_min(0.0))


@dataclass(frozen=True)
class Deception(Defense):
    """DCP: reverse-sigmoid noise on the answers that the detector picks (Eq. 7)."""

    beta: float = parameter(
        0.9, "β", "Strength of the noise; with τ following β also how many answers it touches.", high=1.5
    )
    tau: float | None = parameter(
        None, "τ", "Answers whose top posterior is below τ are perturbed.", optional="follows β", high=1.5
    )
    gamma: float = parameter(
        0.2, "γ", "How steeply the noise grows for unlikely classes.", low=0.01, high=1.0, expert=True
    )
    nu: float = parameter(
        1000.0,
        "ν",
        "Steepness of the detector's step at τ.",
        low=1.0,
        high=10000.0,
        step=1.0,
        expert=True,
    )
    perturb: Literal["uncertain", "confident"] = parameter(
        "uncertain",
        "direction",
        "Which answers are perturbed: 'uncertain' as in the paper's prose and code, 'confident' as Eq. 4 prints.",
        choices=("uncertain", "confident"),
        expert=True,
    )
    cap_odds: bool = parameter(
        True,
        "cap",
        "Cap the odds y/(1-y) at 1 as the released code does; Eq. 6 as printed has no cap.",
        choices=(True, False),
        expert=True,
    )

    name: ClassVar[str] = "dcp"
    title: ClassVar[str] = "Deception (DCP)"
    source: ClassVar[str] = PAPER
    strength: ClassVar[str | None] = "beta"
    grid: ClassVar[tuple[float, ...]] = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        tau = strength if self.tau is None else self.tau
        alpha = detector(answer.y_max, tau, self.nu, self.perturb)
        noise = reverse_sigmoid_noise(answer, self.gamma, self.cap_odds)
        return subtract_noise(answer.y, strength * alpha, noise)
