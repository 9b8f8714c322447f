"""What a stolen clone is good for: adversarial pictures made on it that also fool the victim.

Untargeted l_inf PGD with a random start (Madry et al., ICLR 2018): eps 8/255, steps of 2/255, 10 of them.
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
        model: white box, switched to eval mode for the while.
        images: uint8, or floats in [0, 1].
        labels: (N,) classes to get away from.
        epsilon: largest change of a pixel; `step`: change of a pixel by one of `steps` sign steps.
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
    epsilon: float = 8 / 255,
    seed: int = 0,
    batch_size: int = 250,
) -> float:
    """Percentage of the pictures the victim gets right that it gets wrong after PGD on the clone.

    Raises:
        ValueError: when the victim gets none of the pictures right.
    """
    right = predict(victim, images).argmax(1) == labels
    if not bool(right.any()):
        raise ValueError("the victim gets none of these pictures right: nothing to transfer")
    images, labels = images[right], labels[right]
    fooled = 0
    for start in range(0, len(images), batch_size):
        part, truth = images[start : start + batch_size], labels[start : start + batch_size]
        adversarial = pgd(clone, part, truth, epsilon=epsilon, seed=seed + start)
        fooled += int((predict(victim, adversarial).argmax(1) != truth).sum())
    return 100 * fooled / len(images)
