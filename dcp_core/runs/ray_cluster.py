"""Run many specs on a Ray cluster.

The nodes need this package, its requirements, and the victims and data sets in their `DCP_HOME`. They need no shared disk.

A run works in a folder on its node and sends changed files about once a second. The driver (this process) writes them to
the run's folder on this machine, where the pages read them. If a node is lost, the run restarts on another node from the
checkpoint that was received last. The driver holds the folder's lock, so that it is the only writer. A run on which
another process works is skipped.
"""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from dcp_core import checkpoints
from dcp_core.files import write_atomic
from dcp_core.runs import store
from dcp_core.runs.folder import LOCK, QUEUED, SPEC, STATES, STATUS, STOP, claim, folder_of, result, shared
from dcp_core.runs.journal import add_to_results, record, sentence
from dcp_core.runs.locks import take
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.status import Status

SEND_EVERY = 1.0  # seconds between two parcels (changed files) of a run
CHECKPOINT_EVERY = 10.0  # seconds between checkpoints: a lost node loses at most this much work
POLL = 0.5  # seconds that the driver waits for parcels before it looks for requests to stop

Parcel = dict[str, bytes]


@dataclass
class _Job:
    """A run on the cluster: its folder on this machine, the folder's lock, its parcels, and how often its node was lost."""

    spec: RunSpec
    folder: Path
    lock: int
    parcels: Any
    lost: int = 0


def run_on_cluster(
    specs: list[RunSpec], address: str, *, retries: int = 3, say: Callable[[str], object] = print
) -> None:
    """Run all specs that are not done on a Ray cluster; returns when all have ended.

    Args:
        address: address of the cluster, "auto" or "HOST:PORT".
        retries: how often a run may lose its node before it counts as failed.
        say: called with a sentence on each change of a run.

    Raises:
        ValueError: if there is no cluster at the address, or no disk space for more runs.
    """
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ValueError(f"no Ray cluster answers at {address}: {error}") from error
    store.check_room()
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0, num_returns="streaming")(work)
    answers = ray.put(_read_all(shared()))

    def send(spec: RunSpec, folder: Path) -> Any:
        files = {name: content for name, content in _read_all(folder).items() if name not in (SPEC, LOCK, STATUS)}
        return task.remote(spec.to_json(), files, answers)

    jobs: list[_Job] = []
    for spec in specs:
        folder = folder_of(spec)
        claim(spec, folder)
        held = take(folder / LOCK)
        if held is None or result(folder) is not None:
            say(f"{spec.key}: {'done' if held is not None else 'another process works on it'}")
            if held is not None:
                os.close(held)
            continue
        for name in (QUEUED, STOP):
            (folder / name).unlink(missing_ok=True)
        jobs.append(_Job(spec, folder, held, send(spec, folder)))
    while jobs:
        ready, _ = ray.wait([job.parcels for job in jobs], num_returns=1, timeout=POLL, fetch_local=True)
        for job in [job for job in jobs if job.parcels in ready]:
            try:
                over = _receive(job)
            except RayTaskError as error:  # an error of the run itself: a retry would fail again
                over = True
                _write_end(job.folder, "failed", sentence(error.cause))
            except RayError as error:
                job.lost += 1
                say(f"{job.spec.key}: its node was lost ({type(error).__name__}), {job.lost} of {retries} retries")
                over = job.lost > retries
                if over:
                    _write_end(job.folder, "failed", f"its node was lost {job.lost} times")
                else:
                    job.parcels = send(job.spec, job.folder)
            if over:
                jobs.remove(job)
                _finish(job, say)
        for job in [job for job in jobs if (job.folder / STOP).exists()]:
            ray.cancel(job.parcels, force=True)
            _write_end(job.folder, "interrupted", "stopped on request")
            jobs.remove(job)
            _finish(job, say)


def work(text: str, files: Parcel, answers: Parcel) -> Iterator[Parcel]:
    """On a node: run or resume a spec; yields the changed files of its folder.

    Args:
        text: the spec as JSON.
        files: contents of the files in the run's folder, by their names.
        answers: files of stored answers that several runs use, see `shared_answers.py`.
    """
    torch.set_num_threads(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
    for name, content in answers.items():
        path = shared() / name
        if not path.exists():
            _write(path, content)
    with tempfile.TemporaryDirectory(prefix="dcp-run-") as place:
        folder, sent, last = Path(place), dict[str, int](), time.monotonic()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        try:
            for _ in record(RunSpec.from_json(text), folder, save_every=CHECKPOINT_EVERY, publish=False):
                if time.monotonic() - last > SEND_EVERY:
                    yield _changed(folder, sent)
                    last = time.monotonic()
        except Exception as error:  # the error is in the status, which is sent below
            print(error)
        yield _changed(folder, sent)


def _changed(folder: Path, sent: dict[str, int]) -> Parcel:
    """Files that are new or have changed since they were sent."""
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    names = [name for name, stamp in sorted(stamps.items()) if sent.get(name) != stamp and _travels(name)]
    sent.update(stamps)
    return {name: (folder / name).read_bytes() for name in names}


def _travels(name: str) -> bool:
    return not name.startswith(".") and name not in (LOCK, SPEC, STOP, QUEUED)


def _read_all(folder: Path) -> Parcel:
    """All files of a folder; empty if the folder does not exist."""
    if not folder.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and _travels(path.name)}


def _receive(job: _Job) -> bool:
    """Write the files that a run has sent. Returns True if the run has ended.

    Raises:
        RayError: if the node is lost.
    """
    try:
        parcel: Parcel = ray.get(next(job.parcels))
    except StopIteration:
        return True
    except TaskCancelledError:
        return True
    for (
        name,
        content,
    ) in parcel.items():  # sorted by name: the clone is written before result.json, which marks the run as done
        _write(job.folder / name, content)
    return False


def _finish(job: _Job, say: Callable[[str], object]) -> None:
    if result(job.folder) is not None:
        for name in STATES:
            checkpoints.remove(job.folder / name)
        add_to_results(job.spec, job.folder)
    os.close(job.lock)
    seen = store.view(job.folder)
    say(f"{job.spec.key}: {seen.state}{f', {seen.message}' if seen.message else ''}")


def _write_end(folder: Path, state: Any, message: str) -> None:
    status = Status.read(folder) or Status()
    dataclasses.replace(status, state=state, message=message).write(folder)
    (folder / STOP).unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    write_atomic(path, lambda file: file.write(content))
