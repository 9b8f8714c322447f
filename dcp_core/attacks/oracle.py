"""The oracle: the only way from an attack to a victim.

It counts every query, answers none beyond the budget, applies the defense to every answer and returns posteriors, never
logits or gradients. The victim is stored in a closure, so it is not an attribute of the oracle.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dcp_core.defenses.base import Defense
from dcp_core.models.inference import CPU_BATCH, resized, to_pixels

CHUNK = 2048  # pictures computed at once on a GPU; larger batches are split


RowLookup = Callable[[Tensor, Callable[[Tensor], Tensor | None]], Tensor]
"""Returns rows (N, K) for pictures (N, 3, H, W) from a cache. For pictures that are not cached, it calls the given function
with their indices in the batch."""


class AttackError(ValueError):
    """An attack cannot start or continue. The message says why, and what to do."""


class BudgetSpent(AttackError):
    """The query budget is used up."""


class NanAnswer(AttackError):
    """The victim's answer contains NaN or infinity."""


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable TF32: gradient estimates subtract answers that differ only in the fourth digit."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def in_chunks(compute: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Apply `compute` to a batch in pieces, to limit memory; returns all its rows."""
    size = CPU_BATCH if images.device.type == "cpu" else CHUNK
    return torch.cat([compute(part) for part in images.split(size)])


@dataclass
class Ledger:
    """Statistics for the victim's owner: number of answers, and the sum of their l1 distances to the clean answers."""

    answers: int = 0
    l1: float = 0.0

    @property
    def mean_l1(self) -> float:
        """Mean l1 distance of an answer to the clean one, 0 to 2."""
        return self.l1 / max(1, self.answers)


class Oracle:
    """A victim behind its defense and a query budget."""

    __slots__ = ("_ask", "_generator", "budget", "classes", "device", "ledger", "shape", "used")

    def __init__(
        self,
        model: nn.Module,
        defense: Defense,
        budget: int,
        *,
        shape: tuple[int, int, int] = (3, 32, 32),
        side: int | None = None,
        device: torch.device | str | None = None,
        seed: int = 0,
        guides: RowLookup | None = None,
    ) -> None:
        """Protect a model by a defense and a query budget.

        Args:
            model: pixels (N, 3, H, W) in [0, 1] -> logits (N, K). It is switched to eval mode and channels-last.
            budget: number of queries that are answered.
            shape: shape (3, H, W) of the pictures that are sent.
            side: side in pixels to which the service resizes them for victim and defense. Default: no resizing.
            device: where to compute and answer; by default the device of the model.
            seed: seed of the random numbers of the defense.
            guides: cached guides of the defense, which then need not be computed again.

        Raises:
            AttackError: for a budget below 1, or a model that does not return finite logits (1, K) for a picture of this
                shape. This check is no query; it also gives the number of classes, which a real service publishes.
        """
        if budget < 1:
            raise AttackError(f"the query budget must be at least 1, not {budget}")
        self.device = torch.device(device) if device is not None else _device_of(model)
        self.budget, self.used, self.shape = budget, 0, shape
        self.ledger = Ledger()
        self._generator = torch.Generator(self.device).manual_seed(seed)
        model.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        # A service declares its classes: a trial picture would count as a request.
        known = getattr(model, "known_classes", None)
        self.classes: int = known or self._try(model, side)
        self._ask = _answerer(model, defense, self._generator, self.ledger, self.device, guides, side)

    def _try(self, model: nn.Module, side: int | None) -> int:
        """The number of classes in the model's answer to a black picture."""
        with torch.inference_mode():
            blank = torch.zeros(1, *self.shape, device=self.device)
            trial = model(blank if side is None else resized(blank, side))
        if trial.dim() != 2 or trial.shape[1] < 2 or not bool(trial.isfinite().all()):
            raise AttackError(f"the victim does not answer a picture of {self.shape} with finite logits (1, K)")
        return trial.shape[1]

    @property
    def left(self) -> int:
        """Number of queries left."""
        return self.budget - self.used

    def query(self, images: Tensor) -> Tensor:
        """Query the victim. Returns defended posteriors (n, K) on the oracle's device, n = min(N, queries left).

        Args:
            images: (N, 3, H, W), uint8 or floats in [0, 1]. Each picture that is answered is one query.

        Raises:
            BudgetSpent: if no query is left.
            AttackError: for pictures of another shape, or with pixels that are not numbers from 0 to 1.
            NanAnswer: if the victim's answer is not finite. The queries are counted.
        """
        if images.dim() != 4 or tuple(images.shape[1:]) != self.shape:
            raise AttackError(f"the victim takes pictures (N, {self.shape}), not {tuple(images.shape)}")
        if images.is_floating_point() and not bool(((images >= 0) & (images <= 1)).all()):
            raise AttackError(
                "the pictures have values that are not numbers from 0 to 1. If a generator network made them, it has "
                "diverged: lower its learning rate"
            )
        if self.left <= 0:
            raise BudgetSpent(f"all {self.budget} queries are used")
        images = images[: self.left]
        self.used += len(images)
        return in_chunks(self._ask, images)

    def state(self) -> dict[str, Any]:
        """The state that a resumed run needs: number of queries, random generator of the defense, statistics."""
        return {
            "used": self.used,
            "generator": self._generator.get_state(),
            "ledger": [self.ledger.answers, self.ledger.l1],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state()` returned."""
        self.used = int(state["used"])
        self._generator.set_state(state["generator"].cpu())
        self.ledger.answers, self.ledger.l1 = state["ledger"]


def _device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _answerer(
    model: nn.Module,
    defense: Defense,
    generator: torch.Generator,
    ledger: Ledger,
    device: torch.device,
    guides: RowLookup | None,
    side: int | None,
) -> Callable[[Tensor], Tensor]:
    def guide_of(y: Tensor, pixels: Tensor) -> Tensor | None:
        if guides is None:
            return None
        return guides(pixels, lambda which: defense.guide(y[which], pixels[which], generator))

    def ask(images: Tensor) -> Tensor:
        with torch.inference_mode(), full_precision():
            pixels = to_pixels(images.to(device))
            pixels = pixels if side is None else resized(pixels, side)
            # As they are: a channels-last network converts them in its first layer, ONNX Runtime takes no such layout.
            logits = model(pixels).float()
            if not bool(logits.isfinite().all()):
                raise NanAnswer("the victim's answer is not finite; check its weights and the pictures sent")
            guide = guide_of(logits.softmax(-1), pixels)
            answer = defense(logits=logits, inputs=pixels, guide=guide, generator=generator)
            ledger.answers += len(answer)
            ledger.l1 += float((answer - logits.softmax(-1)).abs().sum(dtype=torch.float64))
        return (
            answer.clone()
        )  # copied outside inference mode: an ordinary tensor that shares no memory with the victim

    return ask
