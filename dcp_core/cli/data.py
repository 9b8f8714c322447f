"""`data`: what there is to look at and to query with."""

import click

from dcp_core.data.datasets import DATASETS, available, load, path_of
from dcp_core.data.datasets import download as fetch


@click.group()
def command() -> None:
    """List, download and describe data sets.

    A data set is one .npz file below DCP_HOME/data with x_train, y_train, x_test, y_test (uint8 N x H x W x 3) and
    classes. Put such a file there yourself, or name your own .npz or folder of pictures by its path wherever a
    command takes a data set.
    """


@command.command("list")
def list_() -> None:
    """Show every known data set and whether it is here."""
    for name, info in DATASETS.items():
        state = "drawn on first use" if info.drawn else "here" if available(name) else "not here"
        click.echo(
            f"{name:12}{info.title:36}{info.classes or '-':>5} classes  {info.size:>3} px  {state:20}{info.note}"
        )


@command.command()
@click.argument("names", nargs=-1, required=True)
def download(names: tuple[str, ...]) -> None:
    """Fetch NAMES from their published sources, with progress; what is here already is left alone."""
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
