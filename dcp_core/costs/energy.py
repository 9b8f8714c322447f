"""Measure the energy of a query with the energy counter of the hardware. Without a counter, nothing is reported.

The counter of a GPU is read through NVML, that of processors from Linux's powercap files (RAPL). Counters are updated
some dozens of times a second, so each reading covers seconds of continuous work. The energy that the machine uses when
idle, measured in the same round, is subtracted.
"""

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dcp_core.costs.latency import TimingProgress, Work

WINDOW, WINDOWS = 5.0, 3  # shortest measuring window in seconds; number of windows for each function
REPORT_EVERY = 0.25  # seconds between two reports of progress
POWERCAP = Path("/sys/class/powercap")
IDLE = "idle"


class NoMeter(ValueError):
    """Energy cannot be measured on this machine. The message says why."""


@dataclass(frozen=True)
class Meter:
    """Energy counters that only increase.

    Args:
        method: description of the counters.
        read: returns the value of each counter.
        joules: the unit of the counters.
        limits: value at which each counter starts again from 0.
    """

    method: str
    read: Callable[[], tuple[int, ...]]
    joules: float
    limits: tuple[int, ...]

    def spent(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Joules between two readings, between which no counter may have restarted more than once."""
        grown = [(b - a) % limit for a, b, limit in zip(before, after, self.limits, strict=True)]
        return self.joules * sum(grown)


def meter(device: str | torch.device, powercap: Path = POWERCAP) -> Meter:
    """The energy counter of a device.

    Raises:
        NoMeter: if there is no counter, or it cannot be read.
    """
    return _nvml(torch.device(device)) if torch.device(device).type == "cuda" else _rapl(powercap)


def per_query(
    gauge: Meter,
    works: Mapping[str, Work],
    queries: int,
    rng: np.random.Generator,
    *,
    seconds: float = WINDOW,
    windows: int = WINDOWS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    settle: Callable[[], None] = lambda: None,
) -> Generator[TimingProgress, None, dict[str, list[float]]]:
    """Measure the energy of one query (joules above idle) for each function in `works`; yields its progress.

    In every window, all works and an idle period run once, in random order.

    Args:
        gauge: the energy counters.
        works: functions to call, by name.
        queries: number of queries that one call answers.
        seconds: shortest length of a window.
        clock, sleep: seconds; replaced in tests.
        settle: function that waits until all calls are done; needed for GPUs.

    Returns:
        for each function, joules of one query: one value for each window.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    calls, done = 0, 0
    for _ in range(windows):
        drawn: dict[str, tuple[float, float, int]] = {}  # joules, seconds, calls
        for name in map(str, rng.permutation([IDLE, *works])):
            mine, reported = 0, clock()
            start, before = clock(), gauge.read()
            while True:  # at least once, also if the machine was suspended
                if name == IDLE:
                    sleep(REPORT_EVERY)
                else:
                    works[name]()
                    mine += 1
                if clock() - reported > REPORT_EVERY:
                    reported = clock()
                    part = min(1.0, (reported - start) / seconds)
                    yield TimingProgress((done + part) / (windows * (len(works) + 1)), calls + mine)
                if clock() - start >= seconds:
                    break
            settle()
            drawn[name] = (gauge.spent(before, gauge.read()), clock() - start, mine)
            calls, done = calls + mine, done + 1
        joules, lasted, _ = drawn.pop(IDLE)
        for name, (spent, took, mine) in drawn.items():
            found[name].append((spent - joules / lasted * took) / (mine * queries))
    return found


def _nvml(device: torch.device) -> Meter:
    try:
        import pynvml  # imported only here, because most machines do not need it
    except ImportError as error:
        raise NoMeter("reading the GPU's energy counter needs a package: pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        raise NoMeter(f"this GPU has no readable energy counter: {error}") from error

    def read() -> tuple[int, ...]:
        return (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle),)

    return Meter("NVML energy counter of the GPU", read, 1e-3, (2**64,))


def _rapl(powercap: Path) -> Meter:
    """The counters of all processor packages. Zones below a package ("intel-rapl:0:1") are parts of it, or its memory."""
    zones = [zone for zone in sorted(powercap.glob("*-rapl:*")) if zone.name.count(":") == 1]
    try:
        packages = [zone for zone in zones if (zone / "name").read_text().startswith("package")]
        limits = tuple(int((zone / "max_energy_range_uj").read_text()) + 1 for zone in packages)

        def read() -> tuple[int, ...]:
            return tuple(int((zone / "energy_uj").read_text()) for zone in packages)

        read()
    except PermissionError as error:
        raise NoMeter(
            f"only the administrator may read the processor's energy counter: sudo chmod a+r {error.filename}"
        ) from error
    except (OSError, ValueError) as error:
        raise NoMeter(f"the processor's energy counter cannot be read: {error}") from error
    if not packages:
        raise NoMeter(
            f"there is no processor energy counter in {powercap} (virtual machines and systems other than Linux have none)"
        )
    return Meter("RAPL energy counters of the processor packages", read, 1e-6, limits)
