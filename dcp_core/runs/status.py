"""The status of a run: which worker works on it, and its progress.

Only the worker writes `status.json`; the file's modification time is its heartbeat. Whether a worker on this machine is
alive is decided by its process number and start time, because a number alone may have been reused.
"""

import dataclasses
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from dcp_core.files import read_object, write_atomic
from dcp_core.runs.folder import STATUS

SILENCE = 30.0  # seconds without a heartbeat after which a worker on another machine counts as lost
SAME_START = 2.0  # seconds by which the start time of a process may change when the system clock is adjusted
STATUS_BYTES = 100_000  # a larger file is not a status
MOST = 2.0**53  # no number of a status is larger

WorkerState = Literal["running", "stopping", "interrupted", "failed", "done"]


@dataclass(frozen=True)
class Status:
    """The status of one session: the work of one worker on a run, until it is done, stopped or fails.

    Times are seconds since 1970.

    Args:
        state: "running" and "stopping" are true only while the worker is alive; the other states are final.
        pid, process_began, host: process number, start time and machine of the worker.
        threads, device: with which the worker computes.
        began: start of the session.
        work_began: time of the first event, after loading.
        work_from: share of the work that was done at the first event, 0 to 1; above 0 in a resumed run.
        fraction: share of the work that is done, 0 to 1.
        message: one sentence on why the run was interrupted or failed.
    """

    state: WorkerState = "running"
    pid: int = 0
    process_began: float = 0.0
    host: str = ""
    threads: int = 1
    device: str = "cpu"
    began: float = 0.0
    work_began: float = 0.0
    work_from: float = 0.0
    phase: str = "loading"
    fraction: float = 0.0
    queries: int = 0
    message: str = ""

    @classmethod
    def here(cls, threads: int, device: str) -> "Status":
        """The status of this process at the start of a session."""
        me = psutil.Process()
        return cls(
            pid=me.pid,
            process_began=me.create_time(),
            host=socket.gethostname(),
            threads=threads,
            device=device,
            began=time.time(),
        )

    def write(self, folder: Path) -> None:
        """Replace the folder's status."""
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
        write_atomic(folder / STATUS, lambda file: file.write(text.encode()))

    @classmethod
    def read(cls, folder: Path) -> "Status | None":
        """Read the status in a folder; None if there is none.

        Raises:
            OSError: for a file that cannot be read.
            ValueError: for a file that is not a status.
        """
        path = folder / STATUS
        if not path.exists():
            return None
        given = read_object(path, STATUS_BYTES)
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            value, wanted = given.get(field.name, field.default), type(field.default)
            if not isinstance(value, (int, float) if wanted is float else wanted):
                raise ValueError(f"{path}: {field.name} is {value!r:.60}")
            if isinstance(value, int | float) and not -MOST < value < MOST:  # also true for NaN
                raise ValueError(f"{path}: {field.name} is not a possible number")
            fields[field.name] = value
        if fields["state"] not in get_args(WorkerState):
            raise ValueError(f"{path}: state is {fields['state']!r:.60}")
        return cls(**fields)

    def process(self) -> psutil.Process | None:
        """The worker's process, if it is alive on this machine and certainly the one that wrote this status."""
        if self.host != socket.gethostname():
            return None
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.process_began) < SAME_START
            # A killed process becomes a zombie at once, but its locks are held until its last thread has ended.
            gone = found.status() == psutil.STATUS_ZOMBIE and found.num_threads() <= 1
            return found if same and not gone else None
        except (psutil.Error, ValueError):
            return None

    def alive(self, folder: Path) -> bool:
        """Whether a worker works on the run in this folder."""
        if self.state not in ("running", "stopping"):
            return False
        if self.host == socket.gethostname():
            return self.process() is not None
        return silence(folder) < SILENCE


def silence(folder: Path) -> float:
    """Seconds since the last heartbeat; infinite if there was none."""
    try:
        return max(0.0, time.time() - (folder / STATUS).stat().st_mtime)
    except OSError:
        return float("inf")


def beat(folder: Path) -> None:
    """Give a heartbeat: set the modification time of the status to now."""
    os.utime(folder / STATUS)
