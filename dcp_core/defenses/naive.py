"""The cheap baselines that every defense has to beat."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dcp_core.defenses.base import Answer, Defense, normalise, parameter


def _one_hot_top(y: Tensor) -> Tensor:
    return F.one_hot(y.argmax(-1), y.shape[-1]).to(y.dtype)


@dataclass(frozen=True)
class NoDefense(Defense):
    """The clean posterior."""

    name: ClassVar[str] = "none"
    title: ClassVar[str] = "No defense"
    source: ClassVar[str] = "baseline"

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        return answer.y


@dataclass(frozen=True)
class LabelOnly(Defense):
    """Only the top class, as a one-hot vector; the first of equals."""

    name: ClassVar[str] = "label"
    title: ClassVar[str] = "Label only"
    source: ClassVar[str] = "baseline"

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        return _one_hot_top(answer.y)


@dataclass(frozen=True)
class TopK(Defense):
    """The k largest posteriors, renormalised; the others are 0. All classes where there are fewer than k."""

    k: int = parameter(3, "k", "How many classes are answered.", low=1, high=100, step=1)

    name: ClassVar[str] = "topk"
    title: ClassVar[str] = "Top-k"
    source: ClassVar[str] = "Orekondy et al., CVPR 2019"
    strength: ClassVar[str | None] = "k"
    grid: ClassVar[tuple[float, ...]] = (1, 2, 3, 5, 10)

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        values, order = answer.y.sort(stable=True, dim=-1, descending=True)
        rank = torch.arange(answer.y.shape[-1], device=answer.y.device)
        kept = torch.where(rank < strength, values, 0.0)
        return normalise(torch.zeros_like(kept).scatter(-1, order.expand_as(kept), kept))


@dataclass(frozen=True)
class Rounding(Defense):
    """Posteriors rounded to d digits, renormalised; a row that rounds to nothing answers its top class."""

    digits: int = parameter(1, "d", "Digits kept after the decimal point.", low=0, high=6, step=1)

    name: ClassVar[str] = "rounding"
    title: ClassVar[str] = "Rounding"
    source: ClassVar[str] = "Orekondy et al., CVPR 2019"
    strength: ClassVar[str | None] = "digits"
    grid: ClassVar[tuple[float, ...]] = (0, 1, 2, 3)

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        scale = torch.pow(10.0, torch.as_tensor(strength, dtype=answer.y.dtype, device=answer.y.device))
        rounded = (answer.y * scale).round() / scale
        nothing = rounded.sum(-1, keepdim=True) == 0
        return normalise(torch.where(nothing, _one_hot_top(answer.y), rounded))


@dataclass(frozen=True)
class RandomNoise(Defense):
    """Mass epsilon/2 moved to one random class other than the top one; l1 = epsilon (1 - y_r)."""

    epsilon: float = parameter(0.5, "ε", "Largest l1 distance to the clean posterior.", high=2.0)

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "Random noise"
    source: ClassVar[str] = "baseline of Mazeika et al., ICML 2022"
    strength: ClassVar[str | None] = "epsilon"
    grid: ClassVar[tuple[float, ...]] = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

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
