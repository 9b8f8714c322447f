"""Base of AM, MAD and GRAD²: defenses that use the picture, with a second network.

Such a defense computes a guide (N, K) from the pictures. The guide does not depend on the strength. Therefore it is
computed once for all strengths, and can be stored with the answers to a test set.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from dcp_core.defenses.base import Defense
from dcp_core.defenses.folding import Parameters

Kind = Literal["misinformation", "surrogate", "untrained"]
ROWS = 250  # pictures in one batch; larger batches need more memory and are not faster


@dataclass(frozen=True)
class ModelBased(Defense):
    """Base of defenses with a second network. `armed` sets the network.

    `guide_title` and `guide_unit` are the title and the axis label of the chart of one picture's guide.
    """

    network: nn.Module | None = dataclasses.field(default=None, repr=False, compare=False, kw_only=True)

    needs_inputs: ClassVar[bool] = True
    guide_title: ClassVar[str] = "Output of the second network for each class"
    guide_unit: ClassVar[str] = "value"

    @property
    def needs(self) -> Kind | None:
        """The needed network: a misinformation model, a (trained) surrogate, an untrained surrogate, or None."""
        raise NotImplementedError

    def armed(self, network: nn.Module) -> Self:
        """This defense with its network, which maps pixels (N, 3, H, W) in [0, 1] to logits (N, K). Sets it to eval mode."""
        return dataclasses.replace(self, network=network.eval())

    def guide(self, y: Tensor, inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The guide (N, K), computed from the pictures by the second network; see each defense.

        Args:
            y: the victim's clean posteriors (N, K).
            inputs: the pictures (N, 3, H, W) in [0, 1].
            generator: generator of random numbers, for randomised defenses.

        Raises:
            ValueError: if `armed` was not called, or the network has another number of classes than the victim.
        """
        if self.network is None:
            raise ValueError(f"{self.title} needs its {self.needs} model: give it one with `armed`")
        self.network.eval()  # because a caller may have set it to training mode
        with torch.no_grad():
            if not len(y):
                return y
            rows = self._rows(self.network, y.shape[1])
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            parts = zip(y.split(rows), inputs.split(rows), strict=True)
            found = torch.cat([self._look(self.network, *part, generator) for part in parts])
        if found.shape != y.shape:
            raise ValueError(
                f"the {self.needs} model has {found.shape[1]} classes, but the victim has {y.shape[1]}: "
                "train one for this victim"
            )
        return found

    def _rows(self, network: nn.Module, classes: int) -> int:
        return ROWS

    def _look(self, network: nn.Module, y: Tensor, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError


def parameters_of(network: nn.Module, gradients: str) -> Parameters:
    """The parameters for which gradients are computed: "all" of the network, or "last", those of its last linear layer.

    Raises:
        ValueError: for "last" if the network has no linear layer.
    """
    named = {name: value.detach() for name, value in network.named_parameters()}
    if gradients == "all":
        return named
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError("the surrogate has no linear layer: use gradients='all'")
    return {name: value for name, value in named.items() if name.rpartition(".")[0] == linear[-1]}


def log_posteriors(network: nn.Module, inputs: Tensor) -> Callable[[Parameters], Tensor]:
    """A function from parameters to the network's log posteriors (N, K) for `inputs`. Other parameters stay unchanged."""
    fixed: dict[str, Any] = {name: value.detach() for name, value in network.named_parameters()}
    fixed |= dict(network.named_buffers())

    def compute(parameters: Parameters) -> Tensor:
        logits: Tensor = torch.func.functional_call(network, fixed | parameters, (inputs,))
        return logits.log_softmax(-1)

    return compute
