"""`bench`: measure the cost of every defense."""

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
    help="Time limit of each of the four parts: one query and 64 queries at once, with this project's code and with the "
    "published code.",
)
@click.option(
    "--clock",
    type=click.Choice(list(CLOCKS)),
    default="wall",
    show_default=True,
    help="wall: elapsed time. processor: time for which this process computed, on one CPU thread; use it if other "
    "programs run on this machine.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of the order in which defenses are timed. Another seed makes another measurement.",
)
@click.option("--device", help="Default: a GPU if there is one.")
@click.option(
    "--threads", type=click.IntRange(1), help="CPU threads. Default: all cores; one with --clock processor."
)
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Run folder. Default: one in DCP_HOME/runs.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="CSV file that gets the rows. Default: one in DCP_HOME/results.",
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
    """Measure the cost of every defense: latency relative to no defense, energy if the machine has a counter, memory, and
    second networks.

    Ctrl-C stops. A stopped measurement starts from its beginning. A finished one is not repeated; choose another seed to
    measure again.

    \b
      python -m dcp_core bench --victim signs-resnet8
    """
    if clock == "processor" and ((device or "cpu") != "cpu" or (threads or 1) > 1):
        raise SpecError(
            "--clock processor measures on one CPU thread: leave out --device and --threads, or use --clock wall"
        )
    if threads:
        torch.set_num_threads(threads)
    spec = BenchSpec(victim, seconds, clock, seed)
    if not victim.startswith(zoo.TORCHVISION):
        zoo.card(victim)  # raises for an unknown victim, before a run folder is made
    folder = folder or folder_of(spec)
    if result(folder) is None and not follow(spec, folder, device):
        click.echo("stopped; no measurement was stored. The same command measures from the beginning")
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
        click.echo(f"energy was not measured: {found['no_energy']}")
    if note := found["rows"][0]["reason"]:
        click.echo(f"note: {note}")
    click.echo(f"the result rows are in {results}")


def _line(row: dict[str, Any]) -> str:
    name = mark_of(row["defense"]).label + (" as published" if row["implementation"] == "literal" else "")
    low, high = row["latency_ratio_low"], row["latency_ratio_high"]
    span = f" ({low:.4g} to {high:.4g})" if low is not None else ""
    energy = f", {row['energy_mj']:.4g} mJ" if "energy_mj" in row else ""
    ratio = f"x{row['latency_ratio']:.4g}{span}"
    return f"{name:22} {row['batch']:>2} at once  {row['latency_ms']:9.4f} ms a query  {ratio}{energy}"
