"""The networks of victims and clones, for small pictures.

Every network maps pixels in [0, 1] to logits. Normalisation is part of the network, so that attackers and defenders use the
same pixels for every victim. All networks have global pooling, so they take pictures of any size from 16 x 16 on.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcp_core.models.fast import WHITEN_LEAST, WHITEN_MOST, FastNet
from dcp_core.models.inference import resized, to_pixels
from dcp_core.models.pretrained import FROZEN, FrozenNet


class Classifier(nn.Module):
    """A network that normalises its own input: pixels (N, 3, H, W) in [0, 1] -> logits (N, K).

    With `mirrored`, its answer in eval mode is the mean of the logits of a picture and of its mirror image. With `side`, it
    first resizes pictures to this number of pixels.
    """

    mean: Tensor
    std: Tensor
    mirrored: bool = False
    side: int | None = None

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, K) of pixels (N, 3, H, W) in [0, 1]."""
        x = self.normalise(pixels)
        if self.mirrored and not self.training:
            return (self.network(x) + self.network(x.flip(3))) / 2
        return self.network(x)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (N, 3, H, W), from pixels in [0, 1], resized to `side`."""
        return ((pixels if self.side is None else resized(pixels, self.side)) - self.mean) / self.std


def _conv3(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., CVPR 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = _conv3(outputs, outputs), nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, C, H, W) of the block, from those of the block before."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class WideBlock(nn.Module):
    """Pre-activation block of wide residual networks (Zagoruyko and Komodakis, BMVC 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), _conv3(inputs, outputs, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), _conv3(outputs, outputs)
        self.project = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, C, H, W) of the block, from those of the block before."""
        y = F.relu(self.bn1(x))
        shortcut = x if self.project is None else self.project(y)
        return self.conv2(F.relu(self.bn2(self.conv1(y)))) + shortcut


class InvertedBlock(nn.Module):
    """Expand, depthwise convolution, project (MobileNetV2, Sandler et al., CVPR 2018)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int = 4) -> None:
        super().__init__()
        hidden = inputs * expand
        self.residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            _conv3(hidden, hidden, stride, groups=hidden),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, C, H, W) of the block, from those of the block before."""
        return x + self.body(x) if self.residual else self.body(x)


def _stages(
    block: Callable[[int, int, int], nn.Module], inputs: int, widths: tuple[int, ...], depth: tuple[int, ...]
) -> list[nn.Module]:
    """Stages of blocks. In every stage except the first, the first block halves the size of the picture."""
    layers: list[nn.Module] = []
    for stage, (width, blocks) in enumerate(zip(widths, depth, strict=True)):
        for index in range(blocks):
            layers.append(block(inputs, width, 2 if stage and not index else 1))
            inputs = width
    return layers


def _head(width: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


def _resnet(widths: tuple[int, ...], depth: tuple[int, ...]) -> Callable[[int], nn.Module]:
    def build(classes: int) -> nn.Module:
        stem = [_conv3(3, widths[0]), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        return nn.Sequential(*stem, *_stages(BasicBlock, widths[0], widths, depth), *_head(widths[-1], classes))

    return build


def _wide_resnet(layers: int, factor: int) -> Callable[[int], nn.Module]:
    def build(classes: int) -> nn.Module:
        widths = (16 * factor, 32 * factor, 64 * factor)
        body = _stages(WideBlock, 16, widths, ((layers - 4) // 6,) * 3)
        tail = [nn.BatchNorm2d(widths[-1]), nn.ReLU()]
        return nn.Sequential(_conv3(3, 16), *body, *tail, *_head(widths[-1], classes))

    return build


def _mobilenet(widths: tuple[int, ...], depth: tuple[int, ...]) -> Callable[[int], nn.Module]:
    def build(classes: int) -> nn.Module:
        stem = [_conv3(3, widths[0]), nn.BatchNorm2d(widths[0]), nn.ReLU6()]
        return nn.Sequential(*stem, *_stages(InvertedBlock, widths[0], widths, depth), *_head(widths[-1], classes))

    return build


def _fast(*widths: int) -> Callable[[int], nn.Module]:
    groups = widths[0], widths[1], widths[2]
    return lambda classes: FastNet(groups, classes)


# ResNet-18 and -34 with a 3x3 stem are the "resnet18_8x" and "resnet34_8x" of the DFME paper.
ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "resnet8": _resnet((16, 32, 64), (1, 1, 1)),
    "resnet20": _resnet((16, 32, 64), (3, 3, 3)),
    "resnet32": _resnet((16, 32, 64), (5, 5, 5)),
    "resnet18": _resnet((64, 128, 256, 512), (2, 2, 2, 2)),
    "resnet34": _resnet((64, 128, 256, 512), (3, 4, 6, 3)),
    "wrn22_2": _wide_resnet(22, 2),
    "wrn40_2": _wide_resnet(40, 2),
    "mobilenet_small": _mobilenet((16, 24, 32, 64), (1, 2, 2, 2)),
    # Channels of the three groups, see fast.py; the fewer, the faster.
    "fast_32_64_64": _fast(32, 64, 64),
    "fast_32_64_128": _fast(32, 64, 128),
    "fast_32_128_128": _fast(32, 128, 128),
    "fast_64_128_128": _fast(64, 128, 128),
    "fast_64_256_256": _fast(64, 256, 256),
}


# Networks of clones. The last one has pretrained features; victims and second networks cannot use it.
CLONES = (*ARCHITECTURES, FROZEN)


STAND_IN = "resnet8"  # second network of a victim whose own network is not known


def second_architecture(architecture: str) -> str:
    """The architecture of a victim's second networks: the victim's own, or `STAND_IN` if it is not one of this project."""
    return architecture if architecture in ARCHITECTURES else STAND_IN


def build(name: str, classes: int) -> Classifier:
    """A newly initialised network by name. It uses torch's global random state.

    Raises:
        ValueError: if the name is not in `CLONES`.
        MissingExtra: if it is the pretrained clone, and the extra `pretrained` is not installed.
    """
    if name == FROZEN:
        return Classifier(FrozenNet(classes), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # it normalises pixels itself
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown architecture '{name}'; known: {', '.join(ARCHITECTURES)}")
    return Classifier(ARCHITECTURES[name](classes))


def whiten(model: nn.Module, images: Tensor) -> None:
    """Compute the whitening layer (the first convolution) of a new `fast_...` network. Other models are not changed.

    Args:
        images: training pictures, uint8 (N, 3, H, W). The first `WHITEN_MOST` are used.

    Raises:
        ValueError: if there are fewer than `WHITEN_LEAST` pictures.
    """
    check_whitening(model, len(images))
    if isinstance(model, Classifier) and isinstance(model.network, FastNet):
        pixels = to_pixels(images[:WHITEN_MOST].to(model.mean.device))
        model.network.whiten(model.normalise(pixels))


def check_whitening(model: nn.Module, pictures: int) -> None:
    """Check that the number of pictures is sufficient for `whiten`.

    Raises:
        ValueError: if it is not.
    """
    fast = isinstance(model, Classifier) and isinstance(model.network, FastNet)
    if fast and pictures < WHITEN_LEAST:
        raise ValueError(
            f"the whitening layer of a fast_... network needs at least {WHITEN_LEAST} pictures, but there are {pictures}: "
            "use more pictures or another network"
        )
