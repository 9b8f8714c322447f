"""JBDA: Jacobian-based data augmentation (Papernot et al., Asia CCS 2017; variants of PRADA, Juuti et al., EuroS&P 2019).

The thief has a few pictures. In each round he trains a clone on all answers so far, makes from each picture a new one with
the gradient of the clone, and queries the new ones. The number of pictures doubles in each round, until the budget is used.
The last clone is trained on all of them. Reservoir sampling, with which Papernot et al. limit a round, is left out: the
budget limits it.

New pictures are rounded to 8 bits before they are sent.
"""

import dataclasses
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcp_core.attacks.base import (
    ATTACK_STATE,
    PULSE,
    SAMPLE,
    TIMED_QUERIES,
    TOP_1,
    Attack,
    Event,
    Saver,
    Theft,
    Timed,
    training_state,
)
from dcp_core.attacks.clone_training import strong_recipe
from dcp_core.attacks.oracle import AttackError, NanAnswer
from dcp_core.attacks.transfer_set import QUERY_BATCH, check_pool, picking_order
from dcp_core.defenses.base import parameter
from dcp_core.models.architectures import check_whitening, whiten
from dcp_core.models.fast import WHITEN_MOST
from dcp_core.models.inference import reduced, to_pixels
from dcp_core.models.training import train

GRADIENT_BATCH = 64  # pictures whose gradients are computed at once


@dataclass(frozen=True)
class JBDA(Attack):
    """JBDA. Each round queries as many new pictures as there were before, until the budget is used."""

    start: int = parameter(
        200,
        "n",
        "Number of pictures of the pool that the thief has at the start.",
        low=2,
        high=100_000,
        step=10,
        label="Pictures at the start",
    )
    growth: int = parameter(
        6,
        "ρ",
        "Largest number of rounds, in each of which the number of pictures doubles.",
        low=1,
        high=10,
        step=1,
        label="Largest number of rounds",
    )
    variant: Literal["jbda", "i-fgsm", "t-rnd"] = parameter(
        "jbda",
        "v",
        "How a picture is changed: jbda, one step that raises its class; i-fgsm, small steps that lower its class; t-rnd, "
        "small steps that raise a random other class.",
        choices=("jbda", "i-fgsm", "t-rnd"),
        label="How pictures are changed",
    )
    change: float = parameter(
        0.1, "λ", "Largest change of a pixel (0 to 1) in a round.", low=1 / 255, label="Change of a pixel"
    )
    small_steps: int = parameter(
        8,
        "k",
        "Number of small steps of i-fgsm and t-rnd in a round.",
        low=1,
        high=100,
        step=1,
        expert=True,
        label="Small steps in a round",
    )
    targets: Literal["posteriors", "labels"] = parameter(
        "labels",
        "y",
        "What the clone learns: the posteriors of the answers, or only their top class, as published.",
        choices=("posteriors", "labels"),
        label="Use of the answers",
    )
    epochs: int = parameter(
        30, "E", "Epochs of the clone's training in each round.", low=1, high=1000, step=1, label="Training epochs"
    )
    batch: int = parameter(
        64, "N", "Pictures in a training batch.", low=2, high=1024, step=1, label="Pictures in a training batch"
    )
    lr: float = parameter(0.1, "η", "Peak learning rate of the clone.", low=1e-4, label="Learning rate")

    name: ClassVar[str] = "jbda"
    title: ClassVar[str] = "JBDA"
    source: ClassVar[str] = 'Papernot et al., Asia CCS 2017; variants of Juuti et al., "PRADA", EuroS&P 2019'
    needs_pool: ClassVar[bool] = True
    usual_clone: ClassVar[str] = "fast_32_64_128"

    @property
    def thief(self) -> str:
        """See `Attack`."""
        return TOP_1 if self.targets == "labels" else super().thief

    def sizes(self, budget: int) -> list[int]:
        """Number of queries after the start and after each round."""
        sizes = [min(self.start, budget)]
        while sizes[-1] < budget and len(sizes) <= self.growth:
            sizes.append(min(2 * sizes[-1], budget))
        return sizes

    def seconds(self, budget: int, timed: Timed) -> float:
        """See `Attack`. The victim's answers and the training are timed separately."""
        count = max(2 * self.batch, TIMED_QUERIES)
        small = dataclasses.replace(self, start=count, epochs=1)
        timed(small, count)  # warm-up, because the first step takes seconds
        ends = {event.phase: at for event, at in timed(small, count)}  # the last event of each phase
        answer, step = ends["asking"] / count, (ends["training"] - ends["asking"]) / count
        trained = self.epochs * sum(self.sizes(budget))
        return budget * answer + (trained + self._gradients(budget)) * step

    def _gradients(self, budget: int) -> int:
        return budget * (1 if self.variant == "jbda" else self.small_steps)

    def check(self, theft: Theft) -> None:
        """See `Attack.check`."""
        super().check(theft)
        pool, budget = theft.pool, theft.oracle.budget
        assert pool is not None
        check_pool(pool, theft.oracle.shape)
        sizes = self.sizes(budget)
        if sizes[-1] < budget:
            raise AttackError(
                f"{self.start} pictures that double in {self.growth} rounds give {sizes[-1]:,} queries and the budget is "
                f"{budget:,}: lower it, or raise the start or the rounds"
            )
        if sizes[0] > len(pool) or sizes[0] < 2:
            raise AttackError(
                f"JBDA starts with {sizes[0]} pictures, but needs at least 2, and the pool {pool.name} has {len(pool)}"
            )
        try:
            check_whitening(theft.clone, sizes[0])
        except ValueError as error:
            raise AttackError(f"the start is too small: {error}") from error

    def _steps(self, theft: Theft) -> Iterator[Event]:
        assert theft.pool is not None
        first = theft.pool.images[picking_order(len(theft.pool), theft.seed)[: self.start]]
        whiten(theft.clone, first[:WHITEN_MOST])
        initial = deepcopy(theft.clone.state_dict())
        sizes = self.sizes(theft.oracle.budget)
        # In forward passes: an answer is one, training on a picture in an epoch is three.
        work = theft.oracle.budget + 3 * self.epochs * sum(sizes)
        known = _Known(theft, work)
        saver = Saver(theft.folder / ATTACK_STATE if theft.folder else None, theft.save_every)
        if (state := saver.load(torch.device("cpu"))) is not None:
            known.load_state(state)
        losses: dict[str, float] = {}
        for stage, size in enumerate(sizes):
            before = sizes[stage - 1] if stage else 0
            if known.count < size and theft.oracle.left:
                new = self._changed(theft, known, before, size - before, stage) if stage else first
                yield from known.ask(new[known.count - before : size - before], saver)
            if stage + 1 < len(sizes) and known.count >= sizes[stage + 1]:  # a resumed attack is past this stage
                known.trained += 3 * self.epochs * size
                continue
            theft.clone.load_state_dict(initial)
            # Answers that were not finite are lost, so there may be fewer than queries.
            final = theft.oracle.left == 0 and known.count <= size
            losses = yield from self._train(theft, known, min(size, known.count), stage, final)
            if final:
                break
        theft.clone.eval()
        yield Event("done", 1.0, theft.oracle.used, losses, theft.score(), *known.latest())

    def _train(
        self, theft: Theft, known: "_Known", size: int, stage: int, final: bool
    ) -> Generator[Event, None, dict[str, float]]:
        """Train the clone on the first `size` answers; returns the last losses."""
        answers = known.answers[:size]
        targets = answers.argmax(1) if self.targets == "labels" else answers
        recipe = strong_recipe(size, self.epochs, self.batch, self.lr, flip=False, seed=theft.seed)
        checkpoint = theft.folder / training_state(stage) if theft.folder else None
        losses: dict[str, float] = {}
        work, next_log = 3 * self.epochs * size, 0.0
        images = reduced(known.images[:size], getattr(theft.clone, "side", None))
        training = train(theft.clone, images, targets, recipe, checkpoint=checkpoint, save_every=theft.save_every)
        with closing(training):  # closing saves the checkpoint
            for progress in training:
                losses, scores = {"clone": progress.loss}, None
                if final and next_log <= progress.fraction < 1:
                    scores, next_log = theft.score(), progress.fraction + 1 / theft.logs
                done = known.share(progress.fraction * work)
                yield Event("training", done, theft.oracle.used, losses, scores)
        known.trained += work
        if not final:
            yield Event("training", known.share(0), theft.oracle.used, losses, theft.score())
        return losses

    def _changed(self, theft: Theft, known: "_Known", before: int, count: int, stage: int) -> Tensor:
        """New pictures, uint8 (count, 3, H, W), from some of the first `before` ones."""
        rng = torch.Generator().manual_seed(theft.seed * 1_000_003 + stage)
        chosen = torch.randperm(before, generator=rng)[:count]
        classes = known.answers[chosen].argmax(1)
        if self.variant == "t-rnd":
            others = torch.randint(1, theft.oracle.classes, (count,), generator=rng)
            classes = (classes + others) % theft.oracle.classes
        parts = zip(known.images[chosen].split(GRADIENT_BATCH), classes.split(GRADIENT_BATCH), strict=True)
        return torch.cat([self.changed(theft.clone, some, towards) for some, towards in parts])

    def changed(self, clone: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Changed pictures, uint8 (N, 3, H, W).

        jbda: x + lambda sgn(grad_x p_c) (Papernot et al., section 4). i-fgsm and t-rnd: k steps of length lambda / k.

        Args:
            clone: pixels in [0, 1] -> logits (N, K), in eval mode.
            images: uint8 (N, 3, H, W).
            classes: c, integers (N,): the class whose posterior is raised, or lowered by i-fgsm.
        """
        device = next(clone.parameters()).device
        steps = 1 if self.variant == "jbda" else self.small_steps
        length = (-1 if self.variant == "i-fgsm" else 1) * self.change / steps
        pixels, classes = to_pixels(images.to(device)), classes.to(device)
        for _ in range(steps):
            pixels.requires_grad_(True)
            # log p has the sign of the gradient of p, and does not vanish where p is near 0 or 1.
            gained = -F.cross_entropy(clone(pixels), classes, reduction="sum")
            (gradient,) = torch.autograd.grad(gained, pixels)
            pixels = (pixels.detach() + length * gradient.sign()).clamp(0, 1)
        return pixels.mul(255).round().byte().cpu()


class _Known:
    """The pictures that were sent, with their answers, and how much of the attack's work is done."""

    def __init__(self, theft: Theft, work: int) -> None:
        self.oracle, self.work, self.trained, self.count = theft.oracle, work, 0, 0
        self.images = torch.zeros(theft.oracle.budget, *theft.oracle.shape, dtype=torch.uint8)
        self.answers = torch.zeros(theft.oracle.budget, theft.oracle.classes)

    def share(self, more: float) -> float:
        """Share of the work that is done, if `more` is added to it."""
        return min(0.999, (self.oracle.used + self.trained + more) / self.work)

    def ask(self, images: Tensor, saver: Saver) -> Iterator[Event]:
        """Send pictures and store the answers.

        Raises:
            NanAnswer: if an answer is not finite.
        """
        last = time.monotonic()
        for part in images.split(QUERY_BATCH):
            if not self.oracle.left:
                break
            try:
                answers = self.oracle.query(part).cpu()
            except NanAnswer:
                saver.write(self.state)
                raise
            end = self.count + len(answers)
            self.images[self.count : end], self.answers[self.count : end] = part[: len(answers)], answers
            self.count = end
            saver.tick(self.state)
            if time.monotonic() - last > PULSE:
                yield from saver.yielding(self._asked(), self.state)
                last = time.monotonic()
        saver.write(self.state)
        yield self._asked()

    def _asked(self) -> Event:
        return Event("asking", self.share(0), self.oracle.used, {}, None, *self.latest())

    def latest(self) -> tuple[Tensor, Tensor]:
        """The most recent pictures (uint8) and their answers (n, K), for display."""
        recent = slice(max(0, self.count - SAMPLE), self.count)
        return self.images[recent], self.answers[recent].clone()

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        kept = {"images": self.images[: self.count].clone(), "answers": self.answers[: self.count].clone()}
        return {"oracle": self.oracle.state(), **kept}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the result of `state()`."""
        self.oracle.load_state(state["oracle"])
        self.count = len(state["images"])
        self.images[: self.count], self.answers[: self.count] = state["images"], state["answers"]
