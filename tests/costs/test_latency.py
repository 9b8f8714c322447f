"""The timing protocol, with a simulated clock that only the timed works advance."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch.utils.benchmark

from dcp_core.costs import latency
from dcp_core.costs.latency import Effort, Interval, TimingProgress, in_turns, interval


class Bench:
    """Works that take given seconds of a clock of their own, and a diary of what was done."""

    def __init__(self, **seconds: float) -> None:
        self.now, self.diary = 0.0, list[str]()
        self.works = {name: self.work(name, took) for name, took in seconds.items()}

    def work(self, name: str, took: float) -> Callable[[], None]:
        def call() -> None:
            self.diary.append(name)
            self.now += took

        return call

    def clock(self) -> float:
        self.diary.append("clock")
        return self.now

    def measure(self, effort: Effort, seed: int = 0) -> tuple[list[dict[str, float]], list[TimingProgress]]:
        steps = in_turns(self.works, "none", effort, np.random.default_rng(seed), self.clock, lambda: self.now)
        told = []
        while True:
            try:
                told.append(next(steps))
            except StopIteration as end:
                return end.value, told


def orders(bench: Bench, per_round: int) -> list[tuple[str, ...]]:
    called = [name for name in bench.diary if name != "clock"]
    warm = latency.WARM_UP * per_round
    return [tuple(called[i : i + per_round]) for i in range(warm, len(called), per_round)]


def test_every_round_has_every_work_once_in_an_order_drawn_anew():
    bench = Bench(none=0.001, dcp=0.002, rs=0.003)
    rounds, _ = bench.measure(Effort(20, most=20, precision=0.0))
    drawn = orders(bench, 3)
    assert len(rounds) == len(drawn) == 20
    assert all(sorted(order) == ["dcp", "none", "rs"] for order in drawn)
    assert len(set(drawn)) > 3
    again = Bench(none=0.001, dcp=0.002, rs=0.003)
    again.measure(Effort(20, most=20, precision=0.0), seed=1)
    assert orders(again, 3) != drawn


def test_the_clock_is_read_right_before_and_right_after_each_call_but_not_in_warming_up():
    bench = Bench(none=0.001, dcp=0.002)
    bench.measure(Effort(6, most=6))
    warm = 2 * latency.WARM_UP
    assert "clock" not in bench.diary[:warm]
    timed = bench.diary[warm:]
    assert timed[::3] == timed[2::3] == ["clock"] * (len(timed) // 3)


def test_the_wall_clock_is_the_one_that_waits_for_the_gpu():
    assert latency.CLOCKS["wall"] is torch.utils.benchmark.timer


def test_a_work_is_called_until_its_ratio_is_known_and_then_no_more():
    bench = Bench(none=0.001, steady=0.002)
    jump = iter(range(10**6))
    bench.works["noisy"] = lambda: bench.work("noisy", 0.001 * (1 + next(jump) % 2))()
    rounds, _ = bench.measure(Effort(8, most=40, precision=0.02))
    assert sum("steady" in each for each in rounds) == 8
    assert sum("noisy" in each for each in rounds) == 40
    assert all("none" in each for each in rounds)


def test_the_limit_of_time_ends_it_after_a_whole_round():
    bench = Bench(none=1.0, slow=50.0)
    rounds, told = bench.measure(Effort(8, seconds=30.0))
    assert [set(each) for each in rounds] == [{"none", "slow"}]
    assert told[-1].fraction == 1.0
    assert bench.diary.count("slow") == 2  # one call warms it up: a slow work gets no three


def test_progress_counts_calls_and_never_exceeds_the_whole():
    bench = Bench(none=0.001, dcp=0.002)
    rounds, told = bench.measure(Effort(6, most=10, precision=0.0))
    assert told[-1].calls == 2 * (latency.WARM_UP + len(rounds))
    assert all(0 <= step.fraction <= 1 for step in told)


def test_latency_is_a_ratio_within_rounds_whatever_the_machine_does_between_them():
    # The machine slows down tenfold half-way: absolute times spread, ratios do not.
    rounds = [{"none": slow * 0.010, "dcp": slow * 0.011} for slow in [1.0] * 40 + [10.0] * 40]
    found = latency.latency(rounds, "dcp", "none")
    assert found.ratio == pytest.approx((1.1, 1.1, 1.1))
    assert found.milliseconds.low == pytest.approx(11)
    assert found.milliseconds.high == pytest.approx(110)
    assert found.p95 == pytest.approx(110)
    assert found.repeats == 80


def test_too_few_repeats_have_no_percentile_and_fewer_no_interval():
    rounds = [{"none": 0.01, "dcp": 0.011}] * 5
    found = latency.latency(rounds, "dcp", "none")
    assert math.isnan(found.p95)
    assert math.isnan(found.milliseconds.low)
    assert found.milliseconds.median == pytest.approx(11)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [
        (6, 1, 6),  # P(all six on one side) = 2 / 2^6 = 3.1 % <= 5 %; five: 6.3 %
        (9, 2, 8),  # 2 (1 + 9) / 2^9 = 3.9 %
        (20, 6, 15),  # the textbook's ranks for n = 20
    ],
)
def test_the_interval_of_a_median_is_between_the_binomials_ranks(count: int, low: int, high: int):
    values = [float(value) for value in range(1, count + 1)]
    assert interval(values[::-1]) == Interval((count + 1) / 2, low, high)
