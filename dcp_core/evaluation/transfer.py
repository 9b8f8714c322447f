"""Adversarial pictures computed on a clone, and how many of them also fool the victim.

Untargeted l_inf PGD with a random start (Madry et al., ICLR 2018): epsilon 8/255, 10 steps of 2/255.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcp_core.models.inference import predict, to_pixels


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float = 8 / 255,
    step: float = 2 / 255,
    steps: int = 10,
    seed: int = 0,
) -> Tensor:
    """Adversarial pixels (N, 3, H, W) in [0, 1], within `epsilon` of `images`, on the model's device.

    Args:
        model: a network with gradients; it is in eval mode during the computation.
        images: uint8, or floats in [0, 1].
        labels: (N,), the classes that the adversarial pictures should avoid.
        epsilon: largest change of a pixel.
        step: change of a pixel in one of the `steps` sign steps.
        seed: seed of the random start.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    clean, labels = to_pixels(images.to(device)), labels.to(device)
    start = torch.rand(clean.shape, generator=generator).to(device) * 2 - 1
    adversarial = (clean + epsilon * start).clamp(0, 1)
    training = model.training
    model.eval()
    for _ in range(steps):
        adversarial.requires_grad_(True)
        loss = F.cross_entropy(model(adversarial), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        moved = adversarial.detach() + step * gradient.sign()
        adversarial = clean + (moved - clean).clamp(-epsilon, epsilon)
        adversarial = adversarial.clamp(0, 1)
    model.train(training)
    return adversarial


def transfer_rate(
    clone: nn.Module,
    victim: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    answers: Tensor | None = None,
    epsilon: float = 8 / 255,
    seed: int = 0,
    batch_size: int = 250,
) -> float:
    """Of the pictures that the victim classifies correctly, the percentage that it misclassifies after PGD on the clone.

    Args:
        images: uint8 (N, 3, H, W).
        labels: integers (N,).
        answers: the victim's logits (N, K) for these pictures. Default: they are computed.

    Raises:
        ValueError: if the victim classifies none of the pictures correctly.
    """
    right = (predict(victim, images) if answers is None else answers).argmax(1) == labels
    if not bool(right.any()):
        raise ValueError(
            "the victim classifies none of these pictures correctly: a transfer rate cannot be computed"
        )
    images, labels = images[right], labels[right]
    fooled = 0
    for start in range(0, len(images), batch_size):
        part, truth = images[start : start + batch_size], labels[start : start + batch_size]
        adversarial = pgd(clone, part, truth, epsilon=epsilon, seed=seed + start)
        fooled += int((predict(victim, adversarial).argmax(1) != truth).sum())
    return 100 * fooled / len(images)
