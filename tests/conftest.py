"""Common fixtures of all tests: one thread, a separate DCP_HOME, and a small victim."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dcp_core.attacks import clone_training
from dcp_core.models import pretrained, storing, zoo
from dcp_core.models.architectures import build
from dcp_core.models.inference import predict
from dcp_core.models.pretrained import FEATURES
from dcp_core.runs import shared_features, worker

torch.set_num_threads(1)
os.environ["DCP_PRECISION"] = "fp32"  # the same numbers whatever the processor; tests of bf16 ask for it


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty DCP_HOME."""
    monkeypatch.setenv("DCP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def victim(home: Path) -> zoo.Victim:
    """An untrained 4-class victim, saved as `toy` in the test's home."""
    return toy()


@pytest.fixture(scope="module")
def shared_victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zoo.Victim]:
    """A victim like `victim`, in one home for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCP_HOME", str(tmp_path_factory.mktemp("home")))
        yield toy()


def toy() -> zoo.Victim:
    """An untrained 4-class victim, saved as `toy`."""
    torch.manual_seed(0)
    model = build("resnet8", 4)
    images = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8)
    card = zoo.Card("toy", "Toy", "toy", "resnet8", ("a", "b", "c", "d"), 32)
    storing.save(model, card, predict(model, images), torch.arange(50) % 4)
    return zoo.load("toy")


class Backbone(nn.Module):
    """Stands for the pretrained network: features that take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def extract_features(self, x: Tensor) -> Tensor:
        """Colours on a grid of 20 x 20, then zeros."""
        self.calls += len(x)
        grid = nn.functional.adaptive_avg_pool2d(x, 20).flatten(1)
        return nn.functional.pad(grid, (0, FEATURES - grid.shape[1]))[:, :, None, None]


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """Makes everything but the pretrained network itself work without the optional packages."""
    fake = Backbone()
    monkeypatch.setattr(pretrained, "backbone", lambda device: fake)
    monkeypatch.setattr(clone_training, "STEPS", 100)
    for module in (pretrained, shared_features, worker):
        monkeypatch.setattr(module, "weights_file", lambda: Path("stand-in.pth"))
    return fake
