"""Convert pictures to tensors and back."""

import base64
import io

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dcp_core.data.images import square


def to_tensor(image: Image.Image, size: int) -> Tensor:
    """Centre square of a picture, resized (see `square`): float32 (3, size, size) in [0, 1].

    Values are exactly those of the 8-bit pixels / 255.

    Raises:
        ValueError: for a `size` below 1.
    """
    return torch.from_numpy(square(image, size)).float() / 255


def to_url(tensor: Tensor) -> str:
    """Picture of a float tensor (3, H, W) in [0, 1] as a PNG in a `data:` address, for tables that show pictures.

    Raises:
        ValueError: as `to_image`.
    """
    file = io.BytesIO()
    to_image(tensor).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def to_image(tensor: Tensor) -> Image.Image:
    """Picture of a float tensor (3, H, W) in [0, 1], rounded to 8 bits: the inverse of `to_tensor`.

    Raises:
        ValueError: for another shape or type, or values outside [0, 1].
    """
    if tensor.ndim != 3 or tensor.shape[0] != 3 or 0 in tensor.shape or not tensor.is_floating_point():
        raise ValueError(f"expected a float tensor (3, H, W), got {tensor.dtype} {tuple(tensor.shape)}")
    if not bool(((tensor >= 0) & (tensor <= 1)).all()):  # NaN fails too
        raise ValueError("expected values in [0, 1]: undo the normalization, or clamp, first")
    pixels = (tensor.detach().float() * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().contiguous().numpy())


def sharpness(images: Tensor) -> Tensor:
    """The amount of detail in the middle of each uint8 picture (N, 3, H, W): values (N,), 0 to 2.

    It is the mean absolute difference of neighbouring pixels of the grey picture, which is first averaged over 2 x 2 pixels
    to reduce noise. Dark, blurred and empty pictures have small values.
    """
    grey = avg_pool2d(images.float().mean(1) / 255, 2)
    height, width = (side // 5 for side in grey.shape[1:])
    middle = grey[:, height : grey.shape[1] - height, width : grey.shape[2] - width]
    return middle.diff(dim=1).abs().mean((1, 2)) + middle.diff(dim=2).abs().mean((1, 2))
