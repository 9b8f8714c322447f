"""Common fixtures of all tests: one thread, a separate DCP_HOME, and a small victim."""

import os
from pathlib import Path

import pytest
import torch

from dcp_core.models import zoo
from dcp_core.models.architectures import build
from dcp_core.models.inference import predict

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
    torch.manual_seed(0)
    model = build("resnet8", 4)
    images = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8)
    card = zoo.Card("toy", "Toy", "toy", "resnet8", ("a", "b", "c", "d"), 32)
    zoo.save(model, card, predict(model, images), torch.arange(50) % 4)
    return zoo.load("toy")
