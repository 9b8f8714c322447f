"""Simple baseline defenses."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcp_core.defenses.base import Answer, Defense, normalise, parameter
from dcp_core.defenses.nodes import NORMALISE, Nodes, is_top


def _one_hot_top(y: Tensor) -> Tensor:
    return F.one_hot(y.argmax(-1), y.shape[-1]).to(y.dtype)


@dataclass(frozen=True)
class NoDefense(Defense):
    """The clean posterior."""

    name: ClassVar[str] = "none"
    title: ClassVar[str] = "No defense"
    source: ClassVar[str] = "baseline"
    mark: ClassVar[tuple[str, str, str] | None] = ("#8a8f98", "x", "solid")

    def nodes(self, classes: int) -> Nodes:
        """See `Defense`."""
        return Nodes("posterior = Identity (defense_y)")

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        return answer.y


@dataclass(frozen=True)
class LabelOnly(Defense):
    """Only the top class, as a one-hot vector. Of several equal largest posteriors, the first is used."""

    name: ClassVar[str] = "label"
    title: ClassVar[str] = "Label only"
    source: ClassVar[str] = "baseline"
    mark: ClassVar[tuple[str, str, str] | None] = ("#7d6bd0", "star", "dot")

    def nodes(self, classes: int) -> Nodes:
        """See `Defense`."""
        return Nodes(is_top("defense_y") + "posterior = Cast <to = 1> (defense_is_top)")

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        return _one_hot_top(answer.y)


@dataclass(frozen=True)
class TopK(Defense):
    """The k largest posteriors, renormalised; the others are 0. If there are fewer than k classes, all are sent."""

    k: int = parameter(
        3, "k", "Number of classes in an answer.", low=1, high=100, step=1, label="Classes answered"
    )

    name: ClassVar[str] = "topk"
    title: ClassVar[str] = "Top-k"
    source: ClassVar[str] = "Orekondy et al., CVPR 2019"
    strength: ClassVar[str | None] = "k"
    grid: ClassVar[tuple[float, ...]] = (1, 2, 3, 5, 10)
    mark: ClassVar[tuple[str, str, str] | None] = ("#4fb3c9", "pentagon", "dash")

    def nodes(self, classes: int) -> Nodes:
        """See `Defense`."""
        text = """
    defense_values, defense_places = TopK <axis = -1> (defense_y, defense_k)
    defense_empty = Mul (defense_y, defense_zero)
    defense_raised = ScatterElements <axis = -1> (defense_empty, defense_places, defense_values)"""
        kept = np.array([min(self.k, classes)], np.int64)
        return Nodes(text + NORMALISE, constants={"defense_k": kept})

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        values, order = answer.y.sort(stable=True, dim=-1, descending=True)
        rank = torch.arange(answer.y.shape[-1], device=answer.y.device)
        kept = torch.where(rank < strength, values, 0.0)
        return normalise(torch.zeros_like(kept).scatter(-1, order.expand_as(kept), kept))


@dataclass(frozen=True)
class Rounding(Defense):
    """Posteriors rounded to d decimals and renormalised. If all posteriors round to 0, the answer is the top class."""

    digits: int = parameter(1, "d", "Number of decimals.", low=0, high=6, step=1, label="Digits kept")

    name: ClassVar[str] = "rounding"
    title: ClassVar[str] = "Rounding"
    source: ClassVar[str] = "Orekondy et al., CVPR 2019"
    strength: ClassVar[str | None] = "digits"
    grid: ClassVar[tuple[float, ...]] = (0, 1, 2, 3)
    mark: ClassVar[tuple[str, str, str] | None] = ("#9c7a4d", "hexagon", "dashdot")

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        scale = torch.pow(10.0, torch.as_tensor(strength, dtype=answer.y.dtype, device=answer.y.device))
        rounded = (answer.y * scale).round() / scale
        nothing = rounded.sum(-1, keepdim=True) == 0
        return normalise(torch.where(nothing, _one_hot_top(answer.y), rounded))


@dataclass(frozen=True)
class RandomNoise(Defense):
    """y' = (1 - epsilon/2) y + (epsilon/2) e_r, with a random class r other than the top class. The l1 distance is
    epsilon (1 - y_r)."""

    epsilon: float = parameter(
        0.5, "ε", "Largest l1 distance to the clean posterior.", high=2.0, label="Largest l1 distance"
    )

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "Random noise"
    short: ClassVar[str] = "Random"
    source: ClassVar[str] = "baseline of Mazeika et al., ICML 2022"
    strength: ClassVar[str | None] = "epsilon"
    grid: ClassVar[tuple[float, ...]] = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    mark: ClassVar[tuple[str, str, str] | None] = ("#b3596f", "cross", "longdash")

    @property
    def randomised(self) -> bool:
        """See `Defense`."""
        return True

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        y = answer.y
        device = y.device if answer.generator is None else answer.generator.device
        other = torch.randint(y.shape[-1] - 1, (len(y),), generator=answer.generator, device=device).to(y.device)
        other = other + (other >= y.argmax(-1))  # skip the top class
        moved = strength / 2
        return (1 - moved) * y + moved * F.one_hot(other, y.shape[-1])
