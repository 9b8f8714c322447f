"""Base class of attacks. An attack is a frozen dataclass of its parameters, and a generator of events.

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

from dcp_core import checkpoints
from dcp_core.attacks.oracle import AttackError, Oracle
from dcp_core.data.datasets import ImageSet
from dcp_core.defenses.base import Declared, Defense
from dcp_core.evaluation.stealing import Scores
from dcp_core.precision import precision

ATTACK_STATE, SHADOWS_STATE = "state.pt", "shadows.pt"  # checkpoints in a theft's folder
MOST_STAGES = 16  # largest number of trainings of the clone, one after another
SAMPLE = 8  # pictures shown with an event
TIMED_QUERIES = 256  # query budget of a small attack that is timed to estimate the duration of a large one
AS_IS = "as is"  # what result rows call a thief who trains on the answers as they are
TOP_1 = "top-1"  # what they call a thief who uses only the top class of each answer
BOUND = "bound: "  # beginning of their name for a bound that no thief reaches
PULSE = 0.5  # longest time between two events in seconds, for live pages and stop requests


def training_state(stage: int) -> str:
    """The checkpoint in a theft's folder of the clone's training in this stage, from 0 to `MOST_STAGES` - 1."""
    return f"training-{stage}.pt" if stage else "training.pt"


@dataclass(frozen=True)
class Event:
    """Progress of an attack.

    Args:
        phase: what is being done.
        fraction: share of the work that is done, 0 to 1.
        queries: number of queries used.
        losses: mean of each loss since the last event, by its name.
        scores: scores of the clone at log points, otherwise None. A log point is an event at which the clone is scored.
        images: at most `SAMPLE` pictures (n, 3, H, W), uint8, sent to the victim; at log points only.
        answers: the victim's answers to `images`, (n, K).
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
    """What a thief has at the start of an attack.

    Args:
        oracle: the victim with its defense and query budget.
        clone: an untrained network. It is moved to the oracle's device and trained in place.
        pool: query pool, for attacks with `needs_pool`.
        known_defense: the victim's defense, for attacks that use this knowledge.
        clean_answers: returns the victim's clean posteriors (N, K) to uint8 pictures (N, 3, H, W). Only for attacks with
            `is_bound`; it is None for all others.
        evaluate: scores the clone at log points; the attack does not use the scores.
        folder: where checkpoints are saved; without it nothing is saved.
        save_every: shortest time between two checkpoints, in seconds.
        logs: number of log points (events at which the clone is scored) in the whole attack.
        seed: seed of all random numbers of the thief.
    """

    oracle: Oracle
    clone: nn.Module
    pool: ImageSet | None = None
    known_defense: Defense | None = None
    clean_answers: Callable[[Tensor], Tensor] | None = None
    evaluate: Callable[[nn.Module], Scores] | None = None
    folder: Path | None = None
    save_every: float = 60.0
    logs: int = 20
    seed: int = 0

    def score(self) -> Scores | None:
        """Scores of the clone; None without `evaluate`."""
        return None if self.evaluate is None else self.evaluate(self.clone)


Timed = Callable[["Attack", int], list[tuple[Event, float]]]
"""Runs an attack with a query budget on the victim and clone of a run; returns its events, each with its time in seconds."""


@dataclass(frozen=True)
class Attack(Declared):
    """Base of all attacks.

    A subclass must declare `name`, `title` and `source`. `needs_pool` says whether it queries the pictures of a pool.
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
        """How the thief treats the answers before training, as in the column `thief` of result rows."""
        return AS_IS

    @property
    def is_bound(self) -> bool:
        """Whether this uses clean answers of the victim. Then it is a bound, and `thief` begins with `BOUND`."""
        return False

    @property
    def passes(self) -> int:
        """Number of forward passes of a network for one answer of the clone."""
        return 1

    def for_clone(self, clone: str) -> "Attack":
        """This attack, with the default for each parameter that has no effect on a clone of this architecture.

        Two runs that differ only in such parameters are then the same run.
        """
        return self

    def will_ask(self, pool: int, budget: int, seed: int) -> Tensor | None:
        """Indices (n,) of the pictures of the pool that an attack will query; None if they depend on the answers.

        Several runs that query the same pictures compute the victim's answers once.

        Args:
            pool: number of pictures in the query pool.
            budget: largest number of queries.
            seed: seed of the attack.
        """
        return None

    def seconds(self, budget: int, timed: Timed) -> float:
        """Estimated seconds of an attack with this budget, in proportion to a smaller attack that is timed."""
        small = min(budget, TIMED_QUERIES)
        return timed(self, small)[-1][1] * budget / small

    def steps(self, theft: Theft) -> Iterator[Event]:
        """Run the attack; yields events and trains `theft.clone`. Closing the iterator saves the state.

        If `theft.folder` contains a checkpoint of the same attack, the attack resumes from it. On a CPU, the final clone
        is then bit for bit the same as without an interruption.

        Raises:
            AttackError: at once, if the attack does not work with this oracle, clone or query pool.
            PrecisionError: at once, if this machine lacks the precision that `DCP_PRECISION` names.
            NanAnswer: during the attack, after the state was saved, if the victim's answers are not finite.
            FloatingPointError: if a loss is not finite.
        """
        precision(theft.oracle.device)
        _check_clone(theft)
        self.check(theft)
        return self._steps(theft)

    def check(self, theft: Theft) -> None:
        """Check that the attack works with this oracle, clone and query pool.

        Raises:
            AttackError: if it does not.
        """
        if self.needs_pool and theft.pool is None:
            raise AttackError(f"{self.title} needs a pool of pictures to query")
        if self.is_bound and theft.clean_answers is None:
            raise AttackError("this bound uses clean answers of the victim, which are not available here")

    def _steps(self, theft: Theft) -> Iterator[Event]:
        raise NotImplementedError


class Saver:
    """Saves the state of an attack, at most every `every` seconds; see `checkpoints.py`."""

    def __init__(self, path: Path | None, every: float) -> None:
        self.path, self.every, self.last = path, every, time.monotonic()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state, with tensors on `device`; None if there is none.

        Raises:
            CheckpointError: if this checkpoint and the one before are damaged.
        """
        return None if self.path is None else checkpoints.load(self.path, device)

    def write(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save the state now."""
        if self.path is not None:
            checkpoints.save(self.path, state())
        self.last = time.monotonic()

    def tick(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save the state if `every` seconds have passed since it was last saved."""
        if self.path is not None and time.monotonic() - self.last >= self.every:
            self.write(state)

    def yielding(self, event: Event, state: Callable[[], dict[str, Any]]) -> Iterator[Event]:
        """Yield one event; save the state if the caller closes the iterator there."""
        try:
            yield event
        except GeneratorExit:
            self.write(state)
            raise


class LossMeans:
    """Computes means of losses on the device, to avoid a synchronisation in each step."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add one value of each loss."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=value.device)) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self, iteration: int) -> dict[str, float]:
        """The means since the last call.

        Raises:
            FloatingPointError: if a mean is not finite.
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
            f"the victim has {oracle.classes} classes, but the clone returns logits {tuple(logits.shape)}: "
            f"build the clone for {oracle.classes} classes"
        )


def sample(pixels: Tensor, count: int = SAMPLE) -> Tensor:
    """The first `count` pictures of a batch as uint8 on the CPU, to be displayed."""
    shown = pixels[:count].detach()
    return (shown if shown.dtype == torch.uint8 else shown.mul(255).round().byte()).cpu()
