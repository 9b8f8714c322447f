"""Maximizing Angular Deviation (MAD): Orekondy, Schiele and Fritz, "Prediction Poisoning", ICLR 2020.

A thief who trains on the answer y' follows the gradient G y', where G are the class gradients of a surrogate. MAD moves
the answer towards the corner y* of the simplex whose gradient has the largest angle to the gradient of the clean answer:

    y* = argmax 1 - cos(G y*, G y),   y' = (1 - a) y + a y*,   a = min(1, epsilon / |y - y*|_1)

The angle depends on G only through the Gram matrix M = G G' (K, K). For the last linear layer, the rows of G are
(e_k - p_S) times the features. Then M depends only on the surrogate's posterior p_S, which one forward pass computes
without any gradient. The guide is y*.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import jacrev, vmap

from dcp_core.defenses.base import Answer, parameter
from dcp_core.defenses.model_based import Kind, ModelBased, log_posteriors, parameters_of

ORACLES = ("extreme", "argmin", "random", "argmax")
EXHAUSTIVE = 10  # largest number of classes for which "argmax" tries every support
TOP_BONUS = 1e-5  # added to the top class, so that it stays the largest of a support
FLOATS = 2**26  # numbers of class gradients or Gram matrices in memory at once


def last_layer_gram(surrogate: Tensor) -> Tensor:
    """The Gram matrix M (N, K, K), up to a positive factor for each picture, from the surrogate's posteriors (N, K)."""
    centred = torch.eye(surrogate.shape[1], dtype=surrogate.dtype, device=surrogate.device) - surrogate[:, None]
    return centred @ centred.transpose(1, 2)


def gram(network: nn.Module, inputs: Tensor) -> Tensor:
    """The Gram matrices M (N, K, K) of the class gradients grad log p_k(x), for all parameters of the network.

    Args:
        network: the surrogate, pixels -> logits (N, K).
        inputs: pictures (N, 3, H, W) in [0, 1].
    """
    parameters = parameters_of(network, "all")
    classes = network(inputs[:1]).shape[1]

    def one(picture: Tensor) -> Tensor:
        rows = jacrev(lambda p: log_posteriors(network, picture[None])(p)[0])(parameters)
        flat = [value.flatten(1) for value in rows.values()]
        return torch.stack([part @ part.T for part in flat]).sum(0)

    size = classes * sum(value.numel() for value in parameters.values())
    return vmap(one, chunk_size=max(1, FLOATS // size))(inputs)


def deviation(inner: Tensor, length: Tensor, own: Tensor) -> Tensor:
    """1 - cos of the angle between two gradients u and v; 1 if one of them is 0.

    Args:
        inner: inner products <u, v>, any shape; the other arguments broadcast to it.
        length: squared lengths |u|^2.
        own: squared lengths |v|^2.
    """
    product = (length * own).sqrt()
    return 1 - torch.where(product > 0, inner / product, 0.0)


def corner_deviation(y: Tensor, surrogate: Tensor) -> Tensor:
    """1 - cos(G e_k, G y), (N, K), for the last layer, in O(K).

    This is fast because the gradient for any answer is (answer - p_S) times the features.

    Args:
        y: clean posteriors (N, K).
        surrogate: posteriors p_S (N, K) of the surrogate.
    """
    apart = y - surrogate
    inner = apart - (apart * surrogate).sum(1, keepdim=True)  # <e_k - p_S, y - p_S>
    length = 1 - 2 * surrogate + surrogate.square().sum(1, keepdim=True)
    return deviation(inner, length, apart.square().sum(1, keepdim=True))


def corner_deviation_of(gram: Tensor, y: Tensor) -> Tensor:
    """1 - cos(G e_k, G y), (N, K), from Gram matrices (N, K, K)."""
    product = (gram @ y[..., None])[..., 0]
    own = (product * y).sum(1, keepdim=True)
    return deviation(product, gram.diagonal(dim1=1, dim2=2), own)


def best_support(gram: Tensor, y: Tensor) -> Tensor:
    """MAD-argmax: the answer (N, K) with the largest deviation among uniform answers on supports with y's top class.

    All classes of a support have equal weights; the top class has `TOP_BONUS` more, so that it stays the top class. Up to 10
    classes, every support is tried, including the top class alone. For more classes, a greedy search adds classes to the
    top class, and returns the best support of two or more classes, as in the published code.
    """
    # The top class becomes the first class, by swapping it with class 0.
    classes = torch.arange(y.shape[1], device=y.device).expand_as(y)
    top = y.argmax(1, keepdim=True)
    order = torch.where(classes == top, 0, classes).scatter(1, torch.zeros_like(top), top)
    index = order[..., None].expand_as(gram)
    swapped = gram.gather(1, index).gather(2, index.transpose(1, 2))
    first = y.gather(1, order)
    search = _every_support if y.shape[1] <= EXHAUSTIVE else _greedy_support
    return torch.zeros_like(y).scatter(1, order, search(swapped, first))


def _every_support(gram: Tensor, y: Tensor) -> Tensor:
    others = y.shape[1] - 1
    bits = torch.arange(2**others, device=y.device)[:, None] >> torch.arange(others, device=y.device) & 1
    supports = F.pad(bits.to(y), (1, 0), value=1 + TOP_BONUS)
    supports = supports / supports.sum(1, keepdim=True)
    product = (gram @ y[..., None])[..., 0]
    own = (product * y).sum(1, keepdim=True)
    length = ((supports @ gram) * supports).sum(-1)  # (N, number of supports)
    return supports[deviation(product @ supports.T, length, own).argmax(1)]


def _greedy_support(gram: Tensor, y: Tensor) -> Tensor:
    product = (gram @ y[..., None])[..., 0]
    own = (product * y).sum(1, keepdim=True)
    diagonal = gram.diagonal(dim1=1, dim2=2)
    chosen = torch.zeros_like(y)
    chosen[:, 0] = 1 + TOP_BONUS
    best, best_value = chosen, torch.full_like(own, -torch.inf)
    for _ in range(y.shape[1] - 1):
        # The weights are not normalised here, because the angle does not depend on their sum.
        image = (gram @ chosen[..., None])[..., 0]
        length = (image * chosen).sum(1, keepdim=True) + 2 * image + diagonal
        inner = (product * chosen).sum(1, keepdim=True) + product
        value, added = deviation(inner, length, own).masked_fill(chosen > 0, -torch.inf).max(1, keepdim=True)
        chosen = chosen.scatter(1, added, 1.0)
        best = torch.where(value > best_value, chosen, best)
        best_value = torch.maximum(value, best_value)
    return best / best.sum(1, keepdim=True)


@dataclass(frozen=True)
class MAD(ModelBased):
    """MAD: moves the answer towards the corner that turns the thief's gradient most. Its guide is that corner."""

    epsilon: float = parameter(
        0.5, "ε", "Largest l1 distance to the clean posterior.", high=2.0, label="Largest l1 distance"
    )
    oracle: Literal["extreme", "argmin", "random", "argmax"] = parameter(
        "extreme",
        "y*",
        "Target: the corner with the largest deviation, the least likely class, a random class, or the support with the "
        "largest deviation that has the top class.",
        choices=ORACLES,
        expert=True,
        guides=True,
        label="Target answer",
    )
    gradients: Literal["last", "all"] = parameter(
        "last",
        "θ",
        "Parameters of the surrogate whose gradient is turned: those of its last layer (which is fast), or all.",
        choices=("last", "all"),
        expert=True,
        guides=True,
        label="Gradients used",
    )
    objective: Literal["angle", "distance"] = parameter(
        "angle",
        "H",
        "What is maximised: the angle or the distance between the gradients for the clean and the sent answer.",
        choices=("angle", "distance"),
        expert=True,
        guides=True,
        label="What to maximise",
    )
    surrogate: Literal["untrained", "trained"] = parameter(
        "untrained",
        "S",
        "The surrogate: untrained (as published), or trained on the victim's answers.",
        choices=("untrained", "trained"),
        expert=True,
        guides=True,
        label="Second network",
    )

    name: ClassVar[str] = "mad"
    title: ClassVar[str] = "Maximizing Angular Deviation (MAD)"
    short: ClassVar[str] = "MAD"
    source: ClassVar[str] = "Orekondy et al., ICLR 2020"
    strength: ClassVar[str | None] = "epsilon"
    grid: ClassVar[tuple[float, ...]] = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    mark: ClassVar[tuple[str, str, str] | None] = ("#1b9e77", "triangle-up", "dashdot")
    guide_title: ClassVar[str] = "Target y* towards which the answer is moved"
    guide_unit: ClassVar[str] = "probability"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective == "distance" and self.gradients == "last" and self.oracle == "extreme":
            raise ValueError(
                "with gradients='last', the corner with the largest distance is always the least likely class: "
                "use oracle='argmin', objective='angle' or gradients='all'"
            )
        if self.objective == "distance" and self.oracle == "argmax":
            raise ValueError("oracle='argmax' is defined only for the angle: use objective='angle'")

    @property
    def needs(self) -> Kind | None:
        """See `ModelBased`."""
        if self.oracle in ("argmin", "random"):
            return None
        return "surrogate" if self.surrogate == "trained" else "untrained"

    @property
    def randomised(self) -> bool:
        """See `Defense`."""
        return self.oracle == "random"

    def guide(self, y: Tensor, inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `ModelBased`. The oracles argmin and random need no network."""
        if self.oracle == "argmin":
            return F.one_hot(y.argmin(1), y.shape[1]).to(y)
        if self.oracle == "random":
            device = y.device if generator is None else generator.device
            drawn = torch.randint(y.shape[1], (len(y),), generator=generator, device=device)
            return F.one_hot(drawn.to(y.device), y.shape[1]).to(y)
        return super().guide(y, inputs, generator)

    def _rows(self, network: nn.Module, classes: int) -> int:
        return max(1, min(super()._rows(network, classes), FLOATS // classes**2))

    def _look(self, network: nn.Module, y: Tensor, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.gradients == "last":
            surrogate = network(inputs).softmax(-1).to(y.dtype)
            if self.oracle == "argmax":
                return best_support(last_layer_gram(surrogate), y)
            values = corner_deviation(y, surrogate)
        else:
            matrix = gram(network, inputs).to(y.dtype)
            if self.oracle == "argmax":
                return best_support(matrix, y)
            values = corner_deviation_of(matrix, y) if self.objective == "angle" else corner_distance(matrix, y)
        return F.one_hot(values.argmax(1), y.shape[1]).to(y)

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        assert answer.guide is not None
        apart = answer.guide - answer.y
        step = (strength / apart.abs().sum(-1, keepdim=True).clamp_min(1e-12)).clamp(max=1.0)
        return answer.y + step * apart


def corner_distance(gram: Tensor, y: Tensor) -> Tensor:
    """|G (e_k - y)|^2, (N, K), from Gram matrices (N, K, K)."""
    product = (gram @ y[..., None])[..., 0]
    return gram.diagonal(dim1=1, dim2=2) - 2 * product + (product * y).sum(1, keepdim=True)
