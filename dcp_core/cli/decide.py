"""`decide`: recommend a defense, from measured results and the owner's limits."""

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
    "--increase",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Largest allowed rise of the error of your own answers, in percentage points.",
)
@click.option(
    "--l1",
    type=click.FloatRange(0, 2),
    default=0.9,
    show_default=True,
    help="Largest allowed mean l1 distance between defended and clean posteriors, 0 to 2.",
)
@click.option(
    "--l1-of",
    type=click.Choice(list(L1_LIMITS)),
    default=L1_DEFAULT,
    show_default=True,
    help="Answers for which the l1 limit holds. "
    + "; ".join(f"{column}: {name}" for column, name in L1_LIMITS.items())
    + ".",
)
@click.option(
    "--one-file", is_flag=True, help="Victim and defense must fit into one ONNX file, for an edge device."
)
@click.option("--label-only", is_flag=True, help="Customers need only the top class, not the probabilities.")
def command(case: str | None, increase: float, l1: float, l1_of: L1, one_file: bool, label_only: bool) -> None:
    """Recommend a defense for the measured case CASE, or none. CASE is a part of the case's name. Without CASE, list the
    cases.

    Columns of the table: `gain` is the rise of the thief's error by the defense, in percentage points, with its 95 %
    interval, paired by seed. `best_error` is the lowest error of a measured clone against the defense, and `kept` is what
    this clone keeps of the model.

    \b
      python -m dcp_core decide
      python -m dcp_core decide gtsrb-resnet20 --l1 0.2
    """
    known = measured_cases(thief_points(load_results()[0]))
    found = [case] if case in known else [name for name in known if case is None or case in name]
    if case is None or len(found) != 1:
        click.echo("\n".join(found or known))
        if case is not None:
            raise click.UsageError(
                f"{len(found) or 'no'} cases have '{case}' in their names: give more of the name of one of these cases"
            )
        return
    needs = Needs(increase, l1, one_file, l1_of, label_only)
    verdict = decide(known[found[0]], needs)
    click.echo(f"{found[0]}\n\n{verdict.headline}")
    if verdict.summary:
        click.echo(verdict.summary)
    click.echo("".join(f"- {line}\n" for line in verdict.why))
    _show_table(verdict, limits([increase], l1, l1_of))
    if verdict.not_stopped:
        click.echo("What it will not stop:\n" + "".join(f"- {line}\n" for line in verdict.not_stopped))
    if verdict.defense:
        victim = str(known[found[0]]["victim"].iloc[0])
        click.echo(f"deploy: {defense_command('serve', victim, verdict.defense)}")


def _show_table(verdict: Verdict, within: str) -> None:
    """Print the table of defenses within the limits, why others have no point there, and the meaning of the levels."""
    if verdict.table.empty:
        return
    inside = verdict.table[verdict.table["gain"].notna()]
    if len(inside):
        click.echo(f"{within}:\n{inside[SHOWN].round(2).to_string(index=False)}")
    for row in verdict.table[verdict.table["gain"].isna()].itertuples():
        click.echo(f"{row.defense}: {row.why_not}")
    click.echo("\n" + "; ".join(f"{level}: {meaning}" for level, meaning in SCALE.items()) + f".\n{KEPT}\n")
