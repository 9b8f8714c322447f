"""Shadow models: networks that a thief trains himself on labelled pictures, to see what clean answers look like.

Chen et al., D-DAE, IEEE S&P 2023; here as in the implementation of Tang et al. (ModelGuard, USENIX Security 2024). Each
shadow model learns as many random classes of the pool as the victim has, from the pool's own labels. It takes no queries.
"""

from collections.abc import Generator
from contextlib import closing
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from dcp_core import checkpoints
from dcp_core.attacks.oracle import AttackError
from dcp_core.data.datasets import ImageSet
from dcp_core.models.inference import predict, reduced
from dcp_core.models.training import Recipe, train

SHADOW_PICTURES = 1000  # largest number of pictures on which a shadow model is trained


def check_shadows(pool: ImageSet, classes: int) -> None:
    """Check that shadow models of so many classes can be trained on a pool.

    Raises:
        AttackError: if it has no labels or fewer classes.
    """
    known = 0 if pool.labels is None else len(pool.labels.unique())
    if known < classes:
        raise AttackError(
            f"shadow models need a pool with labels of at least {classes} classes, but {pool.name} has {known}: choose "
            "another pool or prior"
        )


def shadow_answers(
    clone: nn.Module, pool: ImageSet, pictures: Tensor, classes: int, count: int, recipe: Recipe, path: Path | None
) -> Generator[float, None, Tensor]:
    """Train shadow models; yields the fraction that is done, and returns their posteriors (n, K).

    Args:
        clone: an untrained clone; each shadow model starts from its weights.
        pool: a pool with labels.
        pictures: indices (n,) of pictures of the pool. Each of them is answered by one shadow model.
        classes: number of classes K of the victim.
        count: number of shadow models.
        recipe: training recipe of each shadow model. Its seed also draws the classes.
        path: checkpoint with the answers of the shadow models that are done.
    """
    state = None if path is None else checkpoints.load(path, "cpu")
    answers: list[Tensor] = [] if state is None else list(state["answers"])
    for number, few in enumerate(pictures.tensor_split(count)):
        if number < len(answers):
            continue
        shadow = deepcopy(clone)
        images, labels = shadow_task(pool, classes, recipe.seed * 1_000_003 + number)
        images = reduced(images, getattr(clone, "side", None))
        with closing(train(shadow, images, labels, recipe)) as training:
            for progress in training:
                yield (number + progress.fraction) / count
        answers.append(predict(shadow, pool.images[few]).softmax(1))
        if path is not None:
            checkpoints.save(path, {"answers": answers})
    return torch.cat(answers)


def shadow_task(pool: ImageSet, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures (at most `SHADOW_PICTURES`) of random classes of the pool, and their labels from 0 to K - 1."""
    assert pool.labels is not None
    rng = torch.Generator().manual_seed(seed)
    known = pool.labels.unique()
    chosen = known[torch.randperm(len(known), generator=rng)[:classes]]
    of_classes = torch.isin(pool.labels, chosen).nonzero()[:, 0]
    picked = of_classes[torch.randperm(len(of_classes), generator=rng)[:SHADOW_PICTURES]]
    labels = (pool.labels[picked][:, None] == chosen).int().argmax(1)
    return pool.images[picked], labels
