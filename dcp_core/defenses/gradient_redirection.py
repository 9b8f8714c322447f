"""Gradient Redirection (GRAD^2): Mazeika, Li and Forsyth, "How to Steer Your Adversary", ICML 2022.

A thief who trains on the answer y' follows the gradient sum_k y'_k grad log p_k(x); p is a surrogate of the thief's
network. Its inner product with a target direction z is linear in y': with g_k = <grad log p_k(x), z>, found by one
forward-mode pass, the best answer within the l1 budget moves mass to the class with the largest g, away from those
with the smallest. The guide is g.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap

from dcp_core.defenses.base import Answer, parameter
from dcp_core.defenses.folding import FoldedSurrogate, Parameters
from dcp_core.defenses.model_based import Kind, ModelBased, log_posteriors, parameters_of

TARGETS = ("all-ones", "min-ip", "min-ip-batch", "watermark")
COUPLED = 64  # pictures coupled by "min-ip-batch", as in the released code of DCP
WATERMARK_SEED = 3
FLOATS = 2**26  # of per-picture gradients held at once


def transport(y: Tensor, gain: Tensor, epsilon: Any) -> Tensor:
    """The answer with the largest <y', gain> within l1 distance `epsilon` of y: exact, by sorting.

    min(epsilon / 2, 1 - y_c) of mass moves to the class c with the largest gain, from those with the smallest on.

    Args:
        y, gain: (N, K).
        epsilon: a number, or a tensor (S, 1, 1) that gives (S, N, K).
    """
    order = gain.argsort(stable=True, dim=-1)
    donors, receiver = y.gather(-1, order).tensor_split([-1], -1)
    before = donors.cumsum(-1) - donors
    kept = donors - (torch.as_tensor(epsilon, dtype=y.dtype, device=y.device) / 2 - before).clamp_min(0).minimum(
        donors
    )
    received = receiver + (donors - kept).sum(-1, keepdim=True)
    moved = torch.cat([kept, received.expand(*kept.shape[:-1], 1)], -1)
    return torch.zeros_like(moved).scatter(-1, order.expand_as(moved), moved)


def gains(network: nn.Module, inputs: Tensor, target: Parameters) -> Tensor:
    """g (N, K): inner products of each grad log p_k(x) with `target`, for the parameters that it names."""
    own = dict(network.named_parameters())
    primal = {name: own[name].detach() for name in target}
    return jvp(log_posteriors(network, inputs), (primal,), (target,))[1]


def gains_against_own(network: nn.Module, inputs: Tensor, y: Tensor, parameters: Parameters) -> Tensor:
    """-<grad log p_k(x), G y> (N, K) for each picture by itself; G y is the gradient that its clean answer gives."""

    def one(picture: Tensor, answer: Tensor) -> Tensor:
        compute = log_posteriors(network, picture[None])
        own = vjp(compute, parameters)[1](answer[None])
        return -jvp(compute, (parameters,), own)[1][0]

    size = sum(value.numel() for value in parameters.values())
    return vmap(one, chunk_size=max(1, FLOATS // size))(inputs, y.to(inputs.dtype))


@dataclass(frozen=True)
class GradientRedirection(ModelBased):
    """GRAD^2: the thief's gradient is turned towards a target direction. Its guide is each class's gain g."""

    epsilon: float = parameter(0.5, "ε", "Largest l1 distance to the clean posterior.", high=2.0)
    target: Literal["all-ones", "min-ip", "min-ip-batch", "watermark"] = parameter(
        "all-ones",
        "z",
        "Where the thief is sent: along all ones (the papers' setting), against its own gradient (picture by "
        "picture, or of a batch of 64), or towards a watermark.",
        choices=TARGETS,
        expert=True,
        guides=True,
    )
    gradients: Literal["all", "last"] = parameter(
        "all",
        "θ",
        "Parameters whose gradient is turned: all of the surrogate's, or its last layer's.",
        choices=("all", "last"),
        expert=True,
        guides=True,
    )
    vector: Tensor | None = field(default=None, repr=False, compare=False, kw_only=True)

    name: ClassVar[str] = "grad2"
    title: ClassVar[str] = "Gradient Redirection (GRAD²)"
    short: ClassVar[str] = "GRAD²"
    source: ClassVar[str] = "Mazeika et al., ICML 2022"
    strength: ClassVar[str | None] = "epsilon"
    grid: ClassVar[tuple[float, ...]] = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    mark: ClassVar[tuple[str, str, str] | None] = ("#d99a06", "triangle-down", "longdash")
    guide_title: ClassVar[str] = "How far each class turns the thief's gradient towards the target"
    guide_unit: ClassVar[str] = "slope of log p(class) along the target"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target == "all-ones" and self.vector is None and self.gradients == "last":
            raise ValueError(
                "raising all weights of the last layer alike shifts all logits alike: the gradient towards all-ones "
                "is 0 there, and the answer would be sorting noise. Take gradients='all' or another target"
            )

    @property
    def needs(self) -> Kind | None:
        """See `ModelBased`."""
        return "surrogate"

    def towards(self, vector: Tensor) -> Self:
        """This defense with any target direction (P,), one number a parameter of the surrogate, in its order."""
        return dataclasses.replace(self, vector=vector)

    def _rows(self, network: nn.Module, classes: int) -> int:
        return COUPLED if self.target == "min-ip-batch" else super()._rows(network, classes)

    def armed(self, network: nn.Module) -> Self:
        """See `ModelBased`."""
        return super().armed(network if isinstance(network, FoldedSurrogate) else FoldedSurrogate(network))

    def _look(self, network: nn.Module, y: Tensor, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        assert isinstance(network, FoldedSurrogate)
        plain = network.network
        parameters = parameters_of(plain, self.gradients)
        if self.vector is None and self.target == "min-ip":
            return gains_against_own(plain, inputs, y, parameters)
        target = self._target(plain, parameters, inputs, y)
        if self.gradients == "last" or (self.vector is None and self.target == "min-ip-batch"):
            return gains(plain, inputs, target)
        return network.slopes(inputs, target)

    def _target(self, network: nn.Module, parameters: Parameters, inputs: Tensor, y: Tensor) -> Parameters:
        if self.vector is not None:
            return _shaped(self.vector, parameters)
        if self.target == "all-ones":
            return {name: torch.ones_like(value) for name, value in parameters.items()}
        if self.target == "watermark":
            dice = torch.Generator().manual_seed(WATERMARK_SEED)
            picture = torch.rand(1, *inputs.shape[1:], generator=dice).to(inputs)
            label = torch.randint(y.shape[1], (1,), generator=dice)
            answer = nn.functional.one_hot(label, y.shape[1]).to(inputs)
            return vjp(log_posteriors(network, picture), parameters)[1](answer)[0]
        own = vjp(log_posteriors(network, inputs), parameters)[1](y.to(inputs.dtype) / len(y))[0]
        return {name: -value for name, value in own.items()}

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        assert answer.guide is not None
        return transport(answer.y, answer.guide, strength)


def _shaped(vector: Tensor, parameters: Parameters) -> Parameters:
    sizes = [value.numel() for value in parameters.values()]
    if vector.shape != (sum(sizes),):
        raise ValueError(
            f"the surrogate has {sum(sizes)} such parameters, the target vector {tuple(vector.shape)}"
        )
    parts = vector.split(sizes)
    return {
        name: part.view_as(value).to(value) for (name, value), part in zip(parameters.items(), parts, strict=True)
    }
