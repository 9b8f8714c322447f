"""How long an answer takes beside an undefended one, on a machine that is never quite still.

All works take turns, in an order drawn anew for each round, so that whatever else the machine does hits all alike;
ratios are taken within a round. `torch.utils.benchmark` gives the wall clock, which waits for the GPU before it is
read. On a machine with other work of its own, a wall clock measures that work; processor time does not.
"""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.benchmark import timer

CONFIDENCE = 0.95
FEWEST = 6  # values from which an interval for their median exists
FEWEST_P95 = 60  # from which the 95th percentile is more than the largest value
WARM_UP, WARM_SECONDS = 3, 1.0  # untimed calls at most, and seconds after which no further one is made
LOOK_EVERY = 10  # rounds

CLOCKS: dict[str, Callable[[], float]] = {"wall": timer, "processor": time.process_time}

Work = Callable[[], object]
Round = dict[str, float]  # seconds of each work of one round


class Progress(NamedTuple):
    """Share done, 0 to 1, and calls made so far."""

    fraction: float
    calls: int


class Interval(NamedTuple):
    """A median and its interval of `CONFIDENCE`; NaN bounds where there are fewer than `FEWEST` values."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Effort:
    """When a work has been called often enough.

    Args:
        least, most: calls of each work.
        precision: half the width of the ratio's interval that is narrow enough, as a share of the ratio.
        seconds: after which the round under way is the last one.
    """

    least: int
    most: int = 400
    precision: float = 0.02
    seconds: float = 60.0


@dataclass(frozen=True)
class Latency:
    """Of one work: milliseconds of a whole batch and its 95th percentile (NaN for too few), ratio to the reference."""

    milliseconds: Interval
    p95: float
    ratio: Interval
    repeats: int


def in_turns(
    works: Mapping[str, Work],
    reference: str,
    effort: Effort,
    dice: np.random.Generator,
    clock: Callable[[], float] = timer,
    wall: Callable[[], float] = time.monotonic,
) -> Generator[Progress, None, list[Round]]:
    """Call the works in turns until each is known well enough; returns the rounds.

    Every round has the reference and all works that are not known well enough yet. Of works that take very long,
    one round may be all there is time for.

    Args:
        clock: seconds; read right before and right after each call.
        wall: seconds, for the limits.
    """
    calls = 0
    for work in works.values():
        began = wall()
        for _ in range(WARM_UP):
            work()
            calls += 1
            yield Progress(0.0, calls)
            if wall() - began > WARM_SECONDS:
                break
    rounds: list[Round] = []
    waiting = [name for name in works if name != reference]
    began = wall()
    while not rounds or (waiting and wall() - began < effort.seconds):
        rounds.append({})
        for name in dice.permutation([reference, *waiting]):
            start = clock()
            works[name]()
            rounds[-1][str(name)] = clock() - start
            calls += 1
            yield Progress(_share(rounds, waiting, works, effort, wall() - began), calls)
        if len(rounds) == effort.least or len(rounds) % LOOK_EVERY == 0:
            waiting = [name for name in waiting if not _known(rounds, name, reference, effort)]
    return rounds


def _share(
    rounds: list[Round], waiting: Sequence[str], works: Mapping[str, Work], e: Effort, spent: float
) -> float:
    """Share done: of the time, of the calls, or of the works, whichever is nearest to its end."""
    others = max(1, len(works) - 1)
    return min(1.0, max(spent / e.seconds, (len(rounds) - 1) / e.most, 1 - len(waiting) / others))


def _known(rounds: list[Round], name: str, reference: str, effort: Effort) -> bool:
    times = [each for each in rounds if name in each]
    if len(times) < effort.least:
        return False
    found = interval([each[name] / each[reference] for each in times])
    return len(times) >= effort.most or found.high - found.low <= 2 * effort.precision * found.median


def latency(rounds: Sequence[Round], name: str, reference: str) -> Latency:
    """What the rounds say of one work."""
    own = [each for each in rounds if name in each]
    milliseconds = [1000 * each[name] for each in own]
    return Latency(
        interval(milliseconds),
        float(np.quantile(milliseconds, 0.95)) if len(own) >= FEWEST_P95 else math.nan,
        interval([each[name] / each[reference] for each in own]),
        len(own),
    )


def interval(values: Sequence[float]) -> Interval:
    """The median, and between which of the sorted values it lies with `CONFIDENCE`, whatever their distribution."""
    median = float(np.median(values))
    if len(values) < FEWEST:
        return Interval(median, math.nan, math.nan)
    from scipy.stats import quantile_test  # slow to import, and few who need this module come here

    bounds = quantile_test(values, q=median, p=0.5).confidence_interval(CONFIDENCE)
    return Interval(median, float(bounds.low), float(bounds.high))
