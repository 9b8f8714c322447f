"""`decide`: which defense to deploy, from what was measured."""

import click

from dcp_core.results.constraints import L1, L1_DEFAULT, L1_LIMITS, limits
from dcp_core.results.decision import Needs, measured_cases
from dcp_core.results.rows import load_results, thief_points
from dcp_core.results.verdict import KEPT, SCALE, Verdict, decide
from dcp_core.runs.spec import defense_command

SHOWN = ["defense", "strength", "gain", "gain_low", "gain_high", "best_error", "kept", "level", "increase"]
SHOWN += ["l1_queries", "l1"]


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
@click.option("--label-only", is_flag=True, help="Customers need the top class alone, no probabilities.")
def command(case: str | None, increase: float, l1: float, l1_of: L1, one_file: bool, label_only: bool) -> None:
    """Which defense to deploy against a thief like that of CASE, a part of a measured case's name; without CASE, list them.

    `gain`: what a defense adds to the thief's error, percentage points, with its 95 % interval, paired by seed;
    `best_error` and `kept`: of the best measured thief behind it.

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
    needs = Needs(increase, l1, one_file, l1_of, label_only)
    verdict = decide(known[found[0]], needs)
    click.echo(f"{found[0]}\n\n{verdict.headline}")
    click.echo("".join(f"- {line}\n" for line in verdict.why))
    _show_table(verdict, limits([increase], l1, l1_of))
    if verdict.not_stopped:
        click.echo("What it will not stop:\n" + "".join(f"- {line}\n" for line in verdict.not_stopped))
    if verdict.defense:
        victim = str(known[found[0]]["victim"].iloc[0])
        click.echo(f"deploy: {defense_command('serve', victim, verdict.defense)}")


def _show_table(verdict: Verdict, within: str) -> None:
    """What each defense gains within the limits, what the levels mean, and why a defense has no point."""
    if verdict.table.empty:
        return
    inside = verdict.table[verdict.table["gain"].notna()]
    if len(inside):
        click.echo(f"{within}:\n{inside[SHOWN].round(2).to_string(index=False)}")
    for row in verdict.table[verdict.table["gain"].isna()].itertuples():
        click.echo(f"{row.defense}: {row.why_not}")
    click.echo("\n" + "; ".join(f"{level}: {meaning}" for level, meaning in SCALE.items()) + f".\n{KEPT}\n")
