"""A measurement of costs as a run, with the same folder, queue, record and stop request as an attack.

An interrupted measurement starts again from the beginning: timings of different sessions are not comparable, because
the load of the machine changes.
"""

import dataclasses
import time
from collections.abc import Generator
from typing import Any

import torch

from dcp_core.attacks import Event
from dcp_core.costs.measure import measure
from dcp_core.runs.spec import BenchSpec

EVENT_EVERY = 0.1  # seconds between two events; recording events more often would slow down the timed work


def run(spec: BenchSpec, device: str) -> Generator[Event, None, dict[str, Any]]:
    """Measure the costs of all defenses for a victim; yields events.

    With the clock "processor", everything runs on the CPU with one thread, also if there is a GPU.

    Returns:
        the content of the run's result: `rows` of the common schema, the reasons why defenses (`missing`, by name) or
        energy (`no_energy`) were not measured, and the number of `queries` answered.

    Raises:
        VictimError: for a victim that cannot be loaded.
    """
    threads = torch.get_num_threads()
    if spec.clock == "processor":
        device = "cpu"
        torch.set_num_threads(1)
    try:
        steps = measure(spec.victim, device=device, seed=spec.seed, seconds=spec.seconds, clock=spec.clock)
        last_event, phase, queries = 0.0, "", 0
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                found = dataclasses.asdict(end.value)
                found["rows"] = [{"where": spec.command, "key": spec.key} | row for row in found["rows"]]
                return found | {"queries": queries}
            queries = step.queries
            if step.phase != phase or time.monotonic() - last_event > EVENT_EVERY:
                last_event, phase = time.monotonic(), step.phase
                yield Event(step.phase, step.fraction, queries)
    finally:
        torch.set_num_threads(threads)
