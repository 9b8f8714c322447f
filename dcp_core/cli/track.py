"""`track`: mirror runs to an experiment tracker."""

import time

import click

from dcp_core.runs import store
from dcp_core.runs.tracking import Mirror

EVERY = 5.0  # seconds between two updates


@click.command()
@click.argument("keys", nargs=-1, metavar="[RUN]...")
@click.option("--uri", help="Address of the MLflow server. Default: MLflow's own settings (MLFLOW_TRACKING_URI).")
@click.option(
    "--follow", is_flag=True, help="Continue until all these runs have ended. Ctrl-C stops the mirror only."
)
def command(keys: tuple[str, ...], uri: str | None, follow: bool) -> None:
    """Mirror runs to MLflow: parameters, curves, results and clones. RUN is the key of a run; without it, all runs.

    \b
      dcp track --uri http://localhost:5000
      dcp track 08695fabf12a --follow

    For a run that was mirrored before, only new data are sent. Needs the package mlflow-skinny (the extra `mlflow`).
    """
    wanted = [store.view(store.find(key)) for key in keys]
    if missing := [view.key for view in wanted if view.spec is None]:
        raise click.UsageError(f"there is no readable run {missing[0]}: the page Attack lab lists the runs")
    mirror = Mirror(uri)
    folders = [view.folder for view in wanted or store.views()]
    left = folders
    while left:
        left = [folder for folder in left if not mirror.update(store.view(folder))]  # type: ignore[arg-type]
        click.echo(f"{len(folders) - len(left)} of {len(folders)} runs mirrored as far as they are, and ended")
        if not follow:
            break
        time.sleep(EVERY if left else 0)
