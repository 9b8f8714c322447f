"""What AM, MAD and GRAD^2 share: a second network that looks at the picture.

What that network says about a picture, the guide (N, K), does not depend on the strength: it is computed once
and serves every strength, and it can be stored beside the answers of a test set.
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
ROWS = 250  # pictures looked at in one go; more would only take more memory


@dataclass(frozen=True)
class ModelBased(Defense):
    """Base of the defenses with a second network, which `armed` gives them.

    `guide_title` and `guide_unit` say what the guide of one picture is, above its chart and on its axis.
    """

    network: nn.Module | None = dataclasses.field(default=None, repr=False, compare=False, kw_only=True)

    needs_inputs: ClassVar[bool] = True
    guide_title: ClassVar[str] = "What the second network says of each class"
    guide_unit: ClassVar[str] = "value"

    @property
    def needs(self) -> Kind | None:
        """Which network it needs: a misinformation model, a surrogate, trained or as initialised, or none."""
        raise NotImplementedError

    def armed(self, network: nn.Module) -> Self:
        """This defense with its network (pixels in [0, 1] -> logits (N, K)), which is put in eval mode."""
        return dataclasses.replace(self, network=network.eval())

    def guide(self, y: Tensor, inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the network says about each picture, (N, K); see each defense.

        Args:
            y: the victim's clean posteriors (N, K).
            inputs: the pictures (N, 3, H, W) in [0, 1].

        Raises:
            ValueError: before `armed`, or for a network with another number of classes.
        """
        if self.network is None:
            raise ValueError(f"{self.title} needs its {self.needs} model: give it one with `armed`")
        self.network.eval()  # its owner may train it meanwhile
        with torch.no_grad():
            if not len(y):
                return y
            rows = self._rows(self.network, y.shape[1])
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            parts = zip(y.split(rows), inputs.split(rows), strict=True)
            found = torch.cat([self._look(self.network, *part, generator) for part in parts])
        if found.shape != y.shape:
            raise ValueError(f"the victim has {y.shape[1]} classes, the {self.needs} model {found.shape[1]}")
        return found

    def _rows(self, network: nn.Module, classes: int) -> int:
        return ROWS

    def _look(self, network: nn.Module, y: Tensor, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError


def parameters_of(network: nn.Module, gradients: str) -> Parameters:
    """Parameters that a gradient is taken for: of the whole network, or ('last') of its last linear layer.

    Raises:
        ValueError: for 'last' and a network without a linear layer.
    """
    named = {name: value.detach() for name, value in network.named_parameters()}
    if gradients == "all":
        return named
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError("the surrogate has no linear layer: take the gradients of all parameters")
    return {name: value for name, value in named.items() if name.rpartition(".")[0] == linear[-1]}


def log_posteriors(network: nn.Module, inputs: Tensor) -> Callable[[Parameters], Tensor]:
    """Parameters -> log softmax of the network's logits for `inputs`, (N, K); the rest of the network as it is."""
    fixed: dict[str, Any] = {name: value.detach() for name, value in network.named_parameters()}
    fixed |= dict(network.named_buffers())

    def compute(parameters: Parameters) -> Tensor:
        logits: Tensor = torch.func.functional_call(network, fixed | parameters, (inputs,))
        return logits.log_softmax(-1)

    return compute
