"""How long runs will take, measured beside whoever asks: a page must not wait for it."""

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from dcp_core.runs import launch, store
from dcp_core.runs.describe import time_words
from dcp_core.runs.estimate import Estimate, estimate
from dcp_core.runs.spec import RunSpec

_one_at_a_time = ThreadPoolExecutor(1)  # two would slow each other
_measured: dict[str, "Future[Estimate]"] = {}


def timing(spec: RunSpec) -> "Future[Estimate]":
    """The estimate of a run, measured once in a process."""
    if spec.key not in _measured:
        _measured[spec.key] = _one_at_a_time.submit(_measure, spec)
    return _measured[spec.key]


def _measure(spec: RunSpec) -> Estimate:
    torch.set_num_threads(launch.threads())  # of this thread
    return estimate(spec)


def waiting_time(specs: list[RunSpec]) -> str:
    """How long runs take on this machine, in words, as far as it is known yet."""
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
    after = f", after the {waits} that run or wait" if waits else ""
    return f"about **{time_words(total)}** on this machine ({at_once} at once){after}"
