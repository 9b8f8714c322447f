"""Reverse Sigmoid (RS): Lee, Edwards, Molloy and Su, IEEE SPW 2019. It adds the noise of Eq. 6 to every answer."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dcp_core.defenses.base import Answer, Defense, parameter
from dcp_core.defenses.deception import (
    doubled_noise,
    formula,
    noise_nodes,
    noise_steps,
    reverse_sigmoid_noise,
    subtract_noise,
)
from dcp_core.defenses.nodes import Nodes


@dataclass(frozen=True)
class ReverseSigmoid(Defense):
    """RS: y' = N(max(0, y - beta r(y))), where N divides each row by its sum.

    It equals DCP with a detector that selects every answer.
    """

    beta: float = parameter(0.64, "β", "Strength of the noise.", high=1.5, step=0.0025, label="Strength")
    gamma: float = parameter(
        0.2,
        "γ",
        "How steeply the noise grows for unlikely classes.",
        low=0.01,
        high=1.0,
        expert=True,
        label="Steepness of the noise",
    )
    cap_odds: bool = parameter(
        True,
        "cap",
        "Limit the odds y/(1-y) to 1 as the released code does, so that a class above 1/2 is never lowered directly. "
        "The published formula has no limit.",
        choices=(True, False),
        expert=True,
        label="Cap the odds",
    )

    name: ClassVar[str] = "rs"
    title: ClassVar[str] = "Reverse Sigmoid (RS)"
    short: ClassVar[str] = "RS"
    source: ClassVar[str] = 'Lee et al., "Defending Against Neural Network Model Stealing Attacks", SPW 2019'
    strength: ClassVar[str | None] = "beta"
    grid: ClassVar[tuple[float, ...]] = (0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)
    mark: ClassVar[tuple[str, str, str] | None] = ("#2f8fd8", "square", "dash")

    def alpha(self, y_max: Tensor) -> Tensor:
        """1 for each top posterior: every answer is perturbed."""
        return torch.ones_like(y_max)

    def noise(self, answer: Answer) -> Tensor:
        """The noise r(y) (N, K), Eq. 6 of the paper of DCP."""
        return reverse_sigmoid_noise(answer, self.gamma, self.cap_odds)

    @property
    def formula(self) -> str:
        """The formula of DCP, where alpha = 1."""
        return formula(self.cap_odds)

    def steps(self, answer: Answer) -> dict[str, Tensor]:
        """The terms of the formula by name, each (N, K)."""
        return noise_steps(answer, self.alpha(answer.y_max), self.beta, self.gamma, self.cap_odds)

    def nodes(self, classes: int) -> Nodes:
        """See `Defense`."""
        text = noise_nodes("", "defense_half_beta", self.cap_odds)
        return Nodes(text, {"beta": self.beta, "gamma": self.gamma})

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        return subtract_noise(answer.y, strength, doubled_noise(answer, self.gamma, self.cap_odds))
