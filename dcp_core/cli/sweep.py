"""`sweep`: run all attacks of a plan, on this machine or on a Ray cluster."""

import time
from pathlib import Path

import click

from dcp_core.cli.options import check_ray
from dcp_core.cli.progress import progress_bar
from dcp_core.runs import launch, store
from dcp_core.runs.describe import name_of
from dcp_core.runs.folder import FolderError, folder_of, result
from dcp_core.runs.plans import read_plan
from dcp_core.runs.shared_answers import share
from dcp_core.runs.spec import RunSpec


@click.command()
@click.argument("plan", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--ray", "address", metavar="ADDRESS", help="Run on a Ray cluster, for example auto or HOST:6379.")
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="How often a run is restarted if its cluster node is lost.",
)
@click.option("--list", "only_list", is_flag=True, help="List the runs that are left to do, without running them.")
def command(plan: Path, address: str | None, retries: int, only_list: bool) -> None:
    """Run all combinations of the lists in PLAN, a TOML file. Finished runs are skipped.

    The runs work in the background and appear on the page Attack lab. Ctrl-C ends this command, but not the runs. The
    same command shows their progress again, and restarts runs that failed or were stopped.

    \b
      victims = ["signs-resnet8"]
      seeds = [0, 1, 2]
      budgets = [2000]
      [[attacks]]
      name = "knockoff"
      pools = ["signs_pool", "textures"]
      [[defenses]]
      name = "none"
      [[defenses]]
      name = "dcp"
      beta = [0.5, 0.9, 1.2]
    """
    specs = read_plan(plan)
    done = {spec.key: _done(spec) for spec in specs}
    todo = [spec for spec in specs if done[spec.key] is False]
    click.echo(f"{len(specs)} runs, {sum(map(bool, done.values()))} of them done")
    if only_list:
        for spec in todo:
            click.echo(spec.command)
        return
    share(todo)
    if address is not None:
        check_ray()
        from dcp_core.runs.ray_cluster import run_on_cluster

        run_on_cluster(todo, address, retries=retries)
    elif todo:
        launch.launch(todo)
        if not watch(todo):
            click.echo("the runs continue in the background; stop them on the page Attack lab")
            return
    _report(specs)


def _done(spec: RunSpec) -> bool | None:
    """Whether a run is done; None for one whose result is damaged, which is then named on standard error."""
    try:
        return result(folder_of(spec)) is not None
    except FolderError as error:
        click.echo(str(error), err=True)
        return None


def watch(specs: list[RunSpec]) -> bool:
    """Show progress until no run is active. Returns False after Ctrl-C."""
    folders = [folder_of(spec) for spec in specs]
    try:
        with progress_bar(len(folders)) as show:
            while True:
                views = [store.view(folder) for folder in folders]
                launch.start_workers()  # replaces workers that were killed
                states = [view.state for view in views]
                done = sum(view.fraction for view in views)
                show(done, f"{states.count('done')} done, {states.count('running')} running")
                if not any(view.active for view in views):
                    return True
                time.sleep(1)
    except KeyboardInterrupt:
        return False


def _report(specs: list[RunSpec]) -> None:
    views = [store.view(folder_of(spec)) for spec in specs]
    click.echo(f"{sum(view.state == 'done' for view in views)} of {len(views)} runs are done")
    lost = [view for view in views if view.state != "done"]
    for view in lost:
        click.echo(f"{view.state}: {name_of(view)}: {view.message}", err=True)
    if lost:
        raise SystemExit(1)
