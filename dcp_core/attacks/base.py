"""What an attack is: a frozen dataclass of its parameters, and a generator of events.

A new attack writes `_steps`, declares its fields with `parameter(...)` and gets one line in the registry of
`dcp_core/attacks/__init__.py`, or calls `register` there from outside. Forms, command-line options, sweeps and
estimates of the time it takes follow from the declarations.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dcp_core.attacks.oracle import AttackError, Oracle
from dcp_core.data.datasets import ImageSet
from dcp_core.defenses.base import Declared, Defense
from dcp_core.evaluation.stealing import Scores
from dcp_core.files import write_atomic
from dcp_core.precision import precision

ATTACK_STATE, TRAINING_STATE = "state.pt", "training.pt"  # checkpoints in a theft's folder
SAMPLE = 8  # pictures shown with an event
TIMED_QUERIES = 256  # of a small theft that is timed to estimate a large one
AS_IS = "as is"  # what result rows call a thief who trains on the answers as they are
PULSE = 0.5  # seconds between two events without news: what a live page and a stop button wait at most


@dataclass(frozen=True)
class Event:
    """Where an attack is.

    `fraction` of the work done (0 to 1), `queries` spent, mean `losses` since the last event; at log points also
    `scores` of the clone and at most `SAMPLE` `images` (uint8) sent to the victim, with its `answers` (n, K).
    """

    phase: str
    fraction: float
    queries: int
    losses: dict[str, float] = field(default_factory=dict)
    scores: Scores | None = None
    images: Tensor | None = None
    answers: Tensor | None = None


@dataclass
class Theft:
    """What a thief starts with.

    Args:
        clone: a fresh network, trained in place; moved to the oracle's device.
        pool: pictures to ask about, for attacks with `needs_pool`.
        known_defense: the victim's defense, for a thief who knows it.
        evaluate: the judge, called at log points; the thief learns nothing from it.
        folder: where the state is kept; without it nothing is saved.
        save_every: seconds between two saves at least.
        logs: log points of the whole attack.
        seed: of everything the thief draws.
    """

    oracle: Oracle
    clone: nn.Module
    pool: ImageSet | None = None
    known_defense: Defense | None = None
    evaluate: Callable[[nn.Module], Scores] | None = None
    folder: Path | None = None
    save_every: float = 60.0
    logs: int = 20
    seed: int = 0

    def score(self) -> Scores | None:
        """The clone's scores if anybody judges."""
        return None if self.evaluate is None else self.evaluate(self.clone)


Timed = Callable[["Attack", int], list[tuple[Event, float]]]
"""Runs an attack with a budget on the victim and clone of a run, and gives each event with the seconds until it."""


@dataclass(frozen=True)
class Attack(Declared):
    """Base of all attacks.

    A class must declare `name`, `title` and `source`. `needs_pool`: whether it asks about the pictures of a pool.
    """

    needs_pool: ClassVar[bool] = False
    usual_clone: ClassVar[str] = "resnet8"

    def __post_init__(self) -> None:
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        for name, declared in self.parameters().items():
            value = getattr(self, name)
            declared.check(name, value)
            if isinstance(defaults[name], int) and not isinstance(value, int):
                raise ValueError(f"{name} must be a whole number, not {value!r}")

    @property
    def thief(self) -> str:
        """What the thief does with the answers before training, as result rows say it in their column `thief`."""
        return AS_IS

    @property
    def mirrored(self) -> bool:
        """Whether the clone answers with the mean over a picture and its mirror image, which takes twice as long."""
        return False

    def will_ask(self, pool: int, budget: int, seed: int) -> Tensor | None:
        """Indices of the pictures, of a pool of that size, that a theft will ask about; None if answers decide it.

        Several runs that will ask about the same pictures share the victim's computation.
        """
        return None

    def seconds(self, budget: int, timed: Timed) -> float:
        """Seconds that a theft with that budget takes, from smaller ones that are timed: here in proportion to it."""
        small = min(budget, TIMED_QUERIES)
        return timed(self, small)[-1][1] * budget / small

    def steps(self, theft: Theft) -> Iterator[Event]:
        """Steal, yielding events; `theft.clone` is the clone. Closing the iterator saves the state.

        With a `theft.folder` that holds the state of the same attack, go on from there: on a CPU the final clone
        is bit for bit that of a run never interrupted.

        Raises:
            AttackError: at once, when this attack cannot work with what the thief has.
            PrecisionError: at once, when `DCP_PRECISION` names what this machine cannot follow.
            NanAnswer: while running, after the state was saved, when the victim's answers are not finite.
            FloatingPointError: when the clone's loss stops being finite.
        """
        precision(theft.oracle.device)
        _check_clone(theft)
        self.check(theft)
        return self._steps(theft)

    def check(self, theft: Theft) -> None:
        """Raise an `AttackError` if the attack cannot work with what the thief has."""
        if self.needs_pool and theft.pool is None:
            raise AttackError(f"{self.title} needs a pool of pictures to ask about")

    def _steps(self, theft: Theft) -> Iterator[Event]:
        raise NotImplementedError


class Saver:
    """Keeps one file of tensors and plain values, replaced in one step, at most every `every` seconds."""

    def __init__(self, path: Path | None, every: float) -> None:
        self.path, self.every, self.last = path, every, time.monotonic()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """What was saved, tensors on `device`; None without a file."""
        if self.path is None or not self.path.exists():
            return None
        return torch.load(self.path, map_location=device, weights_only=True)

    def write(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save now."""
        if self.path is not None:
            content = state()
            write_atomic(self.path, lambda file: torch.save(content, file))
        self.last = time.monotonic()

    def tick(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save if it is time."""
        if self.path is not None and time.monotonic() - self.last >= self.every:
            self.write(state)

    def yielding(self, event: Event, state: Callable[[], dict[str, Any]]) -> Iterator[Event]:
        """Yield one event, and save if the caller stops there."""
        try:
            yield event
        except GeneratorExit:
            self.write(state)
            raise


class Tally:
    """Means of losses since they were last asked for, kept on the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, losses: dict[str, Tensor]) -> None:
        """Count one value of each."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=value.device)) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self, iteration: int) -> dict[str, float]:
        """The means, and start again.

        Raises:
            FloatingPointError: if one is not finite.
        """
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        for name, mean in means.items():
            if not mean - mean == 0:
                raise FloatingPointError(
                    f"the {name} loss is {mean} at iteration {iteration}: lower its learning rate"
                )
        self.sums, self.counts = {}, {}
        return means


def _check_clone(theft: Theft) -> None:
    oracle = theft.oracle
    theft.clone.to(oracle.device).eval()
    with torch.inference_mode():
        logits = theft.clone(torch.zeros(1, *oracle.shape, device=oracle.device))
    if tuple(logits.shape) != (1, oracle.classes):
        raise AttackError(
            f"the victim answers {oracle.classes} classes and the clone gives logits {tuple(logits.shape)}: "
            f"build the clone for {oracle.classes} classes"
        )


def sample(pixels: Tensor, count: int = SAMPLE) -> Tensor:
    """The first pictures of a batch as uint8 on the CPU, to be looked at."""
    shown = pixels[:count].detach()
    return (shown if shown.dtype == torch.uint8 else shown.mul(255).round().byte()).cpu()
