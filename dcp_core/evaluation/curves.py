"""Trade-off curves over a whole test set, and the constraints of Table II on them.

A curve is a DataFrame with one row a strength. Points for the constraints are rows of `dcp_core.results.COLUMNS`:
they need `strength`, `victim_error`, `defender_error`, `adversary_error` and an l1.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dcp_core.defenses.base import Defense
from dcp_core.evaluation.metrics import (
    TOUCHED,
    Z95,
    PerAnswer,
    expected_calibration_error,
    per_answer,
    percent,
    standard_error,
    wilson,
)

QUANTILES = (5, 25, 50, 75, 95)
CHUNK = 2**19  # numbers in one (S, n, K) block: 2 MB, so that the passes over it stay in the cache
ROUNDING = 1e-9  # 6.37 - 5.37 must not exceed 1

Mode = Literal["discrete", "piecewise"]


def tradeoff_curve(
    defense: Defense,
    logits: Tensor,
    labels: Tensor,
    strengths: Sequence[float] | None = None,
    *,
    inputs: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> pd.DataFrame:
    """What `defense` does to a whole test set at each strength.

    Args:
        logits: the victim's clean logits (N, K).
        labels: integers (N,).
        strengths: values of the defense's strength; its `grid` without. A defense without a strength gives one row.
        inputs: the pictures, for defenses with `needs_inputs`.
        generator: randomness of `randomised` defenses.

    Returns:
        One row a strength, in the order given. Columns: defense, strength, defender_error, touched (share of answers
        with l1 > 1e-3), changed (share whose top class is another one than the clean answer's), ece, all in percent;
        l1 (mean), entropy (mean, nats), the quantiles l1_q05 to l1_q95, n_test; and X_low, X_high, the 95 % band
        from the size of the test set, for defender_error, touched, changed (Wilson), l1 and entropy (+- 1.96 SE).

    Raises:
        ValueError: as the defense does, and unless there is one label for each of N > 0 answers.
    """
    if not len(logits) or labels.shape != logits.shape[:1]:
        raise ValueError(f"{len(logits)} answers need as many labels, not {tuple(labels.shape)}; at least one")
    if strengths is None:
        strengths = defense.grid
    rows = max(1, CHUNK // (max(1, len(strengths)) * logits.shape[1]))
    parts, clean_top = [], []
    for start in range(0, len(logits), rows):
        part = slice(start, start + rows)
        given: dict[str, Any] = {
            "logits": logits[part],
            "inputs": None if inputs is None else inputs[part],
            "generator": generator,
        }
        answers = defense.sweep(strengths, **given) if defense.strength else defense(**given)[None]
        clean = logits[part].softmax(-1)
        parts.append(per_answer(answers, clean))
        clean_top.append(clean.argmax(-1))
    every = PerAnswer(*(torch.cat([getattr(part, f) for part in parts], -1) for f in PerAnswer.__annotations__))
    correct = every.top == labels
    l1 = every.l1.cpu().numpy()
    curve = pd.DataFrame(
        {
            "defense": defense.name,
            "strength": list(map(float, strengths)) if defense.strength else [np.nan],
            "defender_error": percent(~correct).cpu(),
            "l1": l1.mean(-1, dtype=float),
            "touched": percent(every.l1 > TOUCHED).cpu(),
            "changed": percent(every.top != torch.cat(clean_top)).cpu(),
            "entropy": every.entropy.double().mean(-1).cpu(),
            "ece": expected_calibration_error(every.confidence, correct).cpu(),
            "n_test": len(logits),
        }
    )
    for share in ("defender_error", "touched", "changed"):
        curve[f"{share}_low"], curve[f"{share}_high"] = wilson(curve[share].to_numpy(), len(logits))
    for mean, values in (("l1", every.l1), ("entropy", every.entropy)):
        half = Z95 * standard_error(values).cpu().numpy()
        curve[f"{mean}_low"], curve[f"{mean}_high"] = curve[mean] - half, curve[mean] + half
    for percentage, values in zip(QUANTILES, np.percentile(l1, QUANTILES, axis=-1), strict=True):
        curve[f"l1_q{percentage:02d}"] = values
    return curve


@dataclass(frozen=True)
class Best:
    """The best thief error that a defense can force under both constraints."""

    adversary_error: float
    """Percent; NaN if no point meets the constraints."""
    between: tuple[Hashable, ...]
    """Index labels of the point that attains it, or of the two measured points that it lies between."""
    strength: float
    """Of that point; linear between two."""
    reason: str
    """Why there is none; else empty."""


def best_under(
    points: pd.DataFrame,
    max_defender_increase: float,
    max_l1: float,
    mode: Mode = "discrete",
    *,
    l1: Literal["l1", "l1_queries"] = "l1",
) -> Best:
    """A cell of Table II: the largest thief error with the owner's error and the l1 distance held down.

    Args:
        points: measured points of *one* curve (one defense, victim, attack, seed or mean over seeds). Rows that lack a
            number are left out.
        max_defender_increase: percentage points of defender error over the undefended victim's.
        max_l1: mean l1 distance.
        mode: "discrete", only points that were measured; "piecewise", also between neighbours in strength, as if all
            three numbers were linear there (exact: each segment is cut to where both constraints hold).
        l1: "l1" on the test set; "l1_queries" on the thief's queries, as in the paper's released code.
    """
    known = points.dropna(subset=["victim_error", "defender_error", "adversary_error", l1]).sort_values("strength")
    if known.empty:
        return Best(np.nan, (), np.nan, "no point with a measured thief error")
    increase = (known["defender_error"] - known["victim_error"]).to_numpy(float)
    costs = np.column_stack([increase, known[l1].to_numpy(float)])  # (P, 2)
    thief, strength = known["adversary_error"].to_numpy(float), known["strength"].to_numpy(float)
    limits = np.array([max_defender_increase, max_l1]) + ROUNDING

    # A candidate is (segment start i, fraction t towards point i + 1); a measured point has t = 0.
    candidates = [(i, 0.0) for i in np.flatnonzero((costs <= limits).all(1))]
    if mode == "piecewise":
        for i in range(len(known) - 1):
            candidates += [(i, t) for t in _feasible_ends(costs[i], costs[i + 1], limits) if 0 < t < 1]
    if not candidates:
        return Best(np.nan, (), np.nan, _why(costs, max_defender_increase, max_l1))

    def at(values: np.ndarray, i: int, t: float) -> float:
        return float(values[i] + t * (values[i + 1] - values[i])) if t else float(values[i])

    i, t = max(candidates, key=lambda c: at(thief, *c))
    between = tuple(known.index[i : i + 2]) if t else (known.index[i],)
    return Best(at(thief, i, t), between, at(strength, i, t), "")


def _feasible_ends(a: np.ndarray, b: np.ndarray, limits: np.ndarray) -> tuple[float, ...]:
    """Both ends, as fractions of the way from a to b, of the part where every cost is within its limit."""
    low, high = 0.0, 1.0
    for start, slope, limit in zip(a, b - a, limits, strict=True):
        if slope == 0:
            if start > limit:
                return ()
        elif slope > 0:
            high = min(high, (limit - start) / slope)
        else:
            low = max(low, (limit - start) / slope)
    return (low, high) if low <= high else ()


def _why(costs: np.ndarray, max_increase: float, max_l1: float) -> str:
    least_increase, least_l1 = costs.min(0)
    if least_increase > max_increase + ROUNDING:
        return f"every point raises the owner's error by at least {least_increase:.2f} points"
    if least_l1 > max_l1 + ROUNDING:
        return f"every point has a mean l1 of at least {least_l1:.2f}"
    return "no point meets both constraints at once"


def pareto_front(points: pd.DataFrame, costs: Sequence[str] = ("defender_error",)) -> pd.DataFrame:
    """The points that no other one beats: none has a thief error as high at costs as low, and one of them better.

    Equal points all stay. Rows that lack one of the numbers are left out; the rest comes sorted by cost.
    """
    known = points.dropna(subset=["adversary_error", *costs])
    values = np.column_stack([known[list(costs)].to_numpy(float), -known["adversary_error"].to_numpy(float)])
    no_worse = (values[:, None] <= values[None]).all(-1)  # [i, j]: i is at least as good as j everywhere
    beaten = (no_worse & ~no_worse.T).any(0)
    return known[~beaten].sort_values([*costs, "adversary_error"])


def interpolate(curve: pd.DataFrame, column: str, strength: float) -> float:
    """`column` at a strength between two measured ones, linear; NaN outside what was measured."""
    known = curve.dropna(subset=["strength", column]).sort_values("strength")
    if known.empty:
        return float("nan")
    x, y = known["strength"].to_numpy(float), known[column].to_numpy(float)
    return float(np.interp(strength, x, y, left=np.nan, right=np.nan))
