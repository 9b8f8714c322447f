"""Runs in the background: a queue that is nothing but folders, and detached processes that work it off.

A worker holds one of a few slots. The launcher takes a free slot's lock and hands it over to the process it starts,
so there are never more workers than slots, and no server is needed: a worker that ends a run takes the next one.
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

from dcp_core.files import write_atomic
from dcp_core.runs import store
from dcp_core.runs.folder import QUEUED, STOP, claim, folder_of, result, root, slot
from dcp_core.runs.locks import take
from dcp_core.runs.spec import Spec
from dcp_core.runs.status import Status

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
SAVING = 20.0  # seconds a worker that has noticed the request may take to save
POLITE = 1.0  # seconds a worker has to notice


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slots() -> int:
    """Runs that may work at once: `DCP_RUNS_AT_ONCE`, without it two, or one on a single core.

    Raises:
        StoreError: for a setting that is no positive whole number.
    """
    given = os.environ.get("DCP_RUNS_AT_ONCE", str(min(2, cores())))
    if not given.isdecimal() or int(given) < 1:
        raise store.StoreError(f"DCP_RUNS_AT_ONCE must be a whole number from 1, not {given!r}")
    return int(given)


def threads() -> int:
    """Threads of one worker: all workers together take the cores. More would be many times slower."""
    return max(1, cores() // slots())


def launch(specs: Iterable[Spec]) -> list[Path]:
    """Queue runs and see that somebody works on them; their folders. Runs done, running or queued are left as they are.

    Raises:
        ValueError: when runs use too much disk, or a folder holds another run.
    """
    specs = list({spec.key: spec for spec in specs}.values())
    folders = [folder_of(spec) for spec in specs]
    todo = []
    for spec, folder in zip(specs, folders, strict=True):
        if result(folder) is None and not (folder.exists() and store.view(folder).active):
            todo.append((spec, folder))
    if todo:
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
    """Folders of the runs that wait and since when (nanoseconds since 1970), the longest waiting first."""

    def since(mark: Path) -> float:
        try:
            return float(json.loads(mark.read_text())["since"])
        except (OSError, ValueError, TypeError, KeyError):
            return float("inf")

    marks = [(mark.parent, since(mark)) for mark in root().glob(f"*/{QUEUED}")]
    return sorted(marks, key=lambda turn: (turn[1], turn[0]))


def start_workers() -> None:
    """Start a worker for each run that waits, as far as there are free slots."""
    waiting = len(turns())
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
            os.close(held)  # the worker has its own copy, and with it the lock
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
    """Ask a run to stop, or take it out of the queue; returns at once.

    Raises:
        StoreError: when the disk refuses.
    """
    try:
        if (folder / QUEUED).exists():
            (folder / QUEUED).unlink(missing_ok=True)
        if store.view(folder).active:
            (folder / STOP).touch()
    except OSError as error:
        raise store.StoreError(f"run {folder.name} could not be asked to stop: {error.strerror}") from error


def stop(folder: Path) -> None:
    """Stop a run: by request, and if its worker does not react within a second, by a signal to its process.

    The process is ended only while it is surely the one that wrote the status; what was saved last remains.

    Raises:
        StoreError: when the disk refuses the request and there is no process to signal.
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
        ours = status is not None and status.state in ("running", "stopping")  # else its worker is at the next run
        process = status.process() if status is not None and ours else None
        saving = status is not None and status.state == "stopping"
        if waited > (SAVING if saving else POLITE) or refused:
            if process is not None:
                _end(process)
                start_workers()  # for what it had still to do
            elif refused is not None:
                raise refused
            return
        time.sleep(0.05)


def _end(process: psutil.Process) -> None:
    """End a process of ours; psutil checks once more that the number has not passed on."""
    try:
        process.terminate()
        process.wait(1)
    except psutil.TimeoutExpired:
        process.kill()
        with suppress(psutil.TimeoutExpired):  # it will go, only a busy machine takes its time
            process.wait(10)
    except psutil.NoSuchProcess:
        pass
