"""Running a classifier over many pictures."""

import torch
from torch import Tensor, nn

BATCH = 500


def to_pixels(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) in 0..255 -> float32 in [0, 1]; floats pass through unchanged."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def predict(model: nn.Module, images: Tensor, batch_size: int = BATCH) -> Tensor:
    """Logits (N, K) on the CPU for pictures (N, 3, H, W), uint8 or floats in [0, 1], in eval mode."""
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(to_pixels(part.to(device))) for part in images.split(batch_size)])
    model.train(training)
    return logits.float().cpu().clone()
