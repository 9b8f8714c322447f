"""What every defense costs a victim's owner (Table III): latency, energy and hidden costs, as result rows.

A query is timed from pixels to posteriors on the device, victim included, each defense at its default strength, one
strength a query. The victim and second networks run in eager torch, so that a ratio compares methods and not
runtimes; quantized victims, which are ONNX files, run in ONNX Runtime.
"""

import json
import math
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from dcp_core.costs import energy, hidden_costs
from dcp_core.costs.candidates import Candidate, candidates
from dcp_core.costs.latency import CLOCKS, Effort, Latency, Progress, Round, Work, in_turns, latency
from dcp_core.models import zoo
from dcp_core.provenance import hardware, today, versions

BATCHES = {1: 60, 64: 8}  # queries at once, and calls at least
ENERGY_BATCH = 64
NONE = "none"
T = TypeVar("T")
Key = tuple[int, str]  # batch size and the name of a way


@dataclass(frozen=True)
class Costs:
    """Rows of the common schema (`where` is left to who asked); why a defense, or the energy, was not measured."""

    rows: list[dict[str, Any]]
    missing: dict[str, str]
    no_energy: str = ""


@dataclass(frozen=True)
class Step:
    """Where a measurement is: what is measured, share of the whole done, queries answered so far."""

    phase: str
    fraction: float
    queries: int


def measure(
    victim: str,
    *,
    device: str = "cpu",
    seed: int = 0,
    seconds: float = 60.0,
    clock: str = "wall",
    pause: float = energy.WINDOW,
) -> Generator[Step, None, Costs]:
    """Measure all defenses on a victim; yields where it is and returns the costs.

    Args:
        seed: of the order of turns.
        seconds: for each of the four sessions (batch 1 and 64, ours and literal), after which its round under way is
            the last one.
        clock: one of `CLOCKS`; "processor", for machines with other work, counts the time that this process computed.
        pause: seconds of a window of the energy's measurement.

    Raises:
        VictimError: for a victim that cannot be loaded.
        ValueError: for a processor clock and work that it does not measure: of a GPU, or of several threads at once.
    """
    on_cpu = torch.device(device).type == "cpu"
    threads = torch.get_num_threads() if on_cpu else 1  # of ours that count in the machine's load
    if clock == "processor" and (not on_cpu or threads > 1):
        raise ValueError("processor time is a latency on a CPU with one thread only: say --device cpu --threads 1")
    before = _others(0)
    ways, missing = candidates(victim, device)
    card = zoo.load(victim).card if victim.startswith(zoo.TORCHVISION) else zoo.card(victim)
    dice = np.random.default_rng(seed)
    works = {batch: _works(ways, _pictures(batch, card.size, device)) for batch in BATCHES}
    gauge, no_energy = _gauge(device)
    timing, memory = (0.6, 0.05) if gauge else (0.9, 0.1)  # shares of the whole; energy takes the rest

    rounds, queries = yield from _latencies(ways, works, dice, seconds, clock, timing)
    peaks: dict[Key, tuple[int, str]] = {}
    if card.precision == "fp32":  # ONNX Runtime keeps its own books
        keys = [(batch, name) for batch in works for name in works[batch]]
        for place, key in enumerate(keys):
            yield Step(f"memory, {key[0]} at once", timing + memory * place / len(keys), queries)
            peaks[key] = hidden_costs.peak_memory(works[key[0]][key[1]], device)
    busy = _busy(max(before, _others(threads)), threads)
    joules: dict[str, list[float]] = {}
    if gauge and busy and on_cpu:
        gauge, no_energy = None, f"the counter sees the whole processor, and {busy}"
    if gauge:
        settle = (lambda: None) if on_cpu else torch.cuda.synchronize
        windows = energy.per_query(gauge, works[ENERGY_BATCH], ENERGY_BATCH, dice, seconds=pause, settle=settle)
        joules, _ = yield from _told(windows, "energy", timing + memory, 0.35, queries, ENERGY_BATCH)

    about, rows = _about(card, device, clock, busy), []
    for batch in BATCHES:
        for way in ways:
            row = about | _described(way, batch) | _timed(latency(rounds[batch, way.name], way.name, NONE), batch)
            if (batch, way.name) in peaks:
                peak, method = peaks[batch, way.name]
                row |= {"memory_mb": round(peak / 1e6, 4), "memory_method": method}
            if gauge and batch == ENERGY_BATCH:
                row |= _energy(joules[way.name]) | {"energy_method": gauge.method}
            rows.append(row)
    return Costs(rows, missing, no_energy)


def _latencies(
    ways: Sequence[Candidate],
    works: dict[int, dict[str, Work]],
    dice: np.random.Generator,
    seconds: float,
    clock: str,
    share: float,
) -> Generator[Step, None, tuple[dict[Key, list[Round]], int]]:
    """Rounds in which each way was timed, and queries answered for that.

    Ours and the literal versions are timed apart, each with no defense: a round with the slow ones takes so long that
    there would be too few.
    """
    rounds: dict[Key, list[Round]] = {}
    queries = 0
    sessions = [(batch, kind) for kind in ("here", "literal") for batch in works]
    for number, (batch, kind) in enumerate(sessions):
        names = [way.name for way in ways if way.implementation == kind and way.name != NONE]
        if not names:
            continue
        timed = {name: works[batch][name] for name in [NONE, *names]}
        turns = in_turns(timed, NONE, Effort(BATCHES[batch], seconds=seconds), dice, CLOCKS[clock])
        words = f"latency, {batch} at once" + (", as published" if kind == "literal" else "")
        part = share / len(sessions)
        found, calls = yield from _told(turns, words, part * number, part, queries, batch)
        queries += calls * batch
        rounds = {(batch, name): found for name in timed} | rounds  # no defense: as ours were timed beside it
    return rounds, queries


def _pictures(count: int, size: int, device: str | torch.device) -> Tensor:
    """Noise: no network's speed depends on what it sees, and no data set has to be there."""
    noise = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return noise.to(device).contiguous(memory_format=torch.channels_last)


def _works(ways: Sequence[Candidate], pixels: Tensor) -> dict[str, Work]:
    return {way.name: lambda way=way: way.answer(pixels) for way in ways}  # type: ignore[misc]


def _told(
    steps: Generator[Progress, None, T], phase: str, begin: float, share: float, queries: int, batch: int
) -> Generator[Step, None, tuple[T, int]]:
    """Pass on a part's progress as that of the whole; returns the part's result and its calls."""
    calls, reached = 0, 0.0
    while True:
        try:
            done = next(steps)
        except StopIteration as end:
            return end.value, calls
        calls, reached = done.calls, max(reached, done.fraction)
        yield Step(phase, begin + share * reached, queries + calls * batch)


def _gauge(device: str) -> tuple[energy.Meter | None, str]:
    """The counter of energy, or why there is none."""
    try:
        return energy.meter(device), ""
    except energy.NoMeter as error:
        return None, str(error)


def _others(threads: int) -> float:
    """The machine's load in the last minute, without so many threads of ours."""
    return max(0.0, os.getloadavg()[0] - threads)


def _busy(others: float, threads: int) -> str:
    """What else the machine does, where it is too much for times to be trusted."""
    cores = os.cpu_count() or 1
    if others + threads <= cores + 0.5:
        return ""
    return f"other work ran on the machine (a load of {others:.1f} besides ours, {cores} cores)"


def _about(card: zoo.Card, device: str, clock: str, busy: str) -> dict[str, Any]:
    """What all rows have in common."""
    advice = (
        "trust the ratios, which were taken in turns, more than the times"
        if clock == "wall"
        else "processor time leaves it out, but not what it does to caches"
    )
    return {
        "source": "measured",
        "dataset": card.dataset,
        "victim": card.name,
        "precision": card.precision,
        "engine": "torch, eager" if card.precision == "fp32" else "ONNX Runtime",
        "hardware": hardware(device),
        "versions": json.dumps(versions()),
        "date": today(),
        "clock": clock,
        "unreliable": bool(busy) and clock == "wall",
        "reason": f"{busy}: {advice}" if busy else None,
    }


def _described(way: Candidate, batch: int) -> dict[str, Any]:
    defense, second = way.defense, way.second
    return {
        "defense": defense.name,
        "parameters": json.dumps(defense.values()),
        "strength": getattr(defense, defense.strength) if defense.strength else None,
        "implementation": way.implementation,
        "batch": batch,
        "second_network": second.kind if second else None,
        "second_parameters": second.parameters if second else 0,
        "training_seconds": second.seconds if second else 0.0,
    }


def _timed(known: Latency, batch: int) -> dict[str, Any]:
    per_query = [value / batch for value in known.milliseconds]
    return {
        "repeats": known.repeats,
        **_rounded(("latency_ms", "latency_low_ms", "latency_high_ms"), per_query),
        **_rounded(("latency_p95_ms",), [known.p95 if batch == 1 else math.nan]),
        **_rounded(("latency_ratio", "latency_ratio_low", "latency_ratio_high"), known.ratio),
    }


def _energy(joules: Sequence[float]) -> dict[str, Any]:
    spread = [1000 * float(value) for value in (np.median(joules), min(joules), max(joules))]
    return _rounded(("energy_mj", "energy_low_mj", "energy_high_mj"), spread)


def _rounded(names: Sequence[str], values: Sequence[float]) -> dict[str, float | None]:
    """Six decimals are microjoules and nanoseconds. What is not known is None, which JSON has a word for."""
    return {
        name: None if math.isnan(value) else round(value, 6) for name, value in zip(names, values, strict=True)
    }
