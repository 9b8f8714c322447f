"""`fetch`: the shipped victims that an installed package lacks."""

import click

from dcp_core import release
from dcp_core.files import home


@click.command()
@click.argument("source", metavar="ARCHIVE|URL")
def command(source: str) -> None:
    """Unpack the release archive into DCP_HOME, from a file or an address.

    An installed package holds one victim and its eight-bit versions; the archive dcp-victims-VERSION.zip holds the
    other shipped ones. Every file must have the sha256 that the package lists, or nothing is unpacked.
    """
    for folder in release.fetch(source):
        click.echo(home() / folder)
