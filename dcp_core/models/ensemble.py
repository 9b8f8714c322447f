"""Several networks that answer together."""

from copy import deepcopy

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Pixels (N, 3, H, W) -> logits (N, K): the logarithm of the mean posterior of the members."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def each(self, pixels: Tensor) -> list[Tensor]:
        """The logits (N, K) of each member."""
        return [member(pixels) for member in self.members]

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, K) of pixels (N, 3, H, W): the logarithm of the mean posterior."""
        posteriors = torch.stack(self.each(pixels)).float().log_softmax(-1)
        return posteriors.logsumexp(0) - torch.tensor(float(len(self.members))).log()


def reinitialised(network: nn.Module, seed: int) -> nn.Module:
    """A copy of a network with other random initial weights, on the same device."""
    other = deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in other.modules():
            if isinstance(reset := getattr(module, "reset_parameters", None), type(other.forward)):
                reset()
    return other
