"""`bench`: what every defense costs a victim's owner."""

from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch

from dcp_core.cli.attack import follow
from dcp_core.costs.latency import CLOCKS
from dcp_core.models import zoo
from dcp_core.plots.style import mark_of
from dcp_core.results.rows import keys_in, write_results
from dcp_core.runs.folder import folder_of, result
from dcp_core.runs.journal import add_to_results
from dcp_core.runs.spec import BenchSpec, SpecError


@click.command()
@click.option("--victim", required=True, help="A victim's name; `victims` lists them.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Limit of each of the four sessions: one query and 64 at once, ours and as published.",
)
@click.option(
    "--clock",
    type=click.Choice(list(CLOCKS)),
    default="wall",
    show_default=True,
    help="processor: the time that this process computed, on one CPU thread, for a machine with other work.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of turns; another measurement.")
@click.option("--device", help="Default: a GPU if there is one.")
@click.option(
    "--threads", type=click.IntRange(1), help="CPU threads; all cores without it, one for processor time."
)
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Run folder; default below DCP_HOME/runs.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="CSV file to add the rows to; default below DCP_HOME/results.",
)
def command(
    victim: str,
    seconds: float,
    clock: str,
    seed: int,
    device: str | None,
    threads: int | None,
    folder: Path | None,
    results: Path | None,
) -> None:
    """Measure what every defense costs: latency beside no defense, energy where there is a counter, hidden costs.

    Ctrl-C stops; a measurement that was stopped begins anew. One that is done is not made again: give another seed.

    \b
      python -m dcp_core bench --victim signs-resnet8
    """
    if clock == "processor" and ((device or "cpu") != "cpu" or (threads or 1) > 1):
        raise SpecError(
            "processor time is a latency on a CPU with one thread only: leave out --device and --threads"
        )
    if threads:
        torch.set_num_threads(threads)
    spec = BenchSpec(victim, seconds, clock, seed)
    if not victim.startswith(zoo.TORCHVISION):
        zoo.card(victim)  # an unknown one leaves no run behind
    folder = folder or folder_of(spec)
    if result(folder) is None and not follow(spec, folder, device):
        click.echo("stopped; nothing was measured")
        raise SystemExit(130)
    found = result(folder)
    assert found is not None
    if results is None:
        results = add_to_results(spec, folder)
    elif not results.exists() or spec.key not in keys_in(results):
        write_results(results, pd.DataFrame(found["rows"]), append=True)
    for row in found["rows"]:
        click.echo(_line(row))
    for name, reason in found["missing"].items():
        click.echo(f"{mark_of(name).label}: not measured: {reason}")
    if found["no_energy"]:
        click.echo(f"no energy: {found['no_energy']}")
    if note := found["rows"][0]["reason"]:
        click.echo(f"note: {note}")
    click.echo(f"rows are in {results}")


def _line(row: dict[str, Any]) -> str:
    name = mark_of(row["defense"]).label + (" as published" if row["implementation"] == "literal" else "")
    low, high = row["latency_ratio_low"], row["latency_ratio_high"]
    span = f" ({low:.4g} to {high:.4g})" if low is not None else ""
    energy = f", {row['energy_mj']:.4g} mJ" if "energy_mj" in row else ""
    ratio = f"x{row['latency_ratio']:.4g}{span}"
    return f"{name:22} {row['batch']:>2} at once  {row['latency_ms']:9.4f} ms a query  {ratio}{energy}"
