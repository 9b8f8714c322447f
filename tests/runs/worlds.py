"""A victim that can be attacked in a second, for tests of the folders of runs."""

from pathlib import Path

import numpy as np
import torch

from dcp_core.models import storing, zoo
from dcp_core.models.architectures import build
from dcp_core.models.inference import predict

PICTURES = 200


def small_world(folder: Path) -> str:
    """A victim `small` in the test's home with its data set; that data set's path, as the thief's pool."""
    dice = np.random.default_rng(0)
    shape = (PICTURES, 32, 32, 3)
    arrays = {f"x_{split}": dice.integers(0, 256, shape, dtype=np.uint8) for split in ("train", "test")}
    arrays |= {f"y_{split}": np.arange(PICTURES) % 4 for split in ("train", "test")}
    path = folder / "data.npz"
    np.savez(path, classes=np.array(list("abcd")), **arrays)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = build("resnet8", 4)
    images = torch.from_numpy(arrays["x_test"].transpose(0, 3, 1, 2).copy())
    card = zoo.Card("small", "Small", str(path), "resnet8", tuple("abcd"), 32)
    storing.save(model, card, predict(model, images), torch.arange(PICTURES) % 4)
    return str(path)
