"""`reproduce`: repeat an experiment from its plan to its result rows, and make all that it needs."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from dcp_core.cli.progress import made
from dcp_core.cli.sweep import watch
from dcp_core.data.datasets import download
from dcp_core.making import MAKERS
from dcp_core.results.rows import MANIFEST, load_results, write_manifest, write_results
from dcp_core.runs import launch, store
from dcp_core.runs.experiment import (
    SCALES,
    Experiment,
    datasets,
    gathered,
    keep_course,
    names,
    read_experiment,
)
from dcp_core.runs.folder import folder_of, result
from dcp_core.runs.shared_answers import share
from dcp_core.runs.spec import RunSpec


@click.command()
@click.argument("plan", required=False)
@click.option(
    "--scale",
    type=click.Choice(SCALES),
    default="cpu",
    show_default=True,
    help="Size of the experiment: cpu for two cores, full as in the paper.",
)
@click.option(
    "--hours",
    type=click.FloatRange(0, min_open=True),
    help="Stop after this time; unfinished runs can be resumed.",
)
@click.option("--anew", is_flag=True, help="Also repeat runs whose results are in precomputed/, for comparison.")
@click.option("--at-once", type=click.IntRange(1), help="Number of attacks at once: 2 on a CPU; try 8 on a GPU.")
@click.option("--into", type=click.Path(path_type=Path, dir_okay=False), help="Also write the rows to this file.")
@click.option(
    "--courses",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also store the curves of the runs in this folder.",
)
@click.option("--list", "only_list", is_flag=True, help="List the runs that are left to do, without running them.")
def command(
    plan: str | None,
    scale: str,
    hours: float | None,
    anew: bool,
    at_once: int | None,
    into: Path | None,
    courses: Path | None,
    only_list: bool,
) -> None:
    """Repeat the experiment PLAN: a name from precomputed/plans, or a file of your own. Without PLAN, list the plans.

    First, missing data sets are downloaded, and missing victims and second networks are trained. The runs then work in
    the background. They appear on the page Attack lab, and their results become result rows. Ctrl-C, `kill` or the
    time limit stops them; the same command resumes them.

    \b
      python -m dcp_core reproduce signs
      python -m dcp_core reproduce table2-cifar10 --scale full --hours 8 --at-once 8
    """
    if plan is None:
        _list_plans()
        return
    experiment = read_experiment(plan)
    if scale not in experiment.scales:
        raise click.UsageError(
            f"{experiment.name} has no scale '{scale}': use --scale {' or '.join(experiment.scales)}"
        )
    specs = experiment.scales[scale]
    todo = _left(specs, anew=anew)
    click.echo(f"{experiment.title}\n{_state(specs, todo)}")
    if only_list:
        for spec in todo:
            click.echo(spec.command)
        return
    if at_once:
        os.environ["DCP_RUNS_AT_ONCE"] = str(at_once)  # also for the worker processes
    in_time = False
    with _ended_by(hours):
        _prepare(experiment, todo)
        share(todo)
        if todo:
            launch.launch(todo)
        in_time = watch(todo)
    if not in_time:
        _stop(todo)
    _report(specs, anew=anew)
    if into is not None:
        _gather(specs, into)
    if courses is not None:
        for spec in specs:
            if result(folder_of(spec)) is not None:
                keep_course(spec, courses)


@contextmanager
def _ended_by(hours: float | None) -> Iterator[None]:
    """Leave the `with` block at the time limit, at Ctrl-C (SIGINT) or at `kill` (SIGTERM).

    SIGINT gets a handler because a shell starts background jobs (`&`) with SIGINT ignored.
    """

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    ends = (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)
    before = {each: signal.signal(each, end) for each in ends}
    signal.setitimer(signal.ITIMER_REAL, hours * 3600 if hours else 0)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for each, handler in before.items():
            signal.signal(each, handler)


def _prepare(experiment: Experiment, todo: list[RunSpec]) -> None:
    """Download the data sets, and make the victims and second networks that the runs need."""
    steps = experiment.missing(todo)
    for name in datasets(todo, steps):
        download(name)
    for step in steps:
        click.echo(f"{step.command} {step.victim}: {', '.join(f'{k} {v}' for k, v in step.options.items())}")
        made(MAKERS[step.command](**step.options))


def _left(specs: list[RunSpec], *, anew: bool) -> list[RunSpec]:
    """The runs without a result on this machine and, unless `anew`, without a row in `precomputed/results`."""
    rows, _ = load_results()
    known = set() if anew else set(rows["key"].dropna())
    return [spec for spec in specs if result(folder_of(spec)) is None and spec.key not in known]


def _state(specs: list[RunSpec], todo: list[RunSpec]) -> str:
    return f"{len(specs)} runs, {len(specs) - len(todo)} of them done, {len(todo)} left"


def _stop(specs: list[RunSpec]) -> None:
    """Stop running and queued runs. Queued ones are stopped first, so that no new run starts."""
    views = [store.view(folder) for spec in specs if (folder := folder_of(spec)).exists()]
    for view in sorted(views, key=lambda view: view.state != "queued"):
        if view.active:
            launch.stop(view.folder)


def _report(specs: list[RunSpec], *, anew: bool) -> None:
    left = _left(specs, anew=anew)
    click.echo(_state(specs, left))
    for spec in left:
        view = store.view(folder_of(spec)) if folder_of(spec).exists() else None
        if view is not None and view.state == "failed":
            click.echo(f"failed: {spec.command}: {view.message}", err=True)
    if left:
        click.echo("the same command continues with them")


def _gather(specs: list[RunSpec], into: Path) -> None:
    rows = gathered(specs, load_results()[0])
    if rows.empty:
        click.echo(f"no run of this plan has a result yet; {into} was not written")
        return
    write_results(into, rows)
    if (into.parent / MANIFEST).exists():
        write_manifest(into.parent)
    click.echo(f"{len(rows)} rows are in {into}")


def _list_plans() -> None:
    for name in names():
        experiment = read_experiment(name)
        click.echo(f"{name}: {experiment.title}")
        for scale, specs in experiment.scales.items():
            click.echo(f"  {scale}: {_state(specs, _left(specs, anew=False))}")
