"""S4L: while the clone learns the answers, it also learns to tell how pictures were rotated.

Zhai, Oliver, Kolesnikov and Beyer, "S4L: Self-Supervised Semi-Supervised Learning", ICCV 2019. Jagielski et al., USENIX
Security 2020, use it in a thief. It needs no answers, so the clone also learns from pictures of the pool that were not
queried.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcp_core.models.training import Recipe, augment

ANGLES = 4  # 0, 90, 180 and 270 degrees


class RotationTask(nn.Module):
    """A clone with a second head, which tells the rotation of a picture from the features of the clone's last layer.

    Its logits (N, K) are those of the clone. `rotation_loss` is the loss that is added in each training step.
    """

    def __init__(self, clone: nn.Module, pool: Tensor, recipe: Recipe) -> None:
        """Take a clone that ends with a linear layer, and all pictures of the pool, uint8 (n, 3, H, H)."""
        super().__init__()
        self.clone, self.pool, self.recipe = clone, pool, recipe
        last = self._last_layer()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.head = nn.Linear(last.in_features, ANGLES).to(last.weight.device)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, K) of the clone for pixels (N, 3, H, W)."""
        return self.clone(pixels)

    def rotation_loss(self, step: int) -> Tensor:
        """Cross-entropy of the rotation, on all four rotations of random pictures of the pool.

        After rotation, these are as many pictures as in a training batch. They depend only on the seed and the step.
        """
        rng = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)
        count, padding = max(1, self.recipe.batch_size // ANGLES), self.recipe.crop_padding
        images = self.pool[torch.randint(len(self.pool), (count,), generator=rng)]
        shift = torch.randint(0, 2 * padding + 1, (count, 2), generator=rng)
        upright = augment(images, shift, torch.zeros(count, dtype=torch.bool), padding, self.recipe.border)
        rotated = torch.cat([upright.rot90(quarter, (2, 3)) for quarter in range(ANGLES)])
        angles = torch.arange(ANGLES).repeat_interleave(count)
        device = self.head.weight.device
        pixels = rotated.to(device).contiguous(memory_format=torch.channels_last)
        return F.cross_entropy(self.head(self._features(pixels)).float(), angles.to(device))

    def _features(self, pixels: Tensor) -> Tensor:
        """The input of the clone's last layer. Rotated pictures do not change its batch statistics."""
        seen: list[Tensor] = []
        hook = self._last_layer().register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
        try:
            with _statistics_kept(self.clone):
                self.clone(pixels)
        finally:
            hook.remove()
        return seen[0]

    def _last_layer(self) -> nn.Linear:
        return [module for module in self.clone.modules() if isinstance(module, nn.Linear)][-1]


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """Within it, batch normalisation does not update its running statistics."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
