"""Gradient Redirection (GRAD²): Mazeika, Li and Forsyth, "How to Steer Your Adversary", ICML 2022.

A thief who trains on the answer y' follows the gradient sum_k y'_k grad log p_k(x), where p is the posterior of a surrogate
of the clone. Its inner product with a target direction z is linear in y'. With g_k = <grad log p_k(x), z>, which one
forward-mode pass computes, the best answer within the l1 budget moves probability mass from the classes with the smallest
g to the class with the largest g. The guide is g.
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
FLOATS = 2**26  # numbers of per-picture gradients in memory at once


def transport(y: Tensor, gain: Tensor, epsilon: Any) -> Tensor:
    """The answer y' with the largest <y', gain> within the l1 distance `epsilon` of y, computed exactly by sorting.

    A mass of min(epsilon / 2, 1 - y_c) moves to the class c with the largest gain. It is taken from the other classes in
    the order of rising gain.

    Args:
        y, gain: (N, K).
        epsilon: l1 budget, 0 to 2: a number, or a tensor (S, 1, 1) for S budgets.

    Returns:
        (N, K), or (S, N, K) for a tensor of budgets.
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
    """g (N, K): inner products of grad log p_k(x) and `target`, for the parameters in `target`.

    Args:
        network: the surrogate, pixels -> logits (N, K).
        inputs: pictures (N, 3, H, W) in [0, 1].
        target: a tensor of the parameter's shape for each parameter name.
    """
    own = dict(network.named_parameters())
    primal = {name: own[name].detach() for name in target}
    return jvp(log_posteriors(network, inputs), (primal,), (target,))[1]


def gains_against_own(network: nn.Module, inputs: Tensor, y: Tensor, parameters: Parameters) -> Tensor:
    """-<grad log p_k(x), G y> (N, K), separately for each picture. G y is the gradient for the picture's clean answer.

    Args:
        network: the surrogate, pixels -> logits (N, K).
        inputs: pictures (N, 3, H, W) in [0, 1].
        y: clean posteriors (N, K).
        parameters: the surrogate's parameters, by name.
    """

    def one(picture: Tensor, answer: Tensor) -> Tensor:
        compute = log_posteriors(network, picture[None])
        own = vjp(compute, parameters)[1](answer[None])
        return -jvp(compute, (parameters,), own)[1][0]

    size = sum(value.numel() for value in parameters.values())
    return vmap(one, chunk_size=max(1, FLOATS // size))(inputs, y.to(inputs.dtype))


@dataclass(frozen=True)
class GradientRedirection(ModelBased):
    """GRAD²: turns the gradient of the clone's training towards a target direction. Its guide is each class's gain g."""

    epsilon: float = parameter(
        0.5, "ε", "Largest l1 distance to the clean posterior.", high=2.0, label="Largest l1 distance"
    )
    target: Literal["all-ones", "min-ip", "min-ip-batch", "watermark"] = parameter(
        "all-ones",
        "z",
        "Target direction of the thief's gradient: all ones (as in the papers), opposite to the undefended gradient "
        "(for each picture, or for a batch of 64), or towards a watermark.",
        choices=TARGETS,
        expert=True,
        guides=True,
        label="Direction for the thief",
    )
    gradients: Literal["all", "last"] = parameter(
        "all",
        "θ",
        "Parameters of the surrogate whose gradient is turned: all, or those of its last layer.",
        choices=("all", "last"),
        expert=True,
        guides=True,
        label="Gradients used",
    )
    vector: Tensor | None = field(default=None, repr=False, compare=False, kw_only=True)

    name: ClassVar[str] = "grad2"
    title: ClassVar[str] = "Gradient Redirection (GRAD²)"
    short: ClassVar[str] = "GRAD²"
    source: ClassVar[str] = "Mazeika et al., ICML 2022"
    strength: ClassVar[str | None] = "epsilon"
    grid: ClassVar[tuple[float, ...]] = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    mark: ClassVar[tuple[str, str, str] | None] = ("#d99a06", "triangle-down", "longdash")
    guide_title: ClassVar[str] = "How much each class turns the thief's gradient towards the target"
    guide_unit: ClassVar[str] = "slope of log p(class) along the target"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target == "all-ones" and self.vector is None and self.gradients == "last":
            raise ValueError(
                "target='all-ones' does not work with gradients='last': adding the same number to all weights of the last "
                "layer changes all logits equally, so all gains are 0. Use gradients='all' or another target"
            )

    @property
    def needs(self) -> Kind | None:
        """See `ModelBased`."""
        return "surrogate"

    def towards(self, vector: Tensor) -> Self:
        """This defense with another target direction (P,): one number for each parameter of the surrogate, in its order."""
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
            rng = torch.Generator().manual_seed(WATERMARK_SEED)
            picture = torch.rand(1, *inputs.shape[1:], generator=rng).to(inputs)
            label = torch.randint(y.shape[1], (1,), generator=rng)
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
            f"the target vector must have shape ({sum(sizes)},), one number for each parameter, not {tuple(vector.shape)}"
        )
    parts = vector.split(sizes)
    return {
        name: part.view_as(value).to(value) for (name, value), part in zip(parameters.items(), parts, strict=True)
    }
