"""`keys`: which clients may use the prediction API, and how much."""

import click

from dcp_core.api.keys import QUOTA, Keys


@click.group()
def command() -> None:
    """Add, list and revoke keys of the prediction API (`serve`)."""


@command.command()
@click.argument("name")
@click.option(
    "--quota",
    type=click.IntRange(min=0),
    default=QUOTA,
    show_default=True,
    help="Largest number of pictures a day (UTC).",
)
@click.option("--operator", is_flag=True, help="The key may also read /metrics and /watch.")
def add(name: str, quota: int, operator: bool) -> None:
    """Add a key for the client NAME and print it once. Only its hash is stored."""
    try:
        secret = Keys().add(name, quota, operator)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(secret)
    click.echo("Keep it now: it cannot be shown again. Clients send it as `Authorization: Bearer KEY`.", err=True)


@command.command(name="list")
def list_() -> None:
    """List all keys, without their secrets."""
    try:
        keys = Keys().all()
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    for key in keys:
        state = f"revoked {key.revoked}" if key.revoked else "valid"
        rights = ", operator" if key.operator else ""
        click.echo(f"{key.name}: {key.quota} pictures a day{rights}, added {key.created}, {state}")
    if not keys:
        click.echo("There are no keys yet. Add one with: dcp keys add NAME")


@command.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Make the key of the client NAME invalid. A running server notices it."""
    try:
        Keys().revoke(name)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"the key of {name} is revoked")
