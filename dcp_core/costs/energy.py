"""Energy of an answer, from a counter that the hardware keeps; where there is none, there is no number.

A GPU's counter is read by NVML, that of the processors from Linux's powercap files (RAPL). Counters are renewed a few
dozen times a second, so each reading spans seconds of nothing but answers; what the machine draws when idle, measured
in the same round, is subtracted.
"""

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dcp_core.costs.latency import Progress, Work

WINDOW, WINDOWS = 5.0, 3  # seconds of a window at least; windows of each work
BREATH = 0.25  # seconds between two signs of progress
POWERCAP = Path("/sys/class/powercap")
IDLE = "idle"


class NoMeter(ValueError):
    """Energy cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Meter:
    """Counters that only grow: `read` gives all of them, in units of `joules`; each starts anew at its `limits`."""

    method: str
    read: Callable[[], tuple[int, ...]]
    joules: float
    limits: tuple[int, ...]

    def spent(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Joules between two readings, of which no counter started anew more than once."""
        grown = [(b - a) % limit for a, b, limit in zip(before, after, self.limits, strict=True)]
        return self.joules * sum(grown)


def meter(device: str | torch.device, powercap: Path = POWERCAP) -> Meter:
    """The energy counter of a device.

    Raises:
        NoMeter: where there is none that can be read.
    """
    return _nvml(torch.device(device)) if torch.device(device).type == "cuda" else _rapl(powercap)


def per_query(
    gauge: Meter,
    works: Mapping[str, Work],
    queries: int,
    dice: np.random.Generator,
    *,
    seconds: float = WINDOW,
    windows: int = WINDOWS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    settle: Callable[[], None] = lambda: None,
) -> Generator[Progress, None, dict[str, list[float]]]:
    """Joules above idle of one query, one value a window, for each work; all take turns in random order.

    Args:
        queries: that one call of a work answers.
        settle: waits until a call's work is done (for GPUs).
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    calls, done = 0, 0
    for _ in range(windows):
        drawn: dict[str, tuple[float, float, int]] = {}  # joules, seconds, calls
        for name in map(str, dice.permutation([IDLE, *works])):
            mine, told = 0, clock()
            start, before = clock(), gauge.read()
            while True:  # once at least, should the machine have been away meanwhile
                if name == IDLE:
                    sleep(BREATH)
                else:
                    works[name]()
                    mine += 1
                if clock() - told > BREATH:
                    told = clock()
                    part = min(1.0, (told - start) / seconds)
                    yield Progress((done + part) / (windows * (len(works) + 1)), calls + mine)
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
        import pynvml  # only here: most machines have no use for it
    except ImportError as error:
        raise NoMeter("the GPU's energy counter is read by nvidia-ml-py: pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        raise NoMeter(f"this GPU gives no energy counter: {error}") from error

    def read() -> tuple[int, ...]:
        return (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle),)

    return Meter("NVML energy counter of the GPU", read, 1e-3, (2**64,))


def _rapl(powercap: Path) -> Meter:
    """Sum of the packages' counters. Zones below a package ("intel-rapl:0:1") are a part of it, or its memory."""
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
            f"no energy counter of a processor below {powercap} (virtual machines and other systems than Linux have none)"
        )
    return Meter("RAPL energy counters of the processor packages", read, 1e-6, limits)
