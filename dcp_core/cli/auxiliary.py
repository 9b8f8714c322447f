"""`auxiliary`: train the second network that AM, MAD or GRAD² needs for a victim."""

from pathlib import Path

import click
import torch

from dcp_core.cli.progress import made
from dcp_core.making import make_second_network
from dcp_core.models import auxiliary


@click.command()
@click.option("--victim", required=True, help="A victim's name; `victims` lists them.")
@click.option(
    "--kind",
    type=click.Choice(auxiliary.TRAINED),
    required=True,
    help="misinformation for AM, surrogate for GRAD² and MAD.",
)
@click.option(
    "--pool",
    help="Data set to train on. Required for a surrogate; misinformation uses the victim's training set by default.",
)
@click.option("--pictures", type=click.IntRange(2), help="Number of pictures, drawn at random. Default: all.")
@click.option("--epochs", type=click.IntRange(1), help="Default: surrogate 10, misinformation 5.")
@click.option(
    "--lr", type=float, default=0.1, show_default=True, help="Peak learning rate of a cosine schedule to 0."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", help="Default: a GPU if there is one.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads. Default: all cores.")
@click.option(
    "--to", "root", type=click.Path(path_type=Path), help="Folder of victims. Default: DCP_HOME/victims."
)
def command(
    victim: str,
    kind: str,
    pool: str | None,
    pictures: int | None,
    epochs: int | None,
    lr: float,
    seed: int,
    device: str | None,
    threads: int | None,
    root: Path | None,
) -> None:
    """Train the second network that AM (misinformation) or MAD and GRAD² (surrogate) need for a victim.

    A surrogate learns the victim's clean answers to pictures that a thief may send. The owner is assumed to know what
    kind of pictures these are. The same command resumes an interrupted training.

    \b
      python -m dcp_core auxiliary --victim signs-resnet8 --kind misinformation
      python -m dcp_core auxiliary --victim signs-resnet8 --kind surrogate --pool signs_pool --pictures 10000
    """
    if threads:
        torch.set_num_threads(threads)
    if kind == "surrogate" and pool is None:
        raise click.UsageError("a surrogate needs --pool: pictures that a thief may send, for example cifar100")
    about = made(
        make_second_network(
            victim,
            kind,
            pool=pool,
            pictures=pictures,
            device=device,
            root=root,
            epochs=epochs,
            lr=lr,
            seed=seed,
        )
    )
    click.echo(f"{kind} model of {victim}: test accuracy {about.accuracy:.2f} %, trained in {about.seconds:.0f} s")
