"""A measurement of costs as a run: the same folder, queue, record and stop as an attack's.

It is not resumed half-way: what was timed before an interruption was timed on another machine's mood.
"""

import dataclasses
from collections.abc import Generator
from typing import Any

from dcp_core.attacks import Event
from dcp_core.evaluation.costs import measure
from dcp_core.runs.spec import BenchSpec


def run(spec: BenchSpec, device: str) -> Generator[Event, None, dict[str, Any]]:
    """Measure; yields events and returns what `result` gives: `rows` of the common schema, why a defense (`missing`)
    or all energy (`no_energy`) was not measured, and `queries` answered.

    Raises:
        VictimError: for a victim that cannot be loaded.
    """
    steps, queries = measure(spec.victim, device=device, seed=spec.seed, seconds=spec.seconds, clock=spec.clock), 0
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            found = dataclasses.asdict(end.value)
            found["rows"] = [{"where": spec.command} | row for row in found["rows"]]
            return found | {"queries": queries}
        queries = step.queries
        yield Event(step.phase, step.fraction, queries)
