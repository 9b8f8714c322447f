"""Start runs in the background: a queue of folders, and detached worker processes.

A queued run is a folder with a file `queued`. Each worker holds the lock of one slot. The launcher locks a free slot and
passes the lock to the process that it starts, so there are never more workers than slots. No server is needed: a worker
that has finished a run takes the next one from the queue.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from dcp_core.files import read_object, write_atomic
from dcp_core.runs import store
from dcp_core.runs.folder import QUEUED, STOP, claim, folder_of, result, root, slot
from dcp_core.runs.locks import take
from dcp_core.runs.spec import Spec
from dcp_core.runs.status import Status

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
SAVING = 20.0  # seconds that a worker has to save its state after it has noticed a request to stop
MARK_BYTES = 1000  # a larger file `queued` is not this program's
OFF = "This server starts no attacks, measurements or audits (DCP_LAUNCH=0). Its stored results can be viewed."
POLITE = 1.0  # seconds that a worker has to notice a request to stop


def cores() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slots() -> int:
    """Number of runs that work at the same time: `DCP_RUNS_AT_ONCE`, by default 2, or 1 on a single core.

    Raises:
        StoreError: if `DCP_RUNS_AT_ONCE` is not a positive whole number.
    """
    given = os.environ.get("DCP_RUNS_AT_ONCE", str(min(2, cores())))
    if not given.isdecimal() or int(given) < 1:
        raise store.StoreError(f"DCP_RUNS_AT_ONCE must be a whole number of at least 1, not {given!r}")
    return int(given)


def threads() -> int:
    """Threads of one worker: the cores divided by the slots. More threads than cores would be many times slower."""
    return max(1, cores() // slots())


def allowed() -> bool:
    """Whether runs may be started: not if `DCP_LAUNCH` is 0, as on a public server."""
    return os.environ.get("DCP_LAUNCH", "1") != "0"


def check_allowed() -> None:
    """Check that runs may be started.

    Raises:
        StoreError: if not.
    """
    if not allowed():
        raise store.StoreError(OFF)


def launch(specs: Iterable[Spec]) -> list[Path]:
    """Queue runs and start workers for them. Runs that are done, running or queued are not changed.

    Returns:
        the folder of each run, without duplicates.

    Raises:
        ValueError: if runs may not be started or use too much disk space, or a folder belongs to another run.
    """
    specs = list({spec.key: spec for spec in specs}.values())
    folders = [folder_of(spec) for spec in specs]
    todo = []
    for spec, folder in zip(specs, folders, strict=True):
        if result(folder) is None and not (folder.exists() and store.view(folder).active):
            todo.append((spec, folder))
    if todo:
        check_allowed()
        store.check_room()
    for spec, folder in todo:
        try:
            claim(spec, folder)
            (folder / STOP).unlink(missing_ok=True)
            place = json.dumps({"since": time.time_ns()})
            write_atomic(folder / QUEUED, lambda file, place=place: file.write(place.encode()))  # type: ignore[misc]
        except OSError as error:
            raise store.StoreError(f"the run could not be written to {folder}: {error.strerror}") from error
    start_workers()
    return folders


def turns() -> list[tuple[Path, float]]:
    """The queue: folders of waiting runs and when they were queued (nanoseconds since 1970), the earliest first."""

    def since(mark: Path) -> float:
        try:
            return float(read_object(mark, MARK_BYTES)["since"])
        except (OSError, ValueError, TypeError, KeyError, OverflowError):
            return float("inf")

    marks = [(mark.parent, since(mark)) for mark in root().glob(f"*/{QUEUED}")]
    return sorted(marks, key=lambda turn: (turn[1], turn[0]))


def start_workers() -> None:
    """Start a worker for each waiting run, as long as there are free slots, and if runs may be started.

    Raises:
        StoreError: if a slot cannot be locked because of a disk error.
    """
    waiting = len(turns()) if allowed() else 0
    for number in range(slots()):
        if not waiting:
            return
        try:
            held = take(slot(number))
        except OSError as error:
            raise store.StoreError(f"no worker could be started: {error.strerror}") from error
        if held is None:
            continue
        try:
            _start(held)
        finally:
            os.close(held)  # the worker has its own descriptor and keeps the lock
        waiting -= 1


def _start(slot: int) -> None:
    paths = [str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(threads())}
    command = [sys.executable, "-m", "dcp_core.runs.background", str(slot), str(threads())]
    quiet = subprocess.DEVNULL
    subprocess.Popen(
        command, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, pass_fds=(slot,)
    )


def request_stop(folder: Path) -> None:
    """Remove a run from the queue, or ask its worker to stop; does not wait.

    Raises:
        StoreError: for a disk error.
    """
    try:
        if (folder / QUEUED).exists():
            (folder / QUEUED).unlink(missing_ok=True)
        if store.view(folder).active:
            (folder / STOP).touch()
    except OSError as error:
        raise store.StoreError(f"run {folder.name} could not be asked to stop: {error.strerror}") from error


def stop(folder: Path) -> None:
    """Stop a run: request it, and end its worker's process if the worker does not react within a second.

    A worker that is saving its state has 20 seconds. The process is ended only if it is certain that it wrote the status.
    The last checkpoint is kept.

    Raises:
        StoreError: if the request cannot be written and there is no process to end.
    """
    refused = None
    try:
        request_stop(folder)
    except store.StoreError as error:
        refused = error
    began = time.monotonic()
    while store.view(folder).active:
        waited = time.monotonic() - began
        try:
            status = Status.read(folder)
        except (OSError, ValueError):
            status = None
        ours = status is not None and status.state in (
            "running",
            "stopping",
        )  # in any other state, the process already works on the next run
        process = status.process() if status is not None and ours else None
        saving = status is not None and status.state == "stopping"
        if waited > (SAVING if saving else POLITE) or refused:
            if process is not None:
                _end(process)
                start_workers()  # for the runs still in the queue
            elif refused is not None:
                raise refused
            return
        time.sleep(0.05)


def _end(process: psutil.Process) -> None:
    """End a worker's process. psutil checks that the process number was not reused."""
    try:
        process.terminate()
        process.wait(1)
    except psutil.TimeoutExpired:
        process.kill()
        with suppress(psutil.TimeoutExpired):  # on a busy machine the process may end later
            process.wait(10)
    except psutil.NoSuchProcess:
        pass
