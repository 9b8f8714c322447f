"""KnockoffNets: send pictures of a pool as queries, then train a clone on the answers.

Orekondy, Schiele and Fritz, "Knockoff Nets", CVPR 2019. Pictures are drawn from the pool without replacement and sent
without augmentation. The clone is trained with soft cross-entropy on augmented pictures.
"""

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dcp_core.attacks.adaptive import (
    AS_IS,
    ORACLE,
    OWN,
    PRIORS,
    RECOVERIES,
    SHADOWS,
    TREATMENTS,
    WIDE,
    check_treatment,
    thief_name,
)
from dcp_core.attacks.bandit import REWARDS
from dcp_core.attacks.base import (
    ATTACK_STATE,
    PULSE,
    TIMED_QUERIES,
    Attack,
    Event,
    Saver,
    Theft,
    Timed,
)
from dcp_core.attacks.clone_training import TrainingPlan, plain_recipe, prior_pictures, strong_recipe, train_clone
from dcp_core.attacks.oracle import AttackError, NanAnswer
from dcp_core.attacks.shadows import SHADOW_PICTURES, check_shadows
from dcp_core.attacks.transfer_set import TransferSet, check_pool, picking_order
from dcp_core.defenses.base import parameter
from dcp_core.models.architectures import Classifier, check_whitening, whiten
from dcp_core.models.fast import WHITEN_MOST
from dcp_core.models.pretrained import FROZEN, FrozenNet
from dcp_core.models.training import Recipe

LEAST_PRIOR = 500  # smallest number of pictures for the prior `oracle`
FIXED_FOR_HEAD = (
    "epochs",
    "batch",
    "lr",
    "flip",
    "recipe",
    "rotations",
)  # parameters without effect on a pretrained clone


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
    treatment: Literal["as-is", "top-1", "bayes", "inverse", "ddae"] = parameter(
        AS_IS,
        "t",
        "What the thief does with the answers: nothing, use only the top class, or invert the known defense (bayes, "
        "inverse, ddae).",
        choices=TREATMENTS,
        label="Use of the answers",
    )
    prior: Literal["wide", "own", "shadows", "oracle"] = parameter(
        WIDE,
        "p",
        "Posteriors from which a recovery starts: wide, random ones; own, the answers of the thief's own clone, trained "
        "before; shadows, those of networks that the thief trains on labels of the pool; oracle, clean answers of the "
        "victim, a bound that no thief reaches.",
        choices=PRIORS,
        before=WIDE,
        expert=True,
        label="Prior of a recovery",
    )
    rounds: int = parameter(
        1,
        "n",
        "How often the clone is trained again on answers recovered with the prior `own`. It takes no queries.",
        low=1,
        high=5,
        step=1,
        before=1,
        expert=True,
        label="Rounds with the own prior",
    )
    shadows: int = parameter(
        20,
        "s",
        "Networks that are trained for the prior `shadows`, each on at most 1,000 pictures. They take no queries.",
        low=1,
        high=50,
        step=1,
        before=20,
        expert=True,
        label="Shadow models",
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
    augmented: bool = parameter(
        False,
        "~",
        "Send each repeat with another small shift, and with `flip` also mirrored, as in training.",
        choices=(True, False),
        before=False,
        expert=True,
        label="Change each repeat",
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
    rotations: bool = parameter(
        False,
        "S",
        "Also learn to tell how pictures of the pool were rotated, queried or not (S4L). The training takes twice as long.",
        choices=(True, False),
        before=False,
        expert=True,
        label="Also learn rotations (S4L)",
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
        if self.treatment == AS_IS and self.repeats > 1:
            return "average (augmented)" if self.augmented else "average"
        if self.treatment == AS_IS:
            return super().thief
        return thief_name(self.treatment, self.prior) if self.treatment in RECOVERIES else self.treatment

    @property
    def is_bound(self) -> bool:
        """See `Attack`."""
        return self._uses(ORACLE)

    @property
    def stages(self) -> int:
        """Number of trainings of the clone."""
        return 1 + self.rounds if self._uses(OWN) else 1

    def _uses(self, prior: str) -> bool:
        return self.treatment in RECOVERIES and self.prior == prior

    def for_clone(self, clone: str) -> Attack:
        """See `Attack`: the head of a pretrained clone is trained in one way only, and only a recovery has a prior."""
        without_effect = list(FIXED_FOR_HEAD) if clone == FROZEN else []
        without_effect += [] if self.treatment in RECOVERIES else ["prior"]
        without_effect += [] if self.stages > 1 else ["rounds"]
        without_effect += [] if self._uses(SHADOWS) else ["shadows"]
        without_effect += [] if self.repeats > 1 else ["augmented"]
        return dataclasses.replace(self, **{name: getattr(type(self), name) for name in without_effect})

    def will_ask(self, pool: int, budget: int, seed: int) -> Tensor | None:
        """See `Attack`."""
        if self.strategy != "random" or (self.augmented and self.repeats > 1):
            return None
        return picking_order(pool, seed)[: math.ceil(budget / self.repeats)]

    def seconds(self, budget: int, timed: Timed) -> float:
        """See `Attack`. The victim's answers and the training are timed separately."""
        small = KnockoffNets(epochs=2, batch=self.batch, recipe=self.recipe, rotations=self.rotations)
        timed(dataclasses.replace(small, epochs=1), self.batch)  # warm-up, because the first step takes seconds
        count = max(2 * self.batch, TIMED_QUERIES // 2)  # a large picture takes a large victim 10 ms and more
        ends = {event.phase: at for event, at in timed(small, count)}  # the last event of each phase
        ready = ends.get("resizing", ends["asking"])
        answer, step = ready / count, (ends["training"] - ready) / (small.epochs * count)
        shadows = SHADOW_PICTURES * self.shadows if self._uses(SHADOWS) else 0
        trained = self.stages * math.ceil(budget / self.repeats) + shadows
        return budget * answer + self.epochs * trained * step

    @property
    def mirrored(self) -> bool:
        """Whether the clone answers with the mean over a picture and its mirror image."""
        return self.recipe == "strong" and self.flip

    @property
    def passes(self) -> int:
        """See `Attack`."""
        return 2 if self.mirrored else 1

    def training(self, pictures: int, seed: int) -> Recipe:
        """The training recipe of the clone.

        Args:
            pictures: number of pictures in the transfer set.
            seed: seed of the training.
        """
        recipe = plain_recipe if self.recipe == "plain" else strong_recipe
        return recipe(pictures, self.epochs, self.batch, self.lr, flip=self.flip, seed=seed)

    def check(self, theft: Theft) -> None:
        """See `Attack.check`."""
        pool, oracle = theft.pool, theft.oracle
        super().check(theft)
        assert pool is not None
        check_pool(pool, oracle.shape)
        if self.strategy == "adaptive" and pool.labels is None:
            raise AttackError(
                f"the adaptive strategy needs a pool with labels, but {pool.name} has none: "
                "choose a labelled pool or the random strategy"
            )
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
        if self._uses(SHADOWS):
            check_shadows(pool, oracle.classes)
            if isinstance(theft.clone, Classifier) and isinstance(theft.clone.network, FrozenNet):
                raise AttackError(
                    "shadow models are whole networks, and this clone is only a head: choose another clone"
                )
        if self.is_bound and len(pool) - wanted < LEAST_PRIOR:
            raise AttackError(
                f"the prior 'oracle' needs {LEAST_PRIOR} pictures in the pool that are not queried, but {pool.name} has "
                f"{len(pool) - wanted}: lower the budget or choose a larger pool"
            )
        try:
            check_whitening(theft.clone, len(pool))
        except ValueError as error:
            raise AttackError(f"the pool {pool.name} is too small: {error}") from error

    def _steps(self, theft: Theft) -> Iterator[Event]:
        assert theft.pool is not None
        few = picking_order(len(theft.pool), theft.seed)[:WHITEN_MOST]
        whiten(theft.clone, theft.pool.images[few])
        asked = TransferSet(
            theft,
            self.repeats,
            reward=self.reward if self.strategy == "adaptive" else None,
            change=self.training(2, theft.seed) if self.augmented else None,
        )
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
        yield from train_clone(theft, asked, self._plan(theft, asked), work)

    def _plan(self, theft: Theft, asked: TransferSet) -> TrainingPlan:
        clean = None
        if self.is_bound:
            assert theft.clean_answers is not None
            clean = theft.clean_answers(asked.images[prior_pictures(asked)[: len(asked.images) - asked.count]])
        return TrainingPlan(
            self.treatment,
            stages=self.stages,
            recipe=self.training(asked.count, theft.seed),
            mirrored=self.mirrored,
            prior=clean,
            shadows=self.shadows if self._uses(SHADOWS) else 0,
            rotations=self.rotations,
        )
