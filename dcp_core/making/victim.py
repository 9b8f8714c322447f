"""Train and store a victim."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcp_core import checkpoints
from dcp_core.data.datasets import DATASETS, DataError, download, load
from dcp_core.making.progress import Making, Progress, checkpoint_of, following, recipe_of, usual_device
from dcp_core.models import storing, zoo
from dcp_core.models.architectures import Classifier, build, whiten
from dcp_core.models.inference import predict
from dcp_core.models.training import train


def make_victim(
    data: str,
    network: str = "resnet20",
    *,
    name: str | None = None,
    device: str | None = None,
    compiled: bool = False,
    root: Path | None = None,
    **recipe: Any,
) -> Making[zoo.Card]:
    """Train a victim and store it with its card and its clean answers on the test set.

    Args:
        data: name of a data set, which is downloaded if it is missing, or path of an `.npz` file or a folder.
        network: one of `models.architectures.ARCHITECTURES`.
        name: name of the new victim. Default: DATA-NETWORK.
        device: a torch device. Default: a GPU if there is one.
        compiled: use torch.compile, which is about 1.3 times as fast on a CPU.
        root: folder of victims. Default: `home()/victims`.
        recipe: fields of `models.training.Recipe`, such as `epochs`, `lr` or `seed`.

    Raises:
        ValueError: if the data set is missing or has no labels, the network is unknown, or the recipe or name is invalid.
        FloatingPointError: if the training diverges.
    """
    chosen = recipe_of(data, {}, recipe)
    name = storing.checked_name(name or usual_name(data, network))
    if data in DATASETS:
        download(data)
    training, test = load(data, "train"), load(data, "test")
    if training.labels is None or test.labels is None:
        raise DataError(f"{data} has no labels: use it as a query pool, and train on a data set with labels")
    model = fresh(network, len(training.classes), chosen.seed, training.images).to(device or usual_device())
    checkpoint = checkpoint_of(name, data=data, network=network, pictures=len(training), recipe=chosen)
    steps = train(model, training.images, training.labels, chosen, checkpoint=checkpoint, compile_model=compiled)
    yield from following(steps, "training", end=0.98)
    yield Progress("answering the test pictures", 0.98)
    card = zoo.Card(
        name=name,
        title=f"{DATASETS[data].title if data in DATASETS else Path(data).name}, {network}",
        dataset=data,
        architecture=network,
        classes=training.classes,
        size=int(training.images.shape[-1]),
        train_pictures=len(training),
        recipe=dataclasses.asdict(chosen),
    )
    saved = storing.save(model, card, predict(model, test.images), test.labels, root)
    checkpoints.remove(checkpoint)
    yield Progress("done", 1.0)
    return saved


def usual_name(data: str, network: str) -> str:
    """The name that a victim gets without another one: DATA-NETWORK; of a file or folder, its name without the ending."""
    return f"{Path(data).stem}-{network}"


def fresh(network: str, classes: int, seed: int, images: Tensor) -> Classifier:
    """A newly initialised network. torch's global random state is not changed.

    Args:
        network: one of `models.architectures.ARCHITECTURES`.
        images: training pictures, uint8 (N, 3, H, W). The first layer of a `fast_...` network is computed from them.

    Raises:
        ValueError: if the network is unknown, or there are too few pictures for the first layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(network, classes)
    whiten(model, images)
    return model
