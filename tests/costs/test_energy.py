"""Computation of energy from a simulated counter, and the messages when there is no counter."""

import sys
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dcp_core.costs import energy
from dcp_core.costs.energy import Meter, NoMeter, meter, per_query
from dcp_core.costs.latency import TimingProgress


class Machine:
    """Draws 10 W idle, and 30 W while it works; every answer takes 0.5 s. Its counter starts anew at 1000 J."""

    def __init__(self) -> None:
        self.now, self.joules, self.settled = 0.0, 990.0, 0

    def pass_time(self, seconds: float, watts: float = 10.0) -> None:
        self.now += seconds
        self.joules += seconds * watts

    def settle(self) -> None:
        self.settled += 1

    @property
    def meter(self) -> Meter:
        return Meter("a counter", lambda: (round(self.joules * 1000) % 1_000_000,), 1e-3, (1_000_000,))

    def measure(self, **works: float) -> dict[str, list[float]]:
        calls = {name: lambda watts=watts: self.pass_time(0.5, watts) for name, watts in works.items()}
        steps = per_query(
            self.meter,
            calls,
            64,
            np.random.default_rng(0),
            clock=lambda: self.now,
            sleep=self.pass_time,
            settle=self.settle,
        )
        return result_of(steps)


def result_of(steps: Generator[TimingProgress, None, dict[str, list[float]]]) -> dict[str, list[float]]:
    while True:
        try:
            assert 0 <= next(steps).fraction <= 1
        except StopIteration as end:
            return end.value


def test_idle_power_is_subtracted_and_a_counter_may_start_anew():
    machine = Machine()
    found = machine.measure(none=30.0, mad=50.0)
    # (30 W - 10 W) * 0.5 s = 10 J for 64 queries; (50 W - 10 W) * 0.5 s = 20 J
    assert found["none"] == pytest.approx([10 / 64] * energy.WINDOWS)
    assert found["mad"] == pytest.approx([20 / 64] * energy.WINDOWS)
    assert machine.joules > 1000 + 990
    assert machine.settled == 3 * energy.WINDOWS


def test_windows_last_five_seconds_at_least():
    machine = Machine()
    machine.measure(none=30.0)
    assert energy.WINDOW >= 5
    assert machine.now >= 2 * energy.WINDOWS * energy.WINDOW


def test_a_window_that_is_over_before_it_began_still_has_an_answer():
    machine, asked = Machine(), []
    steps = per_query(
        machine.meter,
        {"none": lambda: asked.append(machine.pass_time(0.5, 30.0))},
        64,
        np.random.default_rng(0),
        seconds=1e-9,
        windows=1,
        clock=lambda: machine.pass_time(1e-6) or machine.now,  # this machine was away between two looks
        sleep=machine.pass_time,
    )
    found = result_of(steps)
    assert len(asked) == 1
    assert found["none"] == pytest.approx([10 / 64], rel=0.01)


def zone(folder: Path, name: str, kind: str, microjoules: int) -> Path:
    place = folder / name
    place.mkdir()
    (place / "name").write_text(f"{kind}\n")
    (place / "energy_uj").write_text(f"{microjoules}\n")
    (place / "max_energy_range_uj").write_text("262143328850\n")
    return place


def test_rapl_adds_the_packages_and_leaves_out_their_parts(tmp_path: Path):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 262_143_328_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 500)
    zone(tmp_path, "intel-rapl:0:0", "core", 7)
    zone(tmp_path, "intel-rapl:2", "psys", 9)
    found = meter("cpu", tmp_path)
    before = found.read()
    assert before == (262_143_328_000, 500)
    (first / "energy_uj").write_text("1999149")  # 851 to its end and to 0, and 1,999,149 on
    assert found.spent(before, found.read()) == pytest.approx(2.0)
    assert "RAPL" in found.method


def test_without_a_counter_the_reason_is_said(tmp_path: Path):
    with pytest.raises(NoMeter, match="no processor energy counter"):
        meter("cpu", tmp_path)


def test_a_counter_for_administrators_only_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    real = Path.read_text

    def refuse(path: Path, *args: object) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_text", refuse)  # tests may run as the administrator
    with pytest.raises(NoMeter, match=f"sudo chmod a\\+r {place / 'energy_uj'}"):
        meter("cpu", tmp_path)


class NoLuck(Exception):
    pass


def nvml(monkeypatch: pytest.MonkeyPatch, **functions: object) -> None:
    fake = SimpleNamespace(NVMLError=NoLuck, nvmlInit=lambda: None, **functions)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-34"))


def test_a_gpus_own_counter_is_read_in_millijoules(monkeypatch: pytest.MonkeyPatch):
    counts = iter([5_000, 7_000, 9_500])
    nvml(
        monkeypatch,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(counts) if handle == "GPU-12-34" else None,
    )
    found = meter("cuda")
    assert found.spent(found.read(), found.read()) == pytest.approx(2.5)
    assert "NVML" in found.method


def test_a_gpu_without_counter_gives_no_number(monkeypatch: pytest.MonkeyPatch):
    def refuse(uuid: str) -> None:
        raise NoLuck("Not Supported")

    nvml(monkeypatch, nvmlDeviceGetHandleByUUID=refuse)
    with pytest.raises(NoMeter, match="no readable energy counter: Not Supported"):
        meter("cuda")


def test_without_nvidias_library_the_page_names_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoMeter, match="pip install nvidia-ml-py"):
        meter("cuda")
