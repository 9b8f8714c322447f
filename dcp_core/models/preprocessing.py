"""How a picture becomes the input of a network that was not made by this project."""

import json
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

ORDERS = ("RGB", "BGR", "grey")
LAYOUTS = ("NCHW", "NHWC")
LUMA = (0.299, 0.587, 0.114)  # grey value of a colour, ITU-R BT.601, as Pillow's mode L
MOST_SIZE = 1024


class PreprocessingError(ValueError):
    """An impossible preprocessing. The message says what is possible."""


@dataclass(frozen=True)
class Preprocessing:
    """From the centre square of a picture to a network's input: crop, resize, scale, normalise, reorder.

    Args:
        size: side of the input in pixels.
        crop: share of the centre square's side that is kept, above 0 to 1. A resize to 256 pixels followed by a centre crop
            of 224 is 224 / 256 = 0.875.
        highest: the value of a white pixel before normalisation, 1 or 255.
        mean, std: numbers in the normalisation `(value - mean) / std`, for red, green and blue, in units of `highest`.
        order: order of the channels, one of `ORDERS`. "grey" is one channel, the weighted mean of the three.
        layout: layout of the input, one of `LAYOUTS`.

    Raises:
        PreprocessingError: for values outside these ranges.
    """

    size: int
    crop: float = 1.0
    highest: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    order: str = "RGB"
    layout: str = "NCHW"

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "unit": {},
        "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        "symmetric": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        "bytes": {"highest": 255.0},
        "caffe": {"highest": 255.0, "mean": (123.68, 116.779, 103.939), "order": "BGR"},
    }

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MOST_SIZE:
            raise PreprocessingError(f"the size must be from 1 to {MOST_SIZE} pixels, not {self.size}")
        if not 0 < self.crop <= 1:
            raise PreprocessingError(f"the crop is a share above 0 and at most 1, not {self.crop}")
        if self.highest not in (1, 255):
            raise PreprocessingError(f"the value of a white pixel is 1 or 255, not {self.highest}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(0 < each < 1e6 for each in self.std):
            raise PreprocessingError("mean and std are three numbers each, and those of std are above 0")
        if self.order not in ORDERS or self.layout not in LAYOUTS:
            raise PreprocessingError(f"the order is one of {', '.join(ORDERS)}, the layout {' or '.join(LAYOUTS)}")

    def __call__(self, pixels: Tensor) -> Tensor:
        """A network's input, float32 in this layout, of cropped and resized pixels (N, 3, size, size) in [0, 1]."""
        x = (pixels * self.highest - _column(self.mean)) / _column(self.std)
        if self.order == "BGR":
            x = x.flip(1)
        if self.order == "grey":
            x = (x * _column(LUMA)).sum(1, keepdim=True)
        return (x.permute(0, 2, 3, 1) if self.layout == "NHWC" else x).contiguous()

    def values(self) -> dict[str, Any]:
        """The parameters, as they are stored in a card."""
        return json.loads(json.dumps(asdict(self)))

    def words(self) -> str:
        """The preprocessing in words."""
        words = [f"{self.size} x {self.size} pixels"]
        if self.crop < 1:
            words.append(f"the central {100 * self.crop:.3g} % of the centre square")
        words += [self.order, f"values 0 to {self.highest:g}"]
        if any(self.mean) or any(each != 1 for each in self.std):
            words.append(f"minus {_numbers(self.mean)}, divided by {_numbers(self.std)}")
        return ", ".join([*words, self.layout])


def _column(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def _numbers(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:g}" for value in values)
