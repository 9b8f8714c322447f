"""Networks that train fast on a CPU, after airbench (Jordan, arXiv 2404.00498).

`fast_A_B_C` has a 2x2 convolution with 24 channels, followed by three groups with A, B and C channels:

    group: 3x3 convolution, 2x2 max pool, batch norm, ReLU, 3x3 convolution, batch norm, ReLU

then a global max pool and a linear layer. The first convolution can be a fixed whitening layer: its filters are the
principal components of 2x2 patches, scaled to unit variance, and their negatives. ReLU replaces airbench's GELU: it is
faster, not worse here, and can be quantized.
"""

import torch
from torch import Tensor, nn

FILTERS, PATCH = 12, 2  # a patch of 2x2 pixels in 3 colours has 12 numbers, so 12 principal components
SCALE = 9  # divisor of the features, so that the last layer does not learn faster than the others
NOISE = 5e-4  # added to each variance, so that components with almost no variance are not amplified
WHITEN_LEAST, WHITEN_MOST = 16, 1000  # numbers of pictures; 1,000 have a million patches


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
        """Logits (N, K) of normalised pictures (N, 3, H, W)."""
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
    """A convolution that is initialised as the identity (Dirac), and a batch norm with a fixed scale."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight.data[:inputs])
    norm = nn.BatchNorm2d(outputs)
    norm.weight.requires_grad_(False)
    return [convolution, *between, norm, nn.ReLU()]
