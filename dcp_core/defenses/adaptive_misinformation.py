"""Adaptive Misinformation (AM): Kariyappa and Qureshi, CVPR 2020.

    y' = (1 - alpha) y + alpha F_M(x),   alpha = S(nu (tau - y_max))

S is the logistic function.

The network F_M is trained to be wrong, with the loss -log(1 - p_label). It replaces uncertain answers, which pictures from
another distribution than the training set usually get. The sign in alpha is that of DCP's released code.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dcp_core.defenses.base import Answer, parameter
from dcp_core.defenses.deception import detector
from dcp_core.defenses.model_based import Kind, ModelBased


def misinformation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """-mean log(1 - p_label + 1e-12), computed from logits, so that it is exact even if p_label rounds to 1.

    The published constant 1e-12 limits the loss of one picture to 27.6.

    Args:
        logits: (N, K).
        labels: integers (N,).
    """
    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    others = logits.masked_fill(own, -torch.inf).logsumexp(1) - logits.logsumexp(1)
    return -torch.logaddexp(others, others.new_tensor(1e-12).log()).mean()


@dataclass(frozen=True)
class AdaptiveMisinformation(ModelBased):
    """AM: replaces uncertain answers by the answers of a network that was trained to be wrong. Its guide is F_M(x)."""

    tau: float = parameter(
        0.5, "τ", "Answers whose top posterior is below τ are replaced.", label="Replace answers below"
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

    name: ClassVar[str] = "am"
    title: ClassVar[str] = "Adaptive Misinformation (AM)"
    short: ClassVar[str] = "AM"
    source: ClassVar[str] = "Kariyappa and Qureshi, CVPR 2020"
    strength: ClassVar[str | None] = "tau"
    grid: ClassVar[tuple[float, ...]] = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    mark: ClassVar[tuple[str, str, str] | None] = ("#c77cae", "diamond", "dot")
    guide_title: ClassVar[str] = "The second network's answer F_M(x), trained to be wrong"
    guide_unit: ClassVar[str] = "posterior (probability)"

    @property
    def threshold(self) -> float:
        """The threshold tau."""
        return self.tau

    def alpha(self, y_max: Tensor) -> Tensor:
        """The share (0 to 1) of the second network's answer, S(nu (tau - y_max)), in the shape of `y_max`."""
        return detector(y_max, self.tau, self.nu, "uncertain")

    @property
    def needs(self) -> Kind | None:
        """See `ModelBased`."""
        return "misinformation"

    def _look(self, network: nn.Module, y: Tensor, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        return network(inputs).softmax(-1)

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        assert answer.guide is not None
        alpha = detector(answer.y_max, strength, self.nu, "uncertain")
        return (1 - alpha) * answer.y + alpha * answer.guide
