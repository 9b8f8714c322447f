"""Small inputs for tests of attacks: 16x16 pictures of six classes and a victim that trains in seconds."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from dcp_core.attacks import Event, Oracle, Theft, make_attack
from dcp_core.data.datasets import ImageSet
from dcp_core.defenses import Defense, NoDefense
from dcp_core.evaluation.stealing import Evaluator
from dcp_core.models.architectures import Classifier
from dcp_core.models.inference import predict
from dcp_core.models.training import Recipe, train

CLASSES, SIDE = 6, 16
SHAPE = (3, SIDE, SIDE)
CHANCE_ERROR = 100 * (1 - 1 / CLASSES)


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Each class is one coloured pattern, faint under noise; uint8 pictures and labels."""
    patterns = torch.rand(CLASSES, 3, 4, 4, generator=torch.Generator().manual_seed(7))
    patterns = nn.functional.interpolate(patterns, size=SIDE, mode="bilinear")
    dice = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    strength = torch.empty(count, 1, 1, 1).uniform_(0.3, 1.0, generator=dice)
    noise = torch.rand(count, *SHAPE, generator=dice)
    return ((strength * patterns[labels] + (1 - strength) * noise) * 255).byte(), labels


def network(seed: int, width: int = 12, classes: int = CLASSES) -> Classifier:
    """A three-layer convolutional network; no state of the global random generator is touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, width), (width, 2 * width)):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        return Classifier(
            nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, classes))
        )


@cache
def victim() -> Classifier:
    """The victim; do not change it."""
    torch.set_num_threads(1)
    model = network(1)
    for _ in train(model, *pictures(1200, 1), Recipe(epochs=6, batch_size=64, crop_padding=1)):
        pass
    return model


@cache
def judge() -> Evaluator:
    """Of the toy victim."""
    images, labels = pictures(600, 2)
    return Evaluator.of(predict(victim(), images), ImageSet("toy", images, labels, tuple("abcdef")))


def pool(count: int = 900, seed: int = 3) -> ImageSet:
    """A knowledgeable pool with its own labels."""
    images, labels = pictures(count, seed)
    return ImageSet("toy pool", images, labels, tuple("abcdef"))


def theft(budget: int, defense: Defense | None = None, model: nn.Module | None = None, **changes: Any) -> Theft:
    """A theft of the toy victim by a fresh clone."""
    defense = defense or NoDefense()
    oracle = Oracle(model or victim(), defense, budget, shape=SHAPE, seed=changes.pop("oracle_seed", 5))
    settings: dict[str, Any] = {"clone": network(11), "pool": pool(), "known_defense": defense, **changes}
    return Theft(oracle, **settings)


SMALL: dict[str, dict[str, Any]] = {
    "knockoff": {"epochs": 4, "batch": 32},
    "dfme": {"batch": 32, "width": 8, "latent": 16},
    "maze": {"batch": 16, "width": 8, "latent": 16, "directions": 3, "clone_steps": 3, "replay_steps": 2},
    "jbda": {"start": 100, "epochs": 4, "batch": 32},
    "disguide": {"batch": 32, "width": 8, "latent": 16, "memory_size": 500, "replay_steps": 1},
}
"""Parameters that make each attack small."""


def steal(name: str, given: Theft, **parameters: Any) -> list[Event]:
    """All events of a small attack."""
    return list(make_attack(name, **{**SMALL[name], **parameters}).steps(given))
