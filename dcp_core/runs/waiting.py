"""Estimate how long runs will take, in a thread, so that pages do not wait for the measurement."""

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from dcp_core.runs import launch, store
from dcp_core.runs.describe import time_words
from dcp_core.runs.estimate import Estimate, estimate
from dcp_core.runs.spec import RunSpec

_one_at_a_time = ThreadPoolExecutor(1)  # two measurements at once would slow each other down
_measured: dict[str, "Future[Estimate]"] = {}


def timing(spec: RunSpec) -> "Future[Estimate]":
    """The estimate of a run as a future; every run is measured once in a process."""
    if spec.key not in _measured:
        _measured[spec.key] = _one_at_a_time.submit(_measure, spec)
    return _measured[spec.key]


def _measure(spec: RunSpec) -> Estimate:
    torch.set_num_threads(launch.threads())  # applies to this thread only
    return estimate(spec)


def waiting_time(specs: list[RunSpec]) -> str:
    """One sentence on how long these runs take on this machine; says so while it is still being measured."""
    futures = [timing(spec) for spec in specs]
    if not all(future.done() for future in futures):
        return "measuring this machine ..."
    try:
        seconds = [future.result().seconds for future in futures]
    except (ValueError, OSError, RuntimeError) as error:
        return f"time unknown: {error}"
    at_once = min(launch.slots(), len(specs))
    total = max(max(seconds), sum(seconds) / at_once)
    waits = sum(view.active for view in store.views())
    after = f", after the {waits} already running or queued" if waits else ""
    return f"about {time_words(total)} on this machine ({at_once} at once){after}"
