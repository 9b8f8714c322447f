"""Run an attack or a measurement of costs in this Python process, as the commands `attack` and `bench` do."""

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
    """Run an attack (`RunSpec`) or a measurement of costs (`BenchSpec`); yields its events.

    The run is recorded in its folder, so pages and commands show it too. Closing the iterator stops the run. Calling `run`
    again resumes a stopped attack, and yields nothing if the run is done.

    Args:
        folder: folder of the run. Default: one below `home()/runs`.
        device: "cpu" or "cuda". Default: a GPU if there is one.

    Raises:
        ValueError: if the folder belongs to another run, if another process works on the run, or if victim, pool and clone
            do not fit together.
    """
    return record(spec, folder or run_folder.folder_of(spec), device=device)


def result(spec: Spec, *, folder: Path | None = None) -> dict[str, Any] | None:
    """The result of a finished run of this machine, or of an included run. None if the run is not done.

    Its entries are described in `runs.folder.result`. `rows` are result rows, as `load_results` returns them.
    """
    return run_folder.result(folder or store.find(spec.key))
