"""Who works on a run and where it stands: `status.json`, rewritten by the worker alone, read by anybody.

Its time of change is the worker's heartbeat. Whether a worker of this machine is alive is asked of the system, by
process number and start time, because a number alone may meanwhile be somebody else's.
"""

import dataclasses
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from dcp_core.files import write_atomic
from dcp_core.runs.folder import STATUS

SILENCE = 30.0  # seconds without a heartbeat after which a worker on another machine counts as lost
SAME_START = 2.0  # seconds by which the start of one process may seem to move when the clock is set

Sitting = Literal["running", "stopping", "interrupted", "failed", "done"]


@dataclass(frozen=True)
class Status:
    """What a worker says of its sitting. Times are seconds since 1970.

    Args:
        state: "running" and "stopping" hold while the worker lives; the others are its last word.
        began: start of the sitting; `work_began`: of its first event (after loading), where the work stood at
            `work_from`.
        fraction: of the whole work, 0 to 1.
        message: one sentence on why the run was interrupted or failed.
    """

    state: Sitting = "running"
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
        """Of this process, which starts on a run now."""
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
        """The folder's status, None if there is none.

        Raises:
            ValueError: for a file that is not a status.
        """
        path = folder / STATUS
        if not path.exists():
            return None
        given = json.loads(path.read_text("utf-8"))
        if not isinstance(given, dict):
            raise ValueError(f"{path} is not a status")
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            value, wanted = given.get(field.name, field.default), type(field.default)
            if not isinstance(value, (int, float) if wanted is float else wanted):
                raise ValueError(f"{path}: {field.name} is {value!r}")
            fields[field.name] = value
        return cls(**fields)

    def process(self) -> psutil.Process | None:
        """The worker's process if it lives on this machine and is surely the one that wrote this."""
        if self.host != socket.gethostname():
            return None
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.process_began) < SAME_START
            # A killed process is a zombie at once, but its last thread to go takes the locks along.
            gone = found.status() == psutil.STATUS_ZOMBIE and found.num_threads() <= 1
            return found if same and not gone else None
        except (psutil.Error, ValueError):
            return None

    def alive(self, folder: Path) -> bool:
        """Whether somebody works on the run in this folder."""
        if self.state not in ("running", "stopping"):
            return False
        if self.host == socket.gethostname():
            return self.process() is not None
        return silence(folder) < SILENCE


def silence(folder: Path) -> float:
    """Seconds since the last heartbeat; infinite where there was none."""
    try:
        return max(0.0, time.time() - (folder / STATUS).stat().st_mtime)
    except OSError:
        return float("inf")


def beat(folder: Path) -> None:
    """Say that the worker lives."""
    os.utime(folder / STATUS)
