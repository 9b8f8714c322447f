"""`train`: a victim of your own, by the one training loop."""

import dataclasses
from pathlib import Path

import click
import torch
from tqdm import tqdm

from dcp_core.data.datasets import DATASETS, DataError, download, load
from dcp_core.files import home
from dcp_core.models import zoo
from dcp_core.models.architectures import ARCHITECTURES, build
from dcp_core.models.inference import predict
from dcp_core.models.training import Recipe
from dcp_core.models.training import train as run


@click.command()
@click.option("--data", required=True, help="A data set's name, or the path of an .npz file or folder.")
@click.option("--network", type=click.Choice(list(ARCHITECTURES)), default="resnet20", show_default=True)
@click.option("--name", help="The victim's name; DATA-NETWORK without it.")
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--batch-size", type=click.IntRange(2), default=128, show_default=True)
@click.option("--lr", type=float, default=0.1, show_default=True, help="Peak learning rate.")
@click.option("--schedule", type=click.Choice(["onecycle", "cosine"]), default="onecycle", show_default=True)
@click.option("--flip/--no-flip", default=None, help="Mirror pictures; default: only where that keeps the label.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads; all cores without it.")
@click.option("--compile", "compiled", is_flag=True, help="Use torch.compile: about 1.3 times faster on a CPU.")
@click.option("--to", "root", type=click.Path(path_type=Path), help="Folder of victims; default DCP_HOME/victims.")
def command(
    data: str,
    network: str,
    name: str | None,
    epochs: int,
    batch_size: int,
    lr: float,
    schedule: str,
    flip: bool | None,
    seed: int,
    device: str,
    threads: int | None,
    compiled: bool,
    root: Path | None,
) -> None:
    """Train a victim on DATA and keep it with its card and its clean answers on the test set.

    An interrupted training goes on where it was: give the same command again.

    \b
      python -m dcp_core train --data signs --network resnet8 --epochs 12
      python -m dcp_core train --data my_pictures.npz --network resnet20 --name mine
    """
    if threads:
        torch.set_num_threads(threads)
    if data in DATASETS:
        download(data)
    training, test = load(data, "train"), load(data, "test")
    if training.labels is None or test.labels is None:
        raise DataError(f"{data} has no labels: it can be queried with, not trained on")
    mirror = flip if flip is not None else data in DATASETS and DATASETS[data].flip
    recipe = Recipe(epochs, batch_size, lr, schedule=schedule, flip=mirror, seed=seed)  # type: ignore[arg-type]
    name = name or f"{Path(data).stem}-{network}"

    torch.manual_seed(seed)
    model = build(network, len(training.classes)).to(device)
    checkpoint = home() / "training" / f"{name}.pt"
    with tqdm(total=1.0, bar_format="{percentage:3.0f}% |{bar}| {elapsed}<{remaining} {postfix}") as bar:
        for progress in run(
            model, training.images, training.labels, recipe, checkpoint=checkpoint, compile_model=compiled
        ):
            bar.n = progress.fraction
            bar.set_postfix_str(f"step {progress.step}/{progress.steps}, loss {progress.loss:.3f}")
    card = zoo.Card(
        name=name,
        title=f"{DATASETS[data].title if data in DATASETS else Path(data).name}, {network}",
        dataset=data,
        architecture=network,
        classes=training.classes,
        size=int(training.images.shape[-1]),
        train_pictures=len(training),
        recipe=dataclasses.asdict(recipe),
    )
    saved = zoo.save(model, card, predict(model, test.images), test.labels, root)
    checkpoint.unlink(missing_ok=True)
    click.echo(f"{name}: {saved.test_accuracy:.2f} % of {saved.test_pictures:,} test pictures")
