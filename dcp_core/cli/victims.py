"""`victims`: list the victims on this machine, add one that was made elsewhere, and remove one."""

import dataclasses
import json
from importlib import import_module

import click

from dcp_core.models import storing, zoo


class _NamesToo(click.Group):
    """A group that takes the name of a victim in the place of a subcommand, and prints its card."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["add", *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "add":
            return import_module("dcp_core.cli.victims_add").command
        found = super().get_command(ctx, cmd_name)
        if found is None and not cmd_name.startswith("-"):
            found = click.Command(cmd_name, callback=lambda: _print_card(cmd_name), hidden=True)
        return found


@click.group(cls=_NamesToo, invoke_without_command=True, subcommand_metavar="[NAME | COMMAND [ARGS]...]")
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the victims on this machine, or print the card of the victim NAME as JSON.

    Every classification model of torchvision is a victim too, under the name torchvision:NAME. Its weights are
    downloaded at the first use. `add` makes a victim of a classifier of yours.
    """
    if ctx.invoked_subcommand is None:
        _list()


@command.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Delete without asking for confirmation.")
def remove(name: str, yes: bool) -> None:
    """Delete the victim NAME of your own, with its second networks and its test pictures. Its runs and results stay."""
    if not storing.removable(name):
        raise zoo.VictimError(f"{name} comes with this package and cannot be removed")
    if not yes:
        click.confirm(f"Delete the victim {name}?", abort=True)
    from dcp_core.given import remove as remove_victim

    remove_victim(name)
    click.echo(f"{name} is deleted")


def _print_card(name: str) -> None:
    click.echo(json.dumps(dataclasses.asdict(zoo.card(name)), indent=2, ensure_ascii=False))


def _list() -> None:
    click.echo(f"{'name':24}{'data set':12}{'network':18}{'precision':11}{'accuracy':>9}  made")
    for each in zoo.cards():
        accuracy = "?" if each.test_accuracy is None else f"{each.test_accuracy:.2f} %"
        click.echo(
            f"{each.name:24}{_short(each.dataset, 11):12}{_short(each.architecture, 17):18}{each.precision:11}{accuracy:>9}"
            f"  {each.date}"
        )
    for problem in zoo.problems():
        click.echo(str(problem), err=True)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
