"""A generator network for pictures, and an estimate of the gradient of a black box from its answers alone."""

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """Generator network of DFME (Truong et al., CVPR 2021): noise (N, latent) -> pictures before tanh (N, 3, H, W)."""

    def __init__(self, latent: int, width: int, height: int, breadth: int) -> None:
        super().__init__()
        self.grid = (width, height // 4, breadth // 4)
        self.linear = nn.Linear(latent, self.grid[0] * self.grid[1] * self.grid[2])
        self.body = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.BatchNorm2d(width // 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width // 2, 3, 3, padding=1),
            nn.BatchNorm2d(3, affine=False),
        )

    def forward(self, noise: Tensor) -> Tensor:
        """Pictures before tanh (N, 3, H, W), from noise (N, latent)."""
        return self.body(self.linear(noise).view(-1, *self.grid))


def to_range(before: Tensor) -> Tensor:
    """Map pictures before tanh, of any shape, to pixels in [0, 1]."""
    return (before.tanh() + 1) / 2


def probes(before: Tensor, directions: int, length: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The points of a forward difference: each picture, and `directions` random points at distance `length` from it.

    Args:
        before: pictures before tanh, (N, C, H, W).

    Returns:
        points ((directions + 1) N, C, H, W), the pictures themselves first, and unit vectors
        (directions, N, C, H, W), uniform on the sphere, drawn on the device.
    """
    units = torch.randn(directions, *before.shape, device=before.device, generator=rng)
    units /= units.flatten(2).norm(dim=2)[..., None, None, None]
    return torch.cat([before[None], before + length * units]).flatten(0, 1), units


def estimate_gradient(values: Tensor, units: Tensor, length: float) -> Tensor:
    """Estimate the gradient (N, C, H, W) of a value L at each picture, by forward differences.

    The estimate is d/m sum_j (L(x + length u_j) - L(x)) / length u_j, for d pixel values and m directions. It is
    unbiased if L is linear within the distance `length`.

    Args:
        values: values of L ((m + 1) N,) at the points of `probes`, in their order.
        units: directions (m, N, C, H, W), from `probes`.
    """
    directions, count = units.shape[:2]
    base, moved = values.view(directions + 1, count).tensor_split([1])
    slopes = (moved - base) / length
    dimensions = units[0, 0].numel()
    return dimensions / directions * (slopes[..., None, None, None] * units).sum(0)
