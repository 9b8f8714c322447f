"""What every defense costs a victim's owner (Table III): latency, energy and hidden costs, as result rows.

A query is timed from pixels to posteriors on the device, victim included, each defense at its default strength, one
strength a query. The victim and second networks run in eager torch, so that a ratio compares methods and not
runtimes; quantized victims, which are ONNX files, run in ONNX Runtime.
"""

import json
import math
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from dcp_core.defenses import DEFENSES, Defense, literal, make_defense
from dcp_core.evaluation import energy, hidden_costs
from dcp_core.evaluation.latency import CLOCKS, Effort, Progress, Round, Work, in_turns, latency
from dcp_core.models import auxiliary, zoo
from dcp_core.provenance import hardware, today, versions

BATCHES = {1: 60, 64: 8}  # queries at once, and calls at least
ENERGY_BATCH = 64
LITERAL = ("mad", "grad2")  # of which there are also versions as published
NONE = "none"
T = TypeVar("T")


@dataclass(frozen=True)
class Candidate:
    """A way to answer: `answer` maps pixels (N, 3, H, W) to posteriors (N, K)."""

    defense: Defense
    implementation: str  # "here", or "literal": as published implementations do it
    answer: Callable[[Tensor], Tensor]
    second: hidden_costs.SecondNetwork | None = None

    @property
    def name(self) -> str:
        """Of the defense, and whether it is the literal version."""
        return self.defense.name + (", literal" if self.implementation == "literal" else "")


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


@dataclass
class _Found:
    """What is measured of one batch size, by the candidates' names."""

    rounds: dict[str, list[Round]] = field(default_factory=dict)
    memory: dict[str, tuple[int, str]] = field(default_factory=dict)
    joules: dict[str, list[float]] = field(default_factory=dict)


def candidates(victim: str, device: str | torch.device = "cpu") -> tuple[list[Candidate], dict[str, str]]:
    """All ways to answer that this victim has networks for, no defense first; and why others are left out.

    Raises:
        VictimError: for a victim that cannot be loaded.
    """
    model = _network(victim, device)

    def clean(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return model(pixels)

    def here(defense: Defense) -> Callable[[Tensor], Tensor]:
        return lambda pixels: defense(logits=clean(pixels), inputs=pixels)

    found, missing = [], {}
    for name in DEFENSES:
        defense = make_defense(name)
        try:
            second = hidden_costs.second_network(defense, victim)
            found.append(Candidate(defense, "here", here(auxiliary.arm(defense, victim, device)), second))
            if name in LITERAL:
                found.append(Candidate(defense, "literal", _literal(name, victim, clean, device), second))
        except zoo.VictimError as error:
            missing[name] = str(error)
    return found, missing


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
    if clock == "processor" and (torch.device(device).type != "cpu" or torch.get_num_threads() > 1):
        raise ValueError("processor time is a latency on a CPU with one thread only: say --device cpu --threads 1")
    ways, missing = candidates(victim, device)
    card = zoo.load(victim).card if victim.startswith(zoo.TORCHVISION) else zoo.card(victim)
    dice, busy, queries = np.random.default_rng(seed), _load(), 0
    found = {batch: _Found() for batch in BATCHES}
    works = {batch: _works(ways, _pictures(batch, card.size, device)) for batch in BATCHES}
    sessions = [(batch, kind) for kind in ("here", "literal") for batch in BATCHES]
    for number, (batch, kind) in enumerate(sessions):
        names = [way.name for way in ways if way.implementation == kind and way.name != NONE]
        if not names:
            continue
        turns = in_turns(
            {name: works[batch][name] for name in [NONE, *names]},
            NONE,
            Effort(BATCHES[batch], seconds=seconds),
            dice,
            CLOCKS[clock],
        )
        words = f"latency, {batch} at once" + (", as published" if kind == "literal" else "")
        rounds, calls = yield from _told(turns, words, 0.15 * number, 0.15, queries, batch)
        queries += calls * batch
        found[batch].rounds |= dict.fromkeys(names if kind == "literal" else [NONE, *names], rounds)
    for batch, each in found.items():
        for place, way in enumerate(ways):
            share = 0.6 + 0.05 * (list(BATCHES).index(batch) + place / len(ways))
            yield Step(f"memory, {batch} at once", share, queries)
            if card.precision == "fp32":  # ONNX Runtime keeps its own books
                each.memory[way.name] = hidden_costs.peak_memory(works[batch][way.name], device)
    reason = method = ""
    try:
        gauge = energy.meter(device)
        method = gauge.method
        settle = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
        windows = energy.per_query(gauge, works[ENERGY_BATCH], ENERGY_BATCH, dice, seconds=pause, settle=settle)
        found[ENERGY_BATCH].joules, _ = yield from _told(windows, "energy", 0.7, 0.3, queries, ENERGY_BATCH)
    except energy.NoMeter as error:
        reason = str(error)
    about = _about(card, device, clock, busy)
    rows = [about | _row(way, batch, each, method) for batch, each in found.items() for way in ways]
    return Costs(rows, missing, reason)


def _network(victim: str, device: str | torch.device) -> torch.nn.Module:
    if victim.startswith(zoo.TORCHVISION) or zoo.card(victim).precision == "fp32":
        network = zoo.network(victim).to(device)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return zoo.load(victim, str(device)).model


def _literal(
    name: str, victim: str, clean: Callable[[Tensor], Tensor], device: str | torch.device
) -> Callable[[Tensor], Tensor]:
    """MAD or GRAD^2 by autograd, picture by picture or class by class, as published implementations do it."""
    strength = make_defense(name).values()["epsilon"]
    network = auxiliary.load(victim, "untrained" if name == "mad" else "surrogate", device)
    if name == "mad":
        return lambda pixels: literal.mad(network, clean(pixels).softmax(-1), pixels, strength)
    target = literal.all_ones(network)
    return lambda pixels: literal.grad2(network, clean(pixels).softmax(-1), pixels, strength, target)


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


def _load() -> str:
    """What else the machine does, where it is too much for times to be trusted."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load + torch.get_num_threads() <= cores + 0.5:
        return ""
    return (
        f"other work ran on the machine (load {load:.1f} on {cores} cores before the first call): trust the ratios, "
        "which were taken in turns, more than the times"
    )


def _about(card: zoo.Card, device: str, clock: str, busy: str) -> dict[str, Any]:
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
        "reason": busy if clock == "wall" else None,
    }


def _row(way: Candidate, batch: int, found: _Found, method: str) -> dict[str, Any]:
    known = latency(found.rounds[way.name], way.name, NONE)
    per_query = [round(value / batch, 6) for value in known.milliseconds]
    ratio = [round(value, 5) for value in known.ratio]
    row = {
        "defense": way.defense.name,
        "parameters": json.dumps(way.defense.values()),
        "strength": getattr(way.defense, way.defense.strength) if way.defense.strength else None,
        "implementation": way.implementation,
        "batch": batch,
        "repeats": known.repeats,
        **dict(zip(("latency_ms", "latency_low_ms", "latency_high_ms"), per_query, strict=True)),
        "latency_p95_ms": round(known.p95, 6) if batch == 1 else math.nan,
        **dict(zip(("latency_ratio", "latency_ratio_low", "latency_ratio_high"), ratio, strict=True)),
        "second_network": way.second.kind if way.second else None,
        "second_parameters": way.second.parameters if way.second else 0,
        "training_seconds": way.second.seconds if way.second else 0.0,
    }
    if way.name in found.memory:
        row["memory_mb"], row["memory_method"] = (
            round(found.memory[way.name][0] / 1e6, 4),
            found.memory[way.name][1],
        )
    if joules := found.joules.get(way.name):
        spread = (float(np.median(joules)), min(joules), max(joules))
        names = ("energy_mj", "energy_low_mj", "energy_high_mj")
        row |= {name: round(1000 * value, 6) for name, value in zip(names, spread, strict=True)}
        row["energy_method"] = method
    return row
