"""`decide`: which defense to deploy, from what was measured."""

import json

import click

from dcp_core.defenses import make_defense
from dcp_core.results.constraints import L1, L1_DEFAULT, L1_LIMITS, limits
from dcp_core.results.decision import Needs, measured_cases, operating_points, recommended
from dcp_core.results.rows import load_results, thief_points
from dcp_core.runs.spec import defense_command

SHOWN = ["defense", "strength", "gain", "gain_low", "gain_high", "adversary_error", "increase", "l1"]


@click.command()
@click.argument("case", required=False)
@click.option(
    "--increase", type=click.FloatRange(0, 100), default=1.0, show_default=True, help="Points of your own error."
)
@click.option(
    "--l1", type=click.FloatRange(0, 2), default=0.9, show_default=True, help="Mean l1 distance, at most."
)
@click.option(
    "--l1-of",
    type=click.Choice(list(L1_LIMITS)),
    default=L1_DEFAULT,
    show_default=True,
    help="; ".join(f"{column}: {name}" for column, name in L1_LIMITS.items()) + ".",
)
@click.option("--one-file", is_flag=True, help="Victim and defense must fit into one ONNX file, for the edge.")
def command(case: str | None, increase: float, l1: float, l1_of: L1, one_file: bool) -> None:
    """Which defense to deploy against a thief like that of CASE, a part of a measured case's name; without CASE, list them.

    `gain`: what a defense adds to the thief's error, percentage points, with its 95 % interval over seeds.

    \b
      python -m dcp_core decide
      python -m dcp_core decide gtsrb-resnet20 --l1 0.2
    """
    known = measured_cases(thief_points(load_results()[0]))
    found = [name for name in known if case is None or case in name]
    if case is None or len(found) != 1:
        click.echo("\n".join(found or known))
        if case is not None:
            raise click.UsageError(
                f"{len(found) or 'no'} cases have '{case}' in their names: say more of one of these"
            )
        return
    table = operating_points(known[found[0]], Needs(increase, l1, one_file, l1_of))
    inside = table[table["gain"].notna()]
    click.echo(f"{found[0]}; {limits([increase], l1, l1_of)}")
    click.echo(
        inside[SHOWN].round(2).to_string(index=False)
        if len(inside)
        else "no defense has a point within the limits"
    )
    for row in table[table["gain"].isna()].itertuples():
        click.echo(f"{row.defense}: {row.why_not}")
    best = recommended(table)
    if best is None:
        click.echo("deploy none of them: none adds more than the seeds alone would")
    else:
        made = make_defense(best["defense"], **json.loads(best["parameters"]))
        click.echo(f"deploy: {defense_command('serve', best['victim'], made)}")
