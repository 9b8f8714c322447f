"""An audit as a process of its own, for pages: it continues when the page is closed."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from dcp_core.audit.report import PAGE
from dcp_core.audit.request import AuditError, Request, folder_of
from dcp_core.files import read_regular
from dcp_core.runs.launch import PACKAGE_ROOT, check_allowed
from dcp_core.runs.status import Status

LOG = "audit.log"
TAIL = 2000  # characters at the end of the log that are read


@dataclass(frozen=True)
class Audit:
    """The state of a victim's audit.

    Args:
        running: whether a process works on it.
        fraction: share of its time or its runs, 0 to 1.
        words: progress, as a text.
        message: the last line of the log, if an audit that a page started has ended with an error; otherwise empty.
        report: the latest report; None if there is none.
    """

    running: bool
    fraction: float = 0.0
    words: str = ""
    message: str = ""
    report: Path | None = None


def audit_of(victim: str) -> Audit:
    """The state of a victim's audit; raises no error."""
    folder = folder_of(victim)
    report = folder / PAGE if (folder / PAGE).exists() else None
    try:
        status = Status.read(folder)
    except (OSError, ValueError):
        status = None
    if status is not None and status.alive(folder):
        return Audit(True, status.fraction, status.phase, report=report)
    return Audit(False, message=_last_error(folder), report=report)


def start(request: Request, hours: float) -> None:
    """Start the command `audit` for this request as a process of its own.

    Raises:
        AuditError: if an audit of the victim is running, or a pool does not fit.
        StoreError: if runs may not be started.
        ValueError: for a pool that cannot be read.
        OSError: if its log cannot be written.
    """
    check_allowed()
    if audit_of(request.victim).running:
        raise AuditError(f"an audit of {request.victim} is running already")
    request.check_pools()
    request.folder.mkdir(parents=True, exist_ok=True)
    words = [*request.words, "--hours", f"{hours:g}"]
    paths = [str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with (request.folder / LOG).open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "dcp_core", "audit", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # Until it writes its own status, which takes seconds: a second click must not start a second one.
    Status(
        pid=child.pid,
        process_began=psutil.Process(child.pid).create_time(),
        host=socket.gethostname(),
        phase="starting",
    ).write(request.folder)


def stop(victim: str) -> None:
    """Ask the process to stop its runs and to write the report. Does nothing if none is running."""
    try:
        status = Status.read(folder_of(victim))
        process = status.process() if status is not None else None
        if process is not None:
            process.send_signal(signal.SIGINT)
    except (OSError, ValueError):
        return


def _last_error(folder: Path) -> str:
    try:
        lines = read_regular(folder / LOG).decode("utf-8", "replace")[-TAIL:].splitlines()
    except OSError:
        return ""
    errors = [line for line in lines if line.startswith(("Error: ", "stopped"))]
    return errors[-1] if errors else ""
