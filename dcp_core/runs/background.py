"""A background worker: `python -m dcp_core.runs.background SLOT THREADS`, started by `launch.start_workers`.

It runs what is in the queue until the queue is empty. All state is in the folders of the runs: if the worker is killed,
the next one resumes its run from there.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from dcp_core.runs import launch
from dcp_core.runs.folder import LOG, spec_in
from dcp_core.runs.journal import record
from dcp_core.runs.locks import give, retake


def work(slot: int) -> None:
    """Run everything in the queue, then release the slot.

    Args:
        slot: descriptor of the slot's file, which the launcher has opened and locked.
    """
    tried: set[tuple[Path, float]] = set()
    while True:
        waiting = [turn for turn in launch.turns() if turn not in tried]
        if waiting:
            tried.add(waiting[0])  # a run whose folder cannot be written is tried only once
            run_one(waiting[0][0])
            continue
        # A run may have been queued after the queue was read and before the slot was released: look once more.
        give(slot)
        if all(turn in tried for turn in launch.turns()) or not retake(slot):
            return


def run_one(folder: Path) -> None:
    """Run or resume the run in a folder. What it prints goes to its log; errors are recorded in its status."""
    try:
        spec = spec_in(folder)
        log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, sys.stdout.fileno())
        os.dup2(log, sys.stderr.fileno())
        os.close(log)
        for _ in record(spec, folder):
            pass
    except Exception as error:  # an error in one run must not stop the queue
        print(f"the run failed: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell starts background processes with SIGINT ignored
    os.nice(5)  # the dashboard has priority
    torch.set_num_threads(int(sys.argv[2]))
    work(int(sys.argv[1]))
