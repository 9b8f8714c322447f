"""The training loop of victims, clones and second networks.

Pictures stay in memory as uint8. A whole batch is cropped, mirrored and scaled at once. All random numbers depend only on
(seed, epoch). Therefore a training that is resumed from its checkpoint takes exactly the same steps.
"""

import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from dcp_core import checkpoints
from dcp_core.precision import autocast

PULSE = 0.5  # seconds since the last report after which the next step is reported
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """A training recipe: SGD with Nesterov momentum, and data augmentation.

    Args:
        lr: peak learning rate.
        schedule: "onecycle"; "cosine", from the peak to 0; or "linear", which rises to the peak in the first fifth of the
            steps and then falls to 0.
        decay: apply weight decay to "all" parameters, or to "weights" only (not to biases and batch normalisation).
        crop_padding: largest shift of a picture in each direction, pixels.
        border: content of the uncovered border of a shifted picture: "black", or a "reflection" of the picture.
        flip: mirror half of the pictures. Use it only if mirroring keeps the label: not for digits and traffic signs.
        alternate: with `flip`, mirror each picture in every second epoch instead of at random (Jordan, 2024).
    """

    epochs: int = 20
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay: Literal["all", "weights"] = "all"
    schedule: Literal["onecycle", "cosine", "linear"] = "onecycle"
    crop_padding: int = 4
    border: Literal["black", "reflection"] = "black"
    flip: bool = False
    alternate: bool = False
    seed: int = 0


@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a training. `loss` is the mean loss since the last report, `seconds` the time since the start."""

    step: int
    steps: int
    loss: float
    seconds: float

    @property
    def fraction(self) -> float:
        """Fraction of the steps that are done, 0 to 1."""
        return self.step / self.steps


def augment(images: Tensor, shift: Tensor, mirror: Tensor, padding: int, border: str = "black") -> Tensor:
    """Pad each picture, crop it at its own offset, mirror some pictures, and scale to [0, 1].

    Args:
        images: uint8 (N, 3, H, W).
        shift: integers (N, 2) from 0 to 2 * padding: row and column of the crop.
        mirror: bool (N,), which pictures to mirror.
        padding: pixels added on each side.
        border: content of the added pixels, as in `Recipe`.

    Returns:
        float32 (N, 3, H, W) in channels-last layout.
    """
    count, _, height, width = images.shape
    rows = torch.arange(height, device=images.device) + shift[:, :1]
    columns = torch.arange(width, device=images.device).expand(count, -1)
    columns = torch.where(mirror[:, None], width - 1 - columns, columns) + shift[:, 1:]
    if border == "reflection":
        padded = images
        rows, columns = _reflected(rows - padding, height), _reflected(columns - padding, width)
    else:
        padded = F.pad(images, [padding] * 4)
    which = torch.arange(count, device=images.device)[:, None, None]
    cropped = padded[which, :, rows[:, :, None], columns[:, None, :]]  # (N, H, W, 3)
    return cropped.permute(0, 3, 1, 2).float().div_(255)


def _reflected(places: Tensor, length: int) -> Tensor:
    """Replace indices outside 0..length-1 by their reflection at the border."""
    last = length - 1
    return last - (last - places.abs()).abs()


def _draw_epoch(count: int, recipe: Recipe, epoch: int, device: torch.device) -> tuple[Tensor, ...]:
    """Order (count,), crop offsets (count, 2) and mirror flags (count,) of an epoch. They depend only on (seed, epoch)."""
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator)
    shift = torch.randint(0, 2 * recipe.crop_padding + 1, (count, 2), generator=generator)
    mirror = torch.rand(count, generator=generator) < (0.5 if recipe.flip else 0.0)
    if recipe.flip and recipe.alternate:
        first = torch.rand(count, generator=torch.Generator().manual_seed(recipe.seed)) < 0.5
        mirror = first ^ bool(epoch % 2)
    return order.to(device), shift.to(device), mirror.to(device)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD on all parameters. With decay="weights", frozen ones are left out, and only matrices and filters decay."""
    groups: list[dict] = [{"params": list(model.parameters())}]
    if recipe.decay == "weights":
        learned = [each for each in model.parameters() if each.requires_grad]
        groups = [
            {"params": [each for each in learned if each.dim() > 1]},
            {"params": [each for each in learned if each.dim() <= 1], "weight_decay": 0.0},
        ]
    return torch.optim.SGD(groups, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True)


def _scheduler(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> LRScheduler:
    if recipe.schedule == "cosine":
        return CosineAnnealingLR(optimizer, steps)
    if recipe.schedule == "linear":
        rise = max(1, steps // 5)
        return LambdaLR(optimizer, lambda step: min((step + 1) / rise, (steps - step) / (steps - rise + 1)))
    return OneCycleLR(optimizer, recipe.lr, total_steps=steps, pct_start=0.25, cycle_momentum=False)


def _check(images: Tensor, targets: Tensor, recipe: Recipe) -> None:
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise ValueError(f"training needs uint8 pictures (N, 3, H, W), not {images.dtype} {tuple(images.shape)}")
    if len(images) != len(targets):
        raise ValueError(f"{len(images)} pictures but {len(targets)} targets: give one target for each picture")
    if len(images) < 2:
        raise ValueError("training needs at least 2 pictures, because of batch normalisation")
    if recipe.epochs < 1 or recipe.batch_size < 2:
        raise ValueError("training needs at least 1 epoch and batches of at least 2 pictures")


def train(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    *,
    loss: Loss = F.cross_entropy,
    further_loss: Callable[[int], Tensor] | None = None,
    checkpoint: Path | None = None,
    save_every: float = 60.0,
    report_every: int = 20,
    compile_model: bool = False,
    mixed: bool = True,
) -> Generator[TrainingProgress, None, None]:
    """Train `model` in place. Yields progress every `report_every` steps, or after `PULSE` seconds, and at the end.

    Closing the generator saves the checkpoint.

    Args:
        model: on the device of the training. Pictures and targets are moved there once.
        images: uint8 (N, 3, H, W).
        targets: second argument of `loss`: labels (N,) or posteriors (N, K) for cross-entropy.
        loss: function of logits and targets that returns the mean loss of a batch.
        further_loss: function of the step number (from 0) that returns a second loss, a scalar, which is added.
        checkpoint: file from which the training resumes if it exists. It is written atomically, at most every `save_every`
            seconds. The caller must remove it when the result is stored.
        compile_model: use torch.compile, which is faster for trainings of more than about ten minutes.
        mixed: use the precision of `dcp_core/precision.py`; otherwise float32.

    Raises:
        ValueError: if pictures, targets and recipe do not fit together.
        PrecisionError: if this machine does not support the precision in `DCP_PRECISION`.
        FloatingPointError: if the loss is not finite.
    """
    _check(images, targets, recipe)
    device = next(model.parameters()).device
    images, targets = images.to(device), targets.to(device)
    model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    # A partial last batch is used, unless it is a single picture, which batch normalisation cannot use.
    per_epoch = (len(images) + recipe.batch_size - 2) // recipe.batch_size
    steps = per_epoch * recipe.epochs
    optimizer = _optimizer(model, recipe)
    scheduler = _scheduler(optimizer, recipe, steps)
    start = _resume(checkpoint, model, optimizer, scheduler)
    forward = torch.compile(model) if compile_model else model
    computing = autocast(device) if mixed else nullcontext()

    began = saved = reported = time.monotonic()
    total, since = torch.zeros((), device=device), 0
    for step in range(start, steps):
        epoch, batch = divmod(step, per_epoch)
        if batch == 0 or step == start:
            order, shift, mirror = _draw_epoch(len(images), recipe, epoch, device)
        pick = order[batch * recipe.batch_size : (batch + 1) * recipe.batch_size]
        pixels = augment(images[pick], shift[pick], mirror[pick], recipe.crop_padding, recipe.border)
        with computing:
            logits = forward(pixels)
            further = further_loss(step) if further_loss else 0.0
        value = loss(logits.float(), targets[pick]) + further
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        scheduler.step()
        total, since = total + value.detach(), since + 1
        if (step + 1) % report_every == 0 or step + 1 == steps or time.monotonic() - reported > PULSE:
            mean = float(total) / since
            if mean != mean or mean == float("inf"):
                raise FloatingPointError(f"the loss is {mean} at step {step + 1}: lower the learning rate")
            if checkpoint is not None and (time.monotonic() - saved > save_every or step + 1 == steps):
                _save(checkpoint, model, optimizer, scheduler, step + 1)
                saved = time.monotonic()
            total, since = torch.zeros((), device=device), 0
            try:
                yield TrainingProgress(step + 1, steps, mean, time.monotonic() - began)
            except GeneratorExit:
                if checkpoint is not None:
                    _save(checkpoint, model, optimizer, scheduler, step + 1)
                raise
            reported = time.monotonic()
    model.eval()


def _save(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: LRScheduler, step: int
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "step": step,
    }
    checkpoints.save(path, state)


def _resume(path: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: LRScheduler) -> int:
    """Load the checkpoint if it exists. Returns the number of steps that are already done."""
    state = None if path is None else checkpoints.load(path, next(model.parameters()).device)
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    return int(state["step"])
