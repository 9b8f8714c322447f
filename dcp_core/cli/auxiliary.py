"""`auxiliary`: the second network that AM, MAD or GRAD^2 needs for a victim."""

import dataclasses
import time
from pathlib import Path

import click
import torch
from tqdm import tqdm

from dcp_core.data.datasets import DATASETS, ImageSet, download, load
from dcp_core.files import home
from dcp_core.models import auxiliary, zoo
from dcp_core.models.architectures import build
from dcp_core.models.inference import predict
from dcp_core.models.training import Recipe, train

EPOCHS = {"surrogate": 10, "misinformation": 5}  # of the released code of DCP


@click.command()
@click.option("--victim", required=True, help="A victim's name; `victims` lists them.")
@click.option("--kind", type=click.Choice(auxiliary.TRAINED), required=True)
@click.option("--pool", help="Pictures to learn from; needed for a surrogate, else the victim's training set.")
@click.option("--pictures", type=click.IntRange(2), help="How many of them, drawn at random; all without it.")
@click.option("--epochs", type=click.IntRange(1), help="Default: surrogate 10, misinformation 5.")
@click.option("--lr", type=float, default=0.1, show_default=True, help="Peak learning rate, with a cosine to 0.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads; all cores without it.")
@click.option("--to", "root", type=click.Path(path_type=Path), help="Folder of victims; default DCP_HOME/victims.")
def command(
    victim: str,
    kind: str,
    pool: str | None,
    pictures: int | None,
    epochs: int | None,
    lr: float,
    seed: int,
    device: str,
    threads: int | None,
    root: Path | None,
) -> None:
    """Train the second network that AM (misinformation) or MAD and GRAD² (surrogate) need for a victim.

    A surrogate learns the victim's clean answers to pictures that a thief may ask about: the owner is assumed to
    know them. An interrupted training goes on where it was: give the same command again.

    \b
      python -m dcp_core auxiliary --victim signs-resnet8 --kind misinformation
      python -m dcp_core auxiliary --victim signs-resnet8 --kind surrogate --pool signs_pool --pictures 10000
    """
    if threads:
        torch.set_num_threads(threads)
    target = zoo.load(victim, device)
    if kind == "surrogate" and pool is None:
        raise click.UsageError("a surrogate needs --pool: pictures that a thief may ask about, e.g. cifar100")
    data = pool or target.card.dataset
    if data in DATASETS:
        download(data)
    chosen = _some(load(data, "train", size=target.card.size), pictures, seed)
    targets, loss = auxiliary.lesson(kind, target, chosen)
    flip = data in DATASETS and DATASETS[data].flip
    recipe = Recipe(epochs or EPOCHS[kind], 128, lr, schedule="cosine", flip=flip, seed=seed)
    torch.manual_seed(seed)
    network = build(target.card.architecture, len(target.card.classes)).to(device)
    checkpoint = home() / "training" / f"{victim}-{kind}.pt"
    began = time.monotonic()
    with tqdm(total=1.0, bar_format="{percentage:3.0f}% |{bar}| {elapsed}<{remaining} {postfix}") as bar:
        for progress in train(network, chosen.images, targets, recipe, loss=loss, checkpoint=checkpoint):
            bar.n = progress.fraction
            bar.set_postfix_str(f"step {progress.step}/{progress.steps}, loss {progress.loss:.3f}")
    seconds = time.monotonic() - began
    test = load(target.card.dataset, "test", size=target.card.size)
    assert test.labels is not None
    right = predict(network, test.images).argmax(1) == test.labels
    made = auxiliary.keep(
        network,
        auxiliary.AuxiliaryCard(
            kind=kind,
            victim=victim,
            architecture=target.card.architecture,
            data=data,
            pictures=len(chosen),
            recipe=dataclasses.asdict(recipe),
            seconds=round(seconds, 1),
            accuracy=round(100 * float(right.double().mean()), 2),
            parameters=0,
            sha256="",
        ),
        root,
    )
    checkpoint.unlink(missing_ok=True)
    click.echo(f"{kind} model of {victim}: {made.accuracy:.2f} % of the test set right, {made.seconds:.0f} s")


def _some(pool: ImageSet, count: int | None, seed: int) -> ImageSet:
    if count is None or count >= len(pool):
        return pool
    pick = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))[:count]
    labels = None if pool.labels is None else pool.labels[pick]
    return dataclasses.replace(pool, images=pool.images[pick], labels=labels)
