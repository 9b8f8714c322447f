"""A background worker: `python -m dcp_core.runs.background SLOT THREADS`, started by `launch.start_workers`.

Takes runs from the queue until none is left. It owns no state: killed at any moment, it leaves folders from which
the next worker goes on.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from dcp_core.runs import launch
from dcp_core.runs.folder import LOG, SPEC
from dcp_core.runs.journal import record
from dcp_core.runs.locks import give, retake
from dcp_core.runs.spec import read_spec


def work(slot: int) -> None:
    """Work the queue off while the slot (an open, locked file) is ours."""
    tried: set[tuple[Path, float]] = set()
    while True:
        waiting = [turn for turn in launch.turns() if turn not in tried]
        if waiting:
            tried.add(waiting[0])  # a folder that cannot even be written to must not keep us for ever
            sit(waiting[0][0])
            continue
        # A run queued between the last look and the giving back would wait for nobody: hence a second look.
        give(slot)
        if all(turn in tried for turn in launch.turns()) or not retake(slot):
            return


def sit(folder: Path) -> None:
    """One run, everything it prints going to its log; errors are in its status."""
    try:
        spec = read_spec((folder / SPEC).read_text("utf-8"))
        log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, sys.stdout.fileno())
        os.dup2(log, sys.stderr.fileno())
        os.close(log)
        for _ in record(spec, folder):
            pass
    except Exception as error:  # whatever it was, the next run in the queue has not deserved it
        print(f"the run ended: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` leaves it ignored
    os.nice(5)  # the pages go first
    torch.set_num_threads(int(sys.argv[2]))
    work(int(sys.argv[1]))
