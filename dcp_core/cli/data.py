"""`data`: list, download and describe data sets."""

import click

from dcp_core.data.datasets import DATASETS, available, load, path_of
from dcp_core.data.datasets import download as fetch


@click.group()
def command() -> None:
    """List, download and describe data sets.

    A data set is one .npz file in DCP_HOME/data with pictures x_train and x_test (uint8, N x H x W x 3), labels y_train
    and y_test, and the names of the classes. You can put such a file there yourself. Every command that takes the name
    of a data set also takes the path of an .npz file or of a folder of pictures.
    """


@command.command("list")
def list_() -> None:
    """List all known data sets, and whether they are on this machine."""
    for name, info in DATASETS.items():
        state = "drawn on first use" if info.drawn else "on this machine" if available(name) else "not downloaded"
        click.echo(
            f"{name:12}{info.title:36}{info.classes or '-':>5} classes  {info.size:>3} px  {state:20}{info.note}"
        )


@command.command()
@click.argument("names", nargs=-1, required=True)
def download(names: tuple[str, ...]) -> None:
    """Download the data sets NAMES from their published sources. Data sets on this machine are not downloaded again."""
    for name in names:
        click.echo(f"{name}: {fetch(name)}")


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Describe one data set: its splits, classes and file."""
    for split in ("train", "test"):
        try:
            found = load(name, split)
        except ValueError as error:
            click.echo(f"{split}: {error}")
            continue
        size = "x".join(map(str, found.images.shape[2:]))
        click.echo(f"{split}: {len(found):,} pictures {size}, {len(found.classes)} classes")
    if name in DATASETS:
        click.echo(f"file: {path_of(name)}")
