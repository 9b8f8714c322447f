"""KnockoffNets: send pictures of a pool as queries, then train a clone on the answers.

Orekondy, Schiele and Fritz, "Knockoff Nets", CVPR 2019. Pictures are drawn from the pool without replacement and sent
without augmentation. The clone is trained with soft cross-entropy on augmented pictures.
"""

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dcp_core.attacks.adaptive import AS_IS, TREATMENTS, check_treatment, treat
from dcp_core.attacks.bandit import REWARDS
from dcp_core.attacks.base import (
    ATTACK_STATE,
    PULSE,
    TIMED_QUERIES,
    TRAINING_STATE,
    Attack,
    Event,
    Saver,
    Theft,
    Timed,
)
from dcp_core.attacks.oracle import AttackError, NanAnswer
from dcp_core.attacks.transfer_set import TransferSet, picking_order
from dcp_core.data.datasets import ImageSet
from dcp_core.defenses.base import parameter
from dcp_core.models.architectures import Classifier, check_whitening, whiten
from dcp_core.models.fast import WHITEN_MOST
from dcp_core.models.inference import to_pixels
from dcp_core.models.pretrained import FROZEN, STEPS, FrozenNet, train_head
from dcp_core.models.training import Recipe, train

FEATURE_BATCH = 256  # pictures whose features are computed between two events
DECAY = 0.4  # weight decay times learning rate, summed over all steps of the strong recipe


@dataclass(frozen=True)
class KnockoffNets(Attack):
    """KnockoffNets, with optional treatments of the answers by an adaptive thief."""

    strategy: Literal["random", "adaptive"] = parameter(
        "random",
        "π",
        "How pictures are chosen: at random, or by a bandit algorithm over the classes of the pool.",
        choices=("random", "adaptive"),
        label="Choice of pictures",
    )
    treatment: Literal["as-is", "top-1", "bayes", "inverse"] = parameter(
        AS_IS,
        "t",
        "What the thief does with the answers: nothing, use only the top class, or invert the known defense.",
        choices=TREATMENTS,
        label="Use of the answers",
    )
    repeats: int = parameter(
        1,
        "q",
        "How often each picture is sent. The answers are averaged, which reduces random noise.",
        low=1,
        high=100,
        step=1,
        label="Queries per picture",
    )
    epochs: int = parameter(
        30, "E", "Epochs of the clone's training.", low=1, high=1000, step=1, label="Training epochs"
    )
    batch: int = parameter(
        64, "N", "Pictures in a training batch.", low=2, high=1024, step=1, label="Pictures in a training batch"
    )
    lr: float = parameter(
        0.1,
        "η",
        "Peak learning rate of the clone. Use 0.01 for a pretrained clone.",
        low=1e-4,
        label="Learning rate",
    )
    flip: bool = parameter(
        False,
        "↔",
        "Mirror training pictures at random. Do not use it for digits and traffic signs.",
        choices=(True, False),
        label="Mirror the pictures",
    )
    recipe: Literal["plain", "strong"] = parameter(
        "strong",
        "ρ",
        "Training of the clone: plain, as published, or strong, with current methods that give a better clone from the same "
        "answers.",
        choices=("plain", "strong"),
        before="plain",
        label="Training recipe",
    )
    reward: Literal["certainty", "diversity", "loss", "all"] = parameter(
        "all",
        "r",
        "Reward that the adaptive strategy maximises.",
        choices=REWARDS,
        expert=True,
        label="Aim of the adaptive choice",
    )

    name: ClassVar[str] = "knockoff"
    title: ClassVar[str] = "KnockoffNets"
    source: ClassVar[str] = 'Orekondy et al., "Knockoff Nets", CVPR 2019'
    needs_pool: ClassVar[bool] = True
    usual_clone: ClassVar[str] = "fast_32_64_128"

    @property
    def thief(self) -> str:
        """See `Attack`."""
        if self.treatment == AS_IS:
            return "average" if self.repeats > 1 else super().thief
        return self.treatment if self.treatment == "top-1" else f"recovery ({self.treatment})"

    def for_clone(self, clone: str) -> Attack:
        """See `Attack`: the head of a pretrained clone is trained in one way only."""
        if clone != FROZEN:
            return self
        usual = {name: getattr(type(self), name) for name in ("epochs", "batch", "lr", "flip", "recipe")}
        return dataclasses.replace(self, **usual)

    def will_ask(self, pool: int, budget: int, seed: int) -> Tensor | None:
        """See `Attack`."""
        if self.strategy != "random":
            return None
        return picking_order(pool, seed)[: math.ceil(budget / self.repeats)]

    def seconds(self, budget: int, timed: Timed) -> float:
        """See `Attack`. The victim's answers and the training are timed separately."""
        small = KnockoffNets(epochs=2, batch=self.batch, recipe=self.recipe)
        timed(
            dataclasses.replace(small, epochs=1), 2 * self.batch
        )  # warm-up, because the first step takes seconds
        count = max(2 * self.batch, TIMED_QUERIES)
        ends = {event.phase: at for event, at in timed(small, count)}  # the last event of each phase
        answer, step = ends["asking"] / count, (ends["training"] - ends["asking"]) / (small.epochs * count)
        return budget * answer + self.epochs * math.ceil(budget / self.repeats) * step

    @property
    def mirrored(self) -> bool:
        """See `Attack`. True for the strong recipe with `flip`."""
        return self.recipe == "strong" and self.flip

    def training(self, pictures: int, seed: int) -> Recipe:
        """The training recipe of the clone.

        The strong recipe uses the parts of airbench (Jordan, arXiv 2404.00498) that help here: a linear schedule with a
        warm-up, weight decay on weights only, small shifts without a black border, and alternating mirroring. The total
        weight decay over a training does not depend on its length (`DECAY`).

        Args:
            pictures: number of pictures in the transfer set.
            seed: seed of the training.
        """
        if self.recipe == "plain":
            return Recipe(self.epochs, self.batch, self.lr, schedule="cosine", flip=self.flip, seed=seed)
        steps = self.epochs * pictures / self.batch
        return Recipe(
            self.epochs,
            self.batch,
            self.lr,
            weight_decay=DECAY / (steps * self.lr / 2),  # the linear schedule's mean rate is half its peak
            decay="weights",
            schedule="linear",
            crop_padding=2,
            border="reflection",
            flip=self.flip,
            alternate=True,
            seed=seed,
        )

    def check(self, theft: Theft) -> None:
        """See `Attack.check`."""
        pool, oracle = theft.pool, theft.oracle
        super().check(theft)
        assert pool is not None
        _check_pool(pool, oracle.shape, self.strategy)
        wanted = -(-oracle.budget // self.repeats)
        if wanted < 2:
            raise AttackError(
                f"a budget of {oracle.budget} queries with {self.repeats} repeats gives {wanted} picture, but training "
                "needs at least 2: raise the budget or lower the repeats"
            )
        if wanted > len(pool):
            raise AttackError(
                f"the budget needs {wanted} different pictures, but the pool {pool.name} has {len(pool)}: "
                "lower the budget, raise the repeats or choose a larger pool"
            )
        check_treatment(self.treatment, theft.known_defense)
        try:
            check_whitening(theft.clone, len(pool))
        except ValueError as error:
            raise AttackError(f"the pool {pool.name} is too small: {error}") from error

    def _steps(self, theft: Theft) -> Iterator[Event]:
        assert theft.pool is not None
        few = picking_order(len(theft.pool), theft.seed)[:WHITEN_MOST]
        whiten(theft.clone, theft.pool.images[few])
        asked = TransferSet(theft, self.repeats, self.reward if self.strategy == "adaptive" else None)
        saver = Saver(theft.folder / ATTACK_STATE if theft.folder else None, theft.save_every)
        state = saver.load(torch.device("cpu"))
        if state is not None:
            asked.load_state(state)
        # Costs in forward passes: an answer is one, training on a picture in an epoch is three.
        work = asked.oracle.budget / (asked.oracle.budget + 3 * self.epochs * asked.wanted)
        last = time.monotonic()
        while not asked.complete:
            try:
                asked.ask()
            except NanAnswer:
                saver.write(asked.state)
                raise
            saver.tick(asked.state)
            if time.monotonic() - last > PULSE or asked.complete:
                used = asked.oracle.used
                event = Event("asking", work * used / asked.oracle.budget, used, {}, None, *asked.latest())
                yield from saver.yielding(event, asked.state)
                last = time.monotonic()
        if state is None or len(state["indices"]) < asked.count:
            saver.write(asked.state)
        yield from self._train(theft, asked, work)

    def _train(self, theft: Theft, asked: TransferSet, work: float) -> Iterator[Event]:
        answers = asked.answers[: asked.count].to(theft.oracle.device)
        targets = treat(answers, self.treatment, theft.known_defense, theft.seed)
        if isinstance(theft.clone, Classifier) and isinstance(theft.clone.network, FrozenNet):
            yield from _train_frozen(theft, theft.clone.network, asked, targets, work)
            return
        if isinstance(theft.clone, Classifier):
            theft.clone.mirrored = self.mirrored
        images = asked.images[asked.indices[: asked.count]]
        checkpoint = theft.folder / TRAINING_STATE if theft.folder else None
        used, next_log = theft.oracle.used, 0.0
        losses: dict[str, float] = {}
        recipe = self.training(len(images), theft.seed)
        training = train(theft.clone, images, targets, recipe, checkpoint=checkpoint, save_every=theft.save_every)
        with closing(training):  # closing saves the checkpoint
            for progress in training:
                losses, scores = {"clone": progress.loss}, None
                if next_log <= progress.fraction < 1:
                    scores, next_log = theft.score(), progress.fraction + 1 / theft.logs
                yield Event("training", work + (1 - work) * progress.fraction, used, losses, scores)
        theft.clone.eval()
        yield Event("done", 1.0, used, losses, theft.score(), *asked.latest())


def _train_frozen(
    theft: Theft, network: FrozenNet, asked: TransferSet, targets: Tensor, work: float
) -> Iterator[Event]:
    """Compute the features of the pictures asked, then train the head on them.

    A resumed attack starts this phase from the beginning.
    """
    used, ready, parts = theft.oracle.used, work + 0.8 * (1 - work), []
    for part in asked.indices[: asked.count].split(FEATURE_BATCH):
        parts.append(network.features(to_pixels(asked.images[part].to(theft.oracle.device))).cpu())
        done = len(parts) * FEATURE_BATCH / asked.count
        yield Event("features", work + (ready - work) * min(1.0, done), used)
    next_log = 0.0
    losses: dict[str, float] = {}
    for progress in train_head(network, torch.cat(parts), targets, theft.seed, STEPS):
        losses, scores = {"clone": progress.loss}, None
        if next_log <= progress.fraction < 1:
            scores, next_log = theft.score(), progress.fraction + 1 / theft.logs
        yield Event("training", ready + (1 - ready) * progress.fraction, used, losses, scores)
    theft.clone.eval()
    yield Event("done", 1.0, used, losses, theft.score(), *asked.latest())


def _check_pool(pool: ImageSet, shape: tuple[int, int, int], strategy: str) -> None:
    if pool.images.dtype != torch.uint8 or tuple(pool.images.shape[1:]) != shape:
        raise AttackError(
            f"the victim needs uint8 pictures of shape {shape}, but those of the pool {pool.name} are {pool.images.dtype} "
            f"{tuple(pool.images.shape[1:])}: choose another pool, or resize its pictures"
        )
    if strategy == "adaptive" and pool.labels is None:
        raise AttackError(
            f"the adaptive strategy needs a pool with labels, but {pool.name} has none: "
            "choose a labelled pool or the random strategy"
        )
