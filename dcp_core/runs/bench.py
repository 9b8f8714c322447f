"""A measurement of costs as a run: the same folder, queue, record and stop as an attack's.

It is not resumed half-way: what was timed before an interruption was timed on another machine's mood.
"""

import dataclasses
import time
from collections.abc import Generator
from typing import Any

import torch

from dcp_core.attacks import Event
from dcp_core.costs.measure import measure
from dcp_core.runs.spec import BenchSpec

TELL_EVERY = 0.1  # seconds between two events: writing them down takes from what is timed


def run(spec: BenchSpec, device: str) -> Generator[Event, None, dict[str, Any]]:
    """Measure; yields events and returns what `result` gives: `rows` of the common schema, why a defense (`missing`)
    or all energy (`no_energy`) was not measured, and `queries` answered.

    Processor time is that of a CPU and one thread, whatever else there is.

    Raises:
        VictimError: for a victim that cannot be loaded.
    """
    threads = torch.get_num_threads()
    if spec.clock == "processor":
        device = "cpu"
        torch.set_num_threads(1)
    try:
        steps = measure(spec.victim, device=device, seed=spec.seed, seconds=spec.seconds, clock=spec.clock)
        told, phase, queries = 0.0, "", 0
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                found = dataclasses.asdict(end.value)
                found["rows"] = [{"where": spec.command, "key": spec.key} | row for row in found["rows"]]
                return found | {"queries": queries}
            queries = step.queries
            if step.phase != phase or time.monotonic() - told > TELL_EVERY:
                told, phase = time.monotonic(), step.phase
                yield Event(step.phase, step.fraction, queries)
    finally:
        torch.set_num_threads(threads)
