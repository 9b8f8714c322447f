"""Training of the clone of KnockoffNets on the treated answers.

With the prior `own`, there are several stages. The first one uses the wide prior. After each stage, the answers of the clone
to pictures of the pool are the prior of the next one, and the clone is trained again from its initial weights. This takes no
queries. Each stage has its own checkpoint, so a resumed attack repeats only the recoveries.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from dcp_core.attacks.adaptive import RECOVERIES, treat
from dcp_core.attacks.base import PULSE, SHADOWS_STATE, Event, Theft, training_state
from dcp_core.attacks.recovery import CALIBRATING, Working, own_prior
from dcp_core.attacks.rotations import RotationTask
from dcp_core.attacks.shadows import SHADOW_PICTURES, shadow_answers
from dcp_core.attacks.transfer_set import TransferSet
from dcp_core.models.architectures import Classifier
from dcp_core.models.inference import predict, reduced, to_pixels
from dcp_core.models.pretrained import STEPS, FrozenNet, train_head
from dcp_core.models.training import Recipe, TrainingProgress, train

FEATURE_BATCH = 256  # pictures whose features are computed between two events
PRIOR_PICTURES = 20_000  # largest number of pictures of the pool whose answers are the prior
RECOVERING = 0.1  # share of a stage's progress bar that the recovery of the answers gets
FEATURES_SHARE = 0.8  # share of the progress bar that the features of a pretrained clone get
DECAY = 0.4  # weight decay times learning rate, summed over all steps of the strong recipe


def plain_recipe(pictures: int, epochs: int, batch: int, lr: float, *, flip: bool, seed: int) -> Recipe:
    """The recipe of KnockoffNets as published."""
    return Recipe(epochs, batch, lr, schedule="cosine", flip=flip, seed=seed)


def strong_recipe(pictures: int, epochs: int, batch: int, lr: float, *, flip: bool, seed: int) -> Recipe:
    """A recipe with the parts of airbench (Jordan, arXiv 2404.00498) that help here.

    They are a linear schedule with a warm-up, weight decay on weights only, small shifts without a black border, and
    alternating mirroring. The total weight decay over a training does not depend on its length (`DECAY`).

    Args:
        pictures: number of pictures in the transfer set.
    """
    steps = epochs * pictures / batch
    return Recipe(
        epochs,
        batch,
        lr,
        weight_decay=DECAY / (steps * lr / 2),  # the linear schedule's mean rate is half its peak
        decay="weights",
        schedule="linear",
        crop_padding=2,
        border="reflection",
        flip=flip,
        alternate=True,
        seed=seed,
    )


@dataclass(frozen=True)
class TrainingPlan:
    """How the clone is trained on the answers.

    Args:
        treatment: one of `adaptive.TREATMENTS`.
        stages: number of trainings.
        recipe: training recipe, the same in each stage.
        mirrored: whether the clone answers with the mean over a picture and its mirror image.
        prior: posteriors (n, K) of the prior in the first stage. Default: the wide prior.
        shadows: number of shadow models whose answers are the prior in the first stage.
        rotations: whether the clone also learns to recognise rotations of pictures of the pool, see `rotations.py`.
    """

    treatment: str
    stages: int
    recipe: Recipe
    mirrored: bool = False
    prior: Tensor | None = None
    shadows: int = 0
    rotations: bool = False


def prior_pictures(asked: TransferSet) -> Tensor:
    """Indices (n,) of at most `PRIOR_PICTURES` pictures of the pool: first unqueried ones, then others, in random order."""
    fresh = torch.ones(len(asked.images), dtype=torch.bool)
    fresh[asked.indices[: asked.count]] = False
    order = asked.order
    return torch.cat([order[fresh[order]], order[~fresh[order]]])[:PRIOR_PICTURES]


def train_clone(theft: Theft, asked: TransferSet, plan: TrainingPlan, start: float) -> Iterator[Event]:
    """Train `theft.clone` as planned; yields events. The fraction of the first one is at least `start`."""
    clone, used = theft.clone, theft.oracle.used
    if isinstance(clone, Classifier) and isinstance(clone.network, FrozenNet):
        ready = start + FEATURES_SHARE * (1 - start)
        features = yield from _features(clone.network, asked, theft, start, ready)
        trainer: _HeadTrainer | _NetworkTrainer = _HeadTrainer(theft, clone.network, features)
        start = ready
    else:
        if isinstance(clone, Classifier):
            clone.mirrored = plan.mirrored
        images = yield from _pictures(asked, theft, start)
        trainer = _NetworkTrainer(theft, asked, plan, images)
    prior, initial = plan.prior, deepcopy(clone.state_dict())
    if plan.shadows:
        work = plan.shadows * SHADOW_PICTURES
        ready = start + (1 - start) * work / (work + asked.count * plan.stages)
        working = _shadows(theft, asked, plan)
        prior = yield from _shown(working, "training shadow models", theft, start, ready - start)
        start = ready
    answers = asked.answers[: asked.count].to(theft.oracle.device)
    share = (1 - start) / plan.stages
    next_log = 0.0
    losses: dict[str, float] = {}
    for stage in range(plan.stages):
        began = start + stage * share
        if stage:
            assert theft.known_defense is not None
            prior = own_prior(*trainer.logits(), answers.cpu(), theft.known_defense, theft.seed)
            clone.load_state_dict(initial)
        recovery = RECOVERING * share if plan.treatment in RECOVERIES else 0.0
        working = treat(answers, plan.treatment, theft.known_defense, theft.seed, prior)
        targets = yield from _shown(working, "recovering", theft, began, recovery)
        began, last = began + recovery, stage == plan.stages - 1
        with closing(trainer.train(targets, stage)) as training:  # closing saves the checkpoint
            for progress in training:
                losses, scores = {"clone": progress.loss}, None
                if last and next_log <= progress.fraction < 1:
                    scores, next_log = theft.score(), progress.fraction + 1 / theft.logs
                yield Event("training", began + (share - recovery) * progress.fraction, used, losses, scores)
    clone.eval()
    yield Event("done", 1.0, used, losses, theft.score(), *asked.latest())


class _NetworkTrainer:
    """Trains a whole network on the pictures that were queried: `images`, as the network sees them."""

    def __init__(self, theft: Theft, asked: TransferSet, plan: TrainingPlan, images: Tensor) -> None:
        self.theft, self.asked, self.plan, self.images = theft, asked, plan, images

    def train(self, targets: Tensor, stage: int) -> Generator[TrainingProgress, None, None]:
        """Train the clone on targets (N, K), or resume the training of this stage."""
        folder, model, further = self.theft.folder, self.theft.clone, None
        checkpoint = folder / training_state(stage) if folder else None
        if self.plan.rotations:
            pool = reduced(self.asked.images, getattr(model, "side", None))
            model = task = RotationTask(model, pool, self.plan.recipe)
            further = task.rotation_loss
        return train(
            model,
            self.images,
            targets,
            self.plan.recipe,
            further_loss=further,
            checkpoint=checkpoint,
            save_every=self.theft.save_every,
        )

    def logits(self) -> tuple[Tensor, Tensor]:
        """Logits (n, K) of the clone for `prior_pictures`, and for the first pictures that were queried."""
        asked = self.asked
        prior, few = asked.images[prior_pictures(asked)], asked.images[asked.indices[: asked.count][:CALIBRATING]]
        return predict(self.theft.clone, prior), predict(self.theft.clone, few)


class _HeadTrainer:
    """Trains the head of a pretrained network on the features of the pictures that were queried."""

    def __init__(self, theft: Theft, network: FrozenNet, features: Tensor) -> None:
        self.theft, self.network, self.features = theft, network, features

    def train(self, targets: Tensor, stage: int) -> Generator[TrainingProgress, None, None]:
        """Train the head on targets (N, K)."""
        yield from train_head(self.network, self.features, targets, self.theft.seed, STEPS)

    def logits(self) -> tuple[Tensor, Tensor]:
        """Logits (n, K) of the clone for queried pictures, returned twice, because only these have known features."""
        network = self.network.eval()
        features = self.features[:PRIOR_PICTURES].to(network.center.device)
        with torch.inference_mode():
            logits = network.head((features - network.center) / network.scale).float().cpu().clone()
        return logits, logits


def _shown(
    working: Working, phase: str, theft: Theft, start: float, share: float
) -> Generator[Event, None, Tensor]:
    """Yield an event for each progress report of `working`; returns its result. Fractions grow from `start` by `share`."""
    last = time.monotonic()
    while True:
        try:
            done = next(working)
        except StopIteration as end:
            return end.value
        if time.monotonic() - last > PULSE:
            yield Event(phase, start + share * done, theft.oracle.used)
            last = time.monotonic()


def _shadows(theft: Theft, asked: TransferSet, plan: TrainingPlan) -> Working:
    """Posteriors (n, K) of shadow models, which are trained first."""
    assert theft.pool is not None
    path = theft.folder / SHADOWS_STATE if theft.folder else None
    pictures = prior_pictures(asked)
    return shadow_answers(theft.clone, theft.pool, pictures, theft.oracle.classes, plan.shadows, plan.recipe, path)


def _pictures(asked: TransferSet, theft: Theft, fraction: float) -> Generator[Event, None, Tensor]:
    """The pictures that were queried, uint8, reduced once to the size that the clone sees."""
    side, which = getattr(theft.clone, "side", None), asked.indices[: asked.count]
    if side is None or side >= asked.images.shape[-1]:
        return asked.images[which]
    parts: list[Tensor] = []
    for part in which.split(FEATURE_BATCH):
        parts.append(reduced(asked.images[part], side))
        yield Event("resizing", fraction, theft.oracle.used)
    return torch.cat(parts)


def _features(
    network: FrozenNet, asked: TransferSet, theft: Theft, start: float, end: float
) -> Generator[Event, None, Tensor]:
    """Features (N, 1280) of the pictures that were queried. A resumed attack computes them from the beginning."""
    parts: list[Tensor] = []
    for part in asked.indices[: asked.count].split(FEATURE_BATCH):
        parts.append(network.features(to_pixels(asked.images[part].to(theft.oracle.device))).cpu())
        done = min(1.0, len(parts) * FEATURE_BATCH / asked.count)
        yield Event("features", start + (end - start) * done, theft.oracle.used)
    return torch.cat(parts)
