"""Measure the latency of a query, and its ratio to the latency without a defense, on a machine with other load.

All works are called in turn, in a new random order in each round, so that other load on the machine affects all of them
equally. Ratios are computed within a round. The wall clock is that of `torch.utils.benchmark`, which waits for the GPU
before it is read. It includes time that other programs use; processor time does not.
"""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.benchmark import timer

CONFIDENCE = 0.95
FEWEST = 6  # smallest number of values for which a confidence interval of the median exists
FEWEST_P95 = 60  # smallest number of values for which the 95th percentile is not just the largest value
WARM_UP, WARM_SECONDS = 3, 1.0  # largest number of untimed calls; no further one starts after these seconds
LOOK_EVERY = 10  # rounds between two checks of the precision

CLOCKS: dict[str, Callable[[], float]] = {"wall": timer, "processor": time.process_time}

Work = Callable[[], object]  # a function whose calls are timed
Round = dict[str, float]  # one call of each work: seconds, by its name


class TimingProgress(NamedTuple):
    """Progress of a measurement: the share done, 0 to 1, and the number of calls so far."""

    fraction: float
    calls: int


class Interval(NamedTuple):
    """A median and its 95 % confidence interval. The bounds are NaN for fewer than `FEWEST` values."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Effort:
    """When to stop timing a work.

    Args:
        least, most: bounds on the number of calls of each work.
        precision: a work is done if half the width of its ratio's interval is at most this share of the ratio.
        seconds: time limit; the current round is then the last one.
    """

    least: int
    most: int = 400
    precision: float = 0.02
    seconds: float = 60.0


@dataclass(frozen=True)
class Latency:
    """Latency of one work.

    Args:
        milliseconds: latency of one call, which answers a whole batch.
        p95: 95th percentile of the milliseconds; NaN for fewer than `FEWEST_P95` values.
        ratio: ratio to the latency of the reference, within a round.
        repeats: number of timed calls.
    """

    milliseconds: Interval
    p95: float
    ratio: Interval
    repeats: int


def in_turns(
    works: Mapping[str, Work],
    reference: str,
    effort: Effort,
    rng: np.random.Generator,
    clock: Callable[[], float] = timer,
    wall: Callable[[], float] = time.monotonic,
) -> Generator[TimingProgress, None, list[Round]]:
    """Time works in turns until each is precise enough; yields its progress and returns the rounds.

    Every round calls the reference and all works that are not precise enough yet. There is always at least one round,
    even if it takes longer than the time limit.

    Args:
        works: functions to call, by name.
        reference: name of the work to which ratios are taken.
        clock: seconds, read immediately before and after each call.
        wall: seconds, for the time limits.
    """
    calls = 0
    for work in works.values():
        began = wall()
        for _ in range(WARM_UP):
            work()
            calls += 1
            yield TimingProgress(0.0, calls)
            if wall() - began > WARM_SECONDS:
                break
    rounds: list[Round] = []
    waiting = [name for name in works if name != reference]
    began = wall()
    while not rounds or (waiting and wall() - began < effort.seconds):
        rounds.append({})
        for name in rng.permutation([reference, *waiting]):
            start = clock()
            works[name]()
            rounds[-1][str(name)] = clock() - start
            calls += 1
            yield TimingProgress(_share(rounds, waiting, works, effort, wall() - began), calls)
        if len(rounds) == effort.least or len(rounds) % LOOK_EVERY == 0:
            waiting = [name for name in waiting if not _known(rounds, name, reference, effort)]
    return rounds


def _share(
    rounds: list[Round], waiting: Sequence[str], works: Mapping[str, Work], e: Effort, spent: float
) -> float:
    """The share done, 0 to 1: the largest of the used share of the time limit, of the calls, and of the finished works."""
    others = max(1, len(works) - 1)
    return min(1.0, max(spent / e.seconds, (len(rounds) - 1) / e.most, 1 - len(waiting) / others))


def _known(rounds: list[Round], name: str, reference: str, effort: Effort) -> bool:
    times = [each for each in rounds if name in each]
    if len(times) < effort.least:
        return False
    found = interval([each[name] / each[reference] for each in times])
    return len(times) >= effort.most or found.high - found.low <= 2 * effort.precision * found.median


def latency(rounds: Sequence[Round], name: str, reference: str) -> Latency:
    """The latency of one work, computed from the rounds in which it was called."""
    own = [each for each in rounds if name in each]
    milliseconds = [1000 * each[name] for each in own]
    return Latency(
        interval(milliseconds),
        float(np.quantile(milliseconds, 0.95)) if len(own) >= FEWEST_P95 else math.nan,
        interval([each[name] / each[reference] for each in own]),
        len(own),
    )


def interval(values: Sequence[float]) -> Interval:
    """The median and its 95 % confidence interval, by order statistics: valid for every distribution."""
    median = float(np.median(values))
    if len(values) < FEWEST:
        return Interval(median, math.nan, math.nan)
    from scipy.stats import quantile_test  # imported here because the import is slow and rarely needed

    bounds = quantile_test(values, q=median, p=0.5).confidence_interval(CONFIDENCE)
    return Interval(median, float(bounds.low), float(bounds.high))
