"""Train the second network that AM, MAD or GRAD² needs for a victim."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from dcp_core import checkpoints
from dcp_core.data.datasets import DATASETS, download, load
from dcp_core.making.progress import Making, Progress, checkpoint_of, following, recipe_of, usual_device
from dcp_core.making.victim import fresh
from dcp_core.models import auxiliary, zoo
from dcp_core.models.architectures import second_architecture
from dcp_core.models.inference import predict
from dcp_core.models.training import train

EPOCHS = {"surrogate": 10, "misinformation": 5}  # as in the released code of DCP


def make_second_network(
    victim: str,
    kind: str,
    *,
    pool: str | None = None,
    pictures: int | None = None,
    device: str | None = None,
    root: Path | None = None,
    **recipe: Any,
) -> Making[auxiliary.AuxiliaryCard]:
    """Train the second network that AM ("misinformation") or GRAD² and MAD ("surrogate") need, and store it.

    A surrogate learns the victim's clean answers to pictures that a thief may send. The owner is assumed to know what kind
    of pictures these are. A misinformation model learns to be wrong on the victim's training set.

    Args:
        victim: name of a victim.
        kind: "surrogate" or "misinformation".
        pool: data set to train on. Required for a surrogate; a misinformation model uses the victim's training set by
            default.
        pictures: number of pictures of the pool, drawn at random. Default: all.
        device, root, recipe: as for `make_victim`. Default recipe: batches of 128, peak learning rate 0.1 with a cosine
            schedule to 0, 10 epochs for a surrogate and 5 for a misinformation model.

    Raises:
        ValueError: if the victim or the kind is unknown, or the pictures cannot be used for the training.
        FloatingPointError: if the training diverges.
    """
    if kind not in auxiliary.TRAINED:
        raise ValueError(f"unknown kind of second network '{kind}': use {' or '.join(auxiliary.TRAINED)}")
    if kind == "surrogate" and pool is None:
        raise ValueError("a surrogate needs a pool: pictures that a thief may send, for example cifar100")
    device = device or usual_device()
    target = zoo.load(victim, device)
    data = pool or target.card.dataset
    defaults = {"epochs": EPOCHS[kind], "batch_size": 128, "lr": 0.1, "schedule": "cosine"}
    chosen = recipe_of(data, defaults, recipe)
    if data in DATASETS:
        download(data)
    sample = load(data, "train", size=target.card.size)
    if pictures is not None and pictures < len(sample):
        sample = sample.drawn(pictures, chosen.seed)
    targets, loss = auxiliary.training_task(kind, target, sample)
    architecture = second_architecture(target.card.architecture)
    network = fresh(architecture, len(target.card.classes), chosen.seed, sample.images).to(device)
    checkpoint = checkpoint_of(
        f"{victim}-{kind}", victim=target.card.sha256, data=data, pictures=len(sample), recipe=chosen
    )
    began = time.monotonic()
    steps = train(network, sample.images, targets, chosen, loss=loss, checkpoint=checkpoint)
    yield from following(steps, "training", end=0.98)
    seconds = time.monotonic() - began
    yield Progress("answering the test pictures", 0.98)
    test = load(target.card.dataset, "test", size=target.card.size)
    assert test.labels is not None
    right = predict(network, test.images).argmax(1) == test.labels
    about = auxiliary.AuxiliaryCard(
        kind=kind,
        victim=victim,
        architecture=architecture,
        data=data,
        pictures=len(sample),
        recipe=dataclasses.asdict(chosen),
        seconds=round(seconds, 1),
        accuracy=round(100 * float(right.double().mean()), 2),
        parameters=0,
        sha256="",
    )
    stored = auxiliary.keep(network, about, root)
    checkpoints.remove(checkpoint)
    yield Progress("done", 1.0)
    return stored
