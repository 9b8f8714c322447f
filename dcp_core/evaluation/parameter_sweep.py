"""Defended answers to one picture for many values of one parameter, which a page looks up while a slider is dragged."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dcp_core.defenses.base import Defense, Parameter

MOST = 151  # largest number of values in a sweep; on a slider, they are about two pixels apart
FIRST = 5  # values that are timed before the others
TRIALS = 3  # repeats of that timing; the shortest time is used, because other programs can only make it longer
# A sweep of the strength computes most things once for all values. It gets fewer values only if one value takes longer than
# SECONDS / SHARED.
SHARED = 20
SECONDS = 0.1  # time for one sweep; a slow defense gets fewer values


@dataclass(frozen=True)
class Sweep:
    """Answers to one picture for S values of one parameter, all others as they are."""

    values: list[float]
    """Increasing; the first and the last are the limits of the parameter, and its present value is among them."""
    defenses: list[Defense]
    """The defense with each value."""
    answers: Tensor
    """Defended posteriors (S, K)."""


def movable(defense: Defense) -> list[str]:
    """The parameters that `sweep_parameter` can vary: numbers that do not change the guide of a model-based defense."""
    return [
        name
        for name, declared in defense.parameters().items()
        if not declared.choices and not declared.guides and getattr(defense, name) is not None
    ]


def sweep_parameter(
    defense: Defense,
    name: str,
    logits: Tensor,
    *,
    guide: Tensor | None = None,
    seed: int = 0,
    seconds: float = SECONDS,
) -> Sweep:
    """Apply a defense to one answer with many values of one parameter.

    Args:
        name: one of `movable(defense)`.
        logits: clean logits (K,) of one picture.
        guide: the guide (1, K) of a model-based defense for this picture.
        seed: seed of a randomised defense, the same for every value, as in `answers.defend`.
        seconds: approximate time limit. All steps of the parameter's slider are tried, but at most `MOST`, and fewer
            for a slow defense.

    Raises:
        ValueError: if the parameter is not movable, or as the defense does.
    """
    if name not in movable(defense):
        raise ValueError(f"{defense.title} has no number {name!r} to vary; it has: {', '.join(movable(defense))}")
    values = _steps(defense.parameters()[name], getattr(defense, name))
    values = _thinned(values, MOST, getattr(defense, name))
    each = min(_duration(defense, name, values[:FIRST], logits, guide, seed) for _ in range(TRIALS)) / FIRST
    if name != defense.strength or each > seconds / SHARED:
        values = _thinned(values, max(FIRST, int(seconds / each)), getattr(defense, name))
    answers = _answers(defense, name, values, logits, guide, seed)
    return Sweep(values, [dataclasses.replace(defense, **{name: value}) for value in values], answers)


def _duration(
    defense: Defense, name: str, values: Sequence[float], logits: Tensor, guide: Tensor | None, seed: int
) -> float:
    """Seconds for the answers to some values."""
    start = time.perf_counter()
    _answers(defense, name, values, logits, guide, seed)
    return time.perf_counter() - start


def _answers(
    defense: Defense, name: str, values: Sequence[float], logits: Tensor, guide: Tensor | None, seed: int
) -> Tensor:
    """Defended posteriors (S, K)."""

    def given() -> dict[str, object]:
        return {"logits": logits[None], "guide": guide, "generator": torch.Generator().manual_seed(seed)}

    if name == defense.strength:
        return defense.sweep(values, **given())[:, 0]  # type: ignore[arg-type]
    every = [dataclasses.replace(defense, **{name: value})(**given()) for value in values]  # type: ignore[arg-type]
    return torch.cat(every)


def _steps(declared: Parameter, now: float) -> list[float]:
    """Every value that a parameter's slider can have; whole numbers if the present value is one."""
    count = round((declared.high - declared.low) / declared.step)
    values = np.linspace(declared.low, declared.high, count + 1).round(9)
    return [int(value) for value in values] if isinstance(now, int) else values.tolist()


def _thinned(values: list[float], most: int, now: float) -> list[float]:
    """At most `most` of the values at equal distances, with the first, the last and `now`."""
    kept = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    return sorted({*(values[k] for k in kept), now})
