"""Measure what every defense costs the owner of a victim (Table III): latency, energy and hidden costs, as result rows.

A query is timed from pixels to posteriors on the device, including the victim. Each defense has its default parameters.
Victim and second networks run in eager torch, so that a ratio compares defenses and not runtimes. Victims that are only
ONNX files, quantized or given, run in ONNX Runtime.
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
from dcp_core.costs.latency import CLOCKS, Effort, Latency, Round, TimingProgress, Work, in_turns, latency
from dcp_core.costs.variants import DefenseVariant, defense_variants
from dcp_core.models import zoo
from dcp_core.provenance import hardware, today, versions

BATCHES = {1: 60, 64: 8}  # batch size -> smallest number of timed calls
ENERGY_BATCH = 64
NONE = "none"
T = TypeVar("T")
Key = tuple[int, str]  # batch size and the name of a variant


@dataclass(frozen=True)
class Costs:
    """Costs of all defenses.

    Args:
        rows: result rows, without the columns `where` and `key`, which the caller adds.
        missing: why a defense was not measured, by its name.
        no_energy: why energy was not measured; empty if it was.
    """

    rows: list[dict[str, Any]]
    missing: dict[str, str]
    no_energy: str = ""


@dataclass(frozen=True)
class MeasurementProgress:
    """Progress: what is being measured, the share of the whole that is done (0 to 1), queries answered so far."""

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
) -> Generator[MeasurementProgress, None, Costs]:
    """Measure all defenses on a victim; yields its progress and returns the costs.

    Args:
        seed: seed of the random order of calls.
        seconds: time limit of each of the four timing sessions: batches of 1 and 64, our implementations and literal
            ones. The current round is then the last one.
        clock: one of `CLOCKS`. "processor" counts only the time that this process computes, for machines with other load.
        pause: seconds of a window of the energy measurement.

    Raises:
        VictimError: if the victim cannot be loaded.
        ValueError: if the clock is "processor" and the work is on a GPU or uses several threads.
    """
    on_cpu = torch.device(device).type == "cpu"
    threads = torch.get_num_threads() if on_cpu else 1  # our own part of the machine's load
    if clock == "processor" and (not on_cpu or threads > 1):
        raise ValueError(
            "processor time is the latency only on a CPU with one thread: use --device cpu --threads 1"
        )
    before = _other_load(0)
    variants, missing = defense_variants(victim, device)
    card = zoo.load(victim).card if victim.startswith(zoo.TORCHVISION) else zoo.card(victim)
    rng = np.random.default_rng(seed)
    works = {batch: _works(variants, _pictures(batch, card.size, device)) for batch in BATCHES}
    gauge, no_energy = _gauge(device)
    timing, memory = (0.6, 0.05) if gauge else (0.9, 0.1)  # shares of the progress; energy has the rest

    rounds, queries = yield from _latencies(variants, works, rng, seconds, clock, timing)
    peaks: dict[Key, tuple[int, str]] = {}
    if card.has_weights:  # the profiler does not see the memory of ONNX Runtime
        keys = [(batch, name) for batch in works for name in works[batch]]
        for place, key in enumerate(keys):
            yield MeasurementProgress(f"memory, {key[0]} at once", timing + memory * place / len(keys), queries)
            peaks[key] = hidden_costs.peak_memory(works[key[0]][key[1]], device)
    busy = _busy(max(before, _other_load(threads)), threads)
    joules: dict[str, list[float]] = {}
    if gauge and busy and on_cpu:
        gauge, no_energy = None, f"the counter measures the whole processor, and {busy}"
    if gauge:
        settle = (lambda: None) if on_cpu else torch.cuda.synchronize
        windows = energy.per_query(gauge, works[ENERGY_BATCH], ENERGY_BATCH, rng, seconds=pause, settle=settle)
        joules, _ = yield from _report_part(windows, "energy", timing + memory, 0.35, queries, ENERGY_BATCH)

    about, rows = _common_columns(card, device, clock, busy), []
    for batch in BATCHES:
        for variant in variants:
            row = (
                about
                | _defense_columns(variant, batch)
                | _latency_columns(latency(rounds[batch, variant.name], variant.name, NONE), batch)
            )
            if (batch, variant.name) in peaks:
                peak, method = peaks[batch, variant.name]
                row |= {"memory_mb": round(peak / 1e6, 4), "memory_method": method}
            if gauge and batch == ENERGY_BATCH:
                row |= _energy_columns(joules[variant.name]) | {"energy_method": gauge.method}
            rows.append(row)
    return Costs(rows, missing, no_energy)


def _latencies(
    variants: Sequence[DefenseVariant],
    works: dict[int, dict[str, Work]],
    rng: np.random.Generator,
    seconds: float,
    clock: str,
    share: float,
) -> Generator[MeasurementProgress, None, tuple[dict[Key, list[Round]], int]]:
    """The rounds in which each variant was timed, and the number of queries answered.

    Our implementations and the literal ones are timed in separate sessions, each beside no defense, because the slow
    literal ones would leave too few rounds for the others.
    """
    rounds: dict[Key, list[Round]] = {}
    queries = 0
    sessions = [(batch, kind) for kind in ("here", "literal") for batch in works]
    for number, (batch, kind) in enumerate(sessions):
        names = [variant.name for variant in variants if variant.implementation == kind and variant.name != NONE]
        if not names:
            continue
        timed = {name: works[batch][name] for name in [NONE, *names]}
        turns = in_turns(timed, NONE, Effort(BATCHES[batch], seconds=seconds), rng, CLOCKS[clock])
        words = f"latency, {batch} at once" + (", as published" if kind == "literal" else "")
        part = share / len(sessions)
        found, calls = yield from _report_part(turns, words, part * number, part, queries, batch)
        queries += calls * batch
        # "none" keeps the rounds of the first session, that of our implementations.
        rounds = {(batch, name): found for name in timed} | rounds
    return rounds, queries


def _pictures(count: int, size: int, device: str | torch.device) -> Tensor:
    """Random pictures: the latency does not depend on the content, and no data set is needed."""
    noise = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return noise.to(device).contiguous(memory_format=torch.channels_last)


def _works(variants: Sequence[DefenseVariant], pixels: Tensor) -> dict[str, Work]:
    return {variant.name: lambda variant=variant: variant.answer(pixels) for variant in variants}  # type: ignore[misc]


def _report_part(
    steps: Generator[TimingProgress, None, T], phase: str, begin: float, share: float, queries: int, batch: int
) -> Generator[MeasurementProgress, None, tuple[T, int]]:
    """Report the progress of one part as progress of the whole; returns the part's result and number of calls."""
    calls, reached = 0, 0.0
    while True:
        try:
            done = next(steps)
        except StopIteration as end:
            return end.value, calls
        calls, reached = done.calls, max(reached, done.fraction)
        yield MeasurementProgress(phase, begin + share * reached, queries + calls * batch)


def _gauge(device: str) -> tuple[energy.Meter | None, str]:
    """The energy counter of a device, or None and the reason why there is none."""
    try:
        return energy.meter(device), ""
    except energy.NoMeter as error:
        return None, str(error)


def _other_load(threads: int) -> float:
    """The machine's load in the last minute, minus `threads` of this process."""
    return max(0.0, os.getloadavg()[0] - threads)


def _busy(others: float, threads: int) -> str:
    """A sentence on the machine's other load, if it makes wall times unreliable; else empty."""
    cores = os.cpu_count() or 1
    if others + threads <= cores + 0.5:
        return ""
    return f"other programs used the machine (load {others:.1f} besides this one, {cores} cores)"


def _common_columns(card: zoo.Card, device: str, clock: str, busy: str) -> dict[str, Any]:
    """The columns that all rows have in common."""
    advice = (
        "the ratios, measured in turns, are more reliable than the times"
        if clock == "wall"
        else "processor time does not include it, but caches are shared"
    )
    return {
        "source": "measured",
        "dataset": card.dataset,
        "victim": card.name,
        "precision": card.precision,
        "engine": "torch, eager" if card.has_weights else "ONNX Runtime",
        "hardware": hardware(device),
        "versions": json.dumps(versions()),
        "date": today(),
        "clock": clock,
        "unreliable": bool(busy) and clock == "wall",
        "reason": f"{busy}: {advice}" if busy else None,
    }


def _defense_columns(variant: DefenseVariant, batch: int) -> dict[str, Any]:
    defense, second = variant.defense, variant.second
    return {
        "defense": defense.name,
        "parameters": json.dumps(defense.values()),
        "strength": getattr(defense, defense.strength) if defense.strength else None,
        "implementation": variant.implementation,
        "batch": batch,
        "second_network": second.kind if second else None,
        "second_parameters": second.parameters if second else 0,
        "training_seconds": second.seconds if second else 0.0,
    }


def _latency_columns(known: Latency, batch: int) -> dict[str, Any]:
    per_query = [value / batch for value in known.milliseconds]
    return {
        "repeats": known.repeats,
        **_rounded(("latency_ms", "latency_low_ms", "latency_high_ms"), per_query),
        **_rounded(("latency_p95_ms",), [known.p95 if batch == 1 else math.nan]),
        **_rounded(("latency_ratio", "latency_ratio_low", "latency_ratio_high"), known.ratio),
    }


def _energy_columns(joules: Sequence[float]) -> dict[str, Any]:
    spread = [1000 * float(value) for value in (np.median(joules), min(joules), max(joules))]
    return _rounded(("energy_mj", "energy_low_mj", "energy_high_mj"), spread)


def _rounded(names: Sequence[str], values: Sequence[float]) -> dict[str, float | None]:
    """Values by name, rounded to six decimals; NaN becomes None, which JSON can represent."""
    return {
        name: None if math.isnan(value) else round(value, 6) for name, value in zip(names, values, strict=True)
    }
