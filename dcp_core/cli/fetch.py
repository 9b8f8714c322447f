"""`fetch`: unpack the victims that are not part of an installed package."""

import click

from dcp_core import release
from dcp_core.files import home


@click.command()
@click.argument("source", metavar="ARCHIVE|URL")
def command(source: str) -> None:
    """Unpack a release archive (a file or a URL) into DCP_HOME.

    An installed package contains one victim and its eight-bit versions. The archive dcp-victims-VERSION.zip contains the
    other victims of the repository. The package lists the sha256 of every file; if one differs, nothing is unpacked.
    """
    for folder in release.fetch(source):
        click.echo(home() / folder)
