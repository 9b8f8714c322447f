"""Networks that learn fast on a CPU, after airbench (Jordan, arXiv 2404.00498).

`fast_A_B_C` has three groups of A, B and C channels behind a 2x2 convolution of 24:

    group: 3x3 convolution, 2x2 max pool, batch norm, ReLU, 3x3 convolution, batch norm, ReLU

then a global max pool and a linear layer. The first convolution can be whitened: its filters become the principal
components of 2x2 patches, scaled to unit variance, and their negatives, and stay so. ReLU takes the place of
airbench's GELU: it is faster, not worse here, and runs in eight bits.
"""

import torch
from torch import Tensor, nn

FILTERS, PATCH = 12, 2  # a patch of 2x2 pixels in 3 colours has 12 numbers, so 12 principal components
SCALE = 9  # features are divided by it, so that the last layer learns no faster than the others
NOISE = 5e-4  # added to each variance before it is divided by: components of almost no variance stay small
WHITEN_LEAST, WHITEN_MOST = 16, 1000  # pictures; those have a million patches


class FastNet(nn.Module):
    """Pictures (N, 3, H, W) of at least 16 x 16, normalised -> logits (N, K)."""

    def __init__(self, widths: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2 * FILTERS, PATCH)
        layers: list[nn.Module] = [nn.ReLU()]
        inputs = 2 * FILTERS
        for width in widths:
            layers += [*_block(inputs, width, nn.MaxPool2d(2)), *_block(width, width)]
            inputs = width
        self.groups = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.groups(self.first(x)).amax((2, 3)) / SCALE)

    def whiten(self, x: Tensor) -> None:
        """Set the first convolution from normalised pictures (N, 3, H, W), and freeze it."""
        patches = nn.functional.unfold(x, PATCH).transpose(1, 2).flatten(0, 1)
        variances, components = torch.linalg.eigh(patches.T.double().cov())
        filters = (components / (variances + NOISE).sqrt()).T.reshape(FILTERS, 3, PATCH, PATCH)
        with torch.no_grad():
            self.first.weight.copy_(torch.cat([filters, -filters]))
            self.first.bias.zero_()  # type: ignore[union-attr]
        self.first.requires_grad_(False)


def _block(inputs: int, outputs: int, *between: nn.Module) -> list[nn.Module]:
    """A convolution that starts by passing its inputs on (Dirac), and a batch norm without a scale to learn."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight.data[:inputs])
    norm = nn.BatchNorm2d(outputs)
    norm.weight.requires_grad_(False)
    return [convolution, *between, norm, nn.ReLU()]
