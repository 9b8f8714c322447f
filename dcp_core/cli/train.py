"""`train`: train a victim of your own."""

from pathlib import Path

import click
import torch

from dcp_core.cli.progress import made
from dcp_core.making import make_victim
from dcp_core.making.victim import usual_name
from dcp_core.models.architectures import ARCHITECTURES
from dcp_core.runs.store import check_unused


@click.command()
@click.option("--data", required=True, help="A data set's name, or the path of an .npz file or folder.")
@click.option("--network", type=click.Choice(list(ARCHITECTURES)), default="resnet20", show_default=True)
@click.option("--name", help="Name of the new victim. Default: DATA-NETWORK.")
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--batch-size", type=click.IntRange(2), default=128, show_default=True)
@click.option("--lr", type=float, default=0.1, show_default=True, help="Peak learning rate.")
@click.option("--schedule", type=click.Choice(["onecycle", "cosine"]), default="onecycle", show_default=True)
@click.option(
    "--flip/--no-flip",
    default=None,
    help="Mirror training pictures. Default: for data sets whose labels do not change by mirroring.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", help="Default: a GPU if there is one.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads. Default: all cores.")
@click.option(
    "--compile", "compiled", is_flag=True, help="Use torch.compile, which is about 1.3 times as fast on a CPU."
)
@click.option(
    "--to", "root", type=click.Path(path_type=Path), help="Folder of victims. Default: DCP_HOME/victims."
)
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
    device: str | None,
    threads: int | None,
    compiled: bool,
    root: Path | None,
) -> None:
    """Train a victim on DATA, and store it with its card and its clean answers on the test set.

    The same command resumes an interrupted training. A name under which this machine has runs or results is refused: they
    would be taken for those of the new victim.

    \b
      python -m dcp_core train --data signs --network resnet8 --epochs 12
      python -m dcp_core train --data my_pictures.npz --network resnet20 --name mine
    """
    if threads:
        torch.set_num_threads(threads)
    name = name or usual_name(data, network)
    if root is None:
        check_unused(name)
    saved = made(
        make_victim(
            data,
            network,
            name=name,
            device=device,
            compiled=compiled,
            root=root,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            schedule=schedule,
            flip=flip,
            seed=seed,
        )
    )
    click.echo(f"{saved.name}: accuracy {saved.test_accuracy:.2f} % on {saved.test_pictures:,} test pictures")
