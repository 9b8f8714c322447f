"""`attack`: steal a defended victim, and measure the clone."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import click
import pandas as pd
import torch

from dcp_core.attacks import ATTACKS
from dcp_core.attacks.base import Event
from dcp_core.cli.options import attack_options, defense_options
from dcp_core.cli.progress import progress_bar
from dcp_core.defenses import DEFENSES
from dcp_core.models.architectures import CLONES
from dcp_core.results.rows import keys_in, write_results
from dcp_core.runs.folder import folder_of, result
from dcp_core.runs.journal import add_to_results, record
from dcp_core.runs.spec import RunSpec, Spec


@click.command()
@click.option("--victim", required=True, help="A victim's name; `victims` lists them.")
@attack_options
@defense_options
@click.option(
    "--budget",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Query budget: largest number of pictures that the thief may send.",
)
@click.option(
    "--pool",
    help="Data set from which the thief takes the queries, for attacks that need one: signs_pool, textures, a path, ...",
)
@click.option(
    "--clone",
    type=click.Choice(CLONES),
    help="Network that the thief trains. Default: the usual one of the attack.",
)
@click.option(
    "--clone-size",
    type=click.IntRange(0),
    default=0,
    help="Side in pixels of the pictures that the clone sees; the victim still sees its own size. Default: the victim's, at "
    "most 64.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the attack's random numbers.")
@click.option("--device", help="Default: a GPU if there is one.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads. Default: all cores.")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Run folder. Default: one in DCP_HOME/runs.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="CSV file that gets the result. Default: one in DCP_HOME/results.",
)
def command(
    victim: str,
    attack: str,
    defense: str,
    budget: int,
    pool: str | None,
    clone: str | None,
    clone_size: int,
    seed: int,
    device: str | None,
    threads: int | None,
    folder: Path | None,
    results: Path | None,
    **options: Any,
) -> None:
    """Steal a victim through its defense, and measure the clone on the victim's test set.

    Ctrl-C saves the state and stops. The same command resumes, and the final clone is the same as without the
    interruption. Pressing Ctrl-C twice stops immediately. A finished attack is not repeated.

    \b
      python -m dcp_core attack --victim signs-resnet8 --pool signs_pool --defense none
      python -m dcp_core attack --victim signs-resnet8 --pool textures --defense dcp --beta 0.9 --treatment top-1
      python -m dcp_core attack --victim signs-resnet8 --attack dfme --defense none --budget 500000 --width 32
    """
    if threads:
        torch.set_num_threads(threads)
    given = {key: value for key, value in options.items() if value is not None}
    of_attack = {key for kind in ATTACKS.values() for key in kind.parameters()}
    spec = RunSpec(
        victim=victim,
        attack=attack,
        attack_parameters={key: value for key, value in given.items() if key in of_attack},
        defense=defense,
        defense_parameters={key: value for key, value in given.items() if key not in of_attack},
        budget=budget,
        pool=pool,
        clone=clone or "",
        seed=seed,
        clone_size=clone_size,
    )
    folder = folder or folder_of(spec)
    if result(folder) is None and not follow(spec, folder, device):
        click.echo(f"stopped; the same command resumes the run in {folder}")
        raise SystemExit(130)
    _report(spec, folder, results)


def follow(spec: Spec, folder: Path, device: str | None) -> bool:
    """Run a spec under a progress bar. Returns False if it was stopped before its end.

    Ctrl-C only sets a flag, because the state can be saved only between two steps.
    """
    asked_to_stop = False

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked_to_stop
        if asked_to_stop:
            raise KeyboardInterrupt
        asked_to_stop = True

    before = signal.signal(signal.SIGINT, ask_to_stop)
    events = record(spec, folder, device=device, publish=False)
    try:
        with progress_bar() as show:
            for event in events:
                show(event.fraction, _words(event))
                if asked_to_stop and event.fraction < 1:
                    events.close()
                    return False
        return result(folder) is not None  # None: another process stopped the run
    finally:
        signal.signal(signal.SIGINT, before)


def _words(event: Event) -> str:
    words = [event.phase, f"{event.queries:,} queries"]
    words += [f"{name} loss {value:.3f}" for name, value in event.losses.items()]
    if event.scores is not None:
        words.append(f"clone error {event.scores.error:.1f} %")
    return ", ".join(words)


def _report(spec: RunSpec, folder: Path, shared: Path | None) -> None:
    found = result(folder)
    assert found is not None
    row = found["rows"][0]
    if shared is None:
        path = add_to_results(spec, folder)
    else:
        path = shared
        if not path.exists() or spec.key not in keys_in(path):
            write_results(path, pd.DataFrame([row]), append=True)
    click.echo(
        f"victim    {spec.victim}: {row['victim_error']:.2f} % error, {row['defender_error']:.2f} % defended"
    )
    title = DEFENSES[spec.defense].title
    click.echo(
        f"defense   {title}: mean l1 {row['l1']:.3f} on the test set, {row['l1_queries']:.3f} on the queries"
    )
    stolen = f"{row['adversary_error']:.2f} % error, {row['fidelity']:.2f} % fidelity"
    click.echo(f"clone     {stolen} after {found['queries']:,} queries")
    if found["transfer_rate"] is not None:
        click.echo(f"transfer  {found['transfer_rate']:.1f} % of the clone's adversarial pictures fool the victim")
    click.echo(f"the result row is in {path}")
