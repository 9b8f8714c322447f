"""A run from Python, in this process: what the commands `attack` and `bench` do."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

from dcp_core.attacks import Event
from dcp_core.runs import folder as run_folder
from dcp_core.runs import store
from dcp_core.runs.journal import record
from dcp_core.runs.spec import BenchSpec, RunSpec, Spec

__all__ = ["BenchSpec", "RunSpec", "result", "run"]


def run(spec: Spec, *, folder: Path | None = None, device: str | None = None) -> Generator[Event, None, None]:
    """Run an attack (`RunSpec`) or a measurement of costs (`BenchSpec`), yielding its events.

    Everything is kept in the run's folder, where pages and commands see it too. Closing the iterator stops the run; an
    attack goes on where it was when it is run again. One that is done yields nothing.

    Args:
        folder: where the run is kept; below `home()/runs` without it.
        device: where to compute; a GPU if there is one.

    Raises:
        ValueError: for a folder of another run, a run that another process works on, or a victim, pool and clone that do
            not go together.
    """
    return record(spec, folder or run_folder.folder_of(spec), device=device)


def result(spec: Spec, *, folder: Path | None = None) -> dict[str, Any] | None:
    """What a finished run found, on this machine or in what came with the package; None while it is not done.

    See `runs.folder.result` for what it holds; `rows` are result rows, as `load_results` reads them.
    """
    return run_folder.result(folder or store.find(spec.key))
