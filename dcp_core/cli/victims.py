"""`victims`: list the victims on this machine."""

import dataclasses
import json

import click

from dcp_core.models import zoo


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the victims on this machine, or print the card of the victim NAME as JSON.

    Every classification model of torchvision is a victim too, under the name torchvision:NAME. Its weights are
    downloaded at the first use.
    """
    if name is not None:
        click.echo(json.dumps(dataclasses.asdict(zoo.card(name)), indent=2, ensure_ascii=False))
        return
    click.echo(f"{'name':24}{'data set':12}{'network':18}{'precision':11}{'accuracy':>9}  made")
    for each in zoo.cards():
        accuracy = "?" if each.test_accuracy is None else f"{each.test_accuracy:.2f} %"
        click.echo(
            f"{each.name:24}{each.dataset:12}{each.architecture:18}{each.precision:11}{accuracy:>9}  {each.date}"
        )
    for problem in zoo.problems():
        click.echo(str(problem), err=True)
