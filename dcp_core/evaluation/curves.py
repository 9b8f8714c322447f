"""Trade-off curves: the effect of a defense on a whole test set, at every strength."""

from collections.abc import Sequence
from typing import Any

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
CHUNK = 2**19  # numbers in one (S, n, K) block: 2 MB, small enough to stay in the processor's cache


def tradeoff_curve(
    defense: Defense,
    logits: Tensor,
    labels: Tensor,
    strengths: Sequence[float] | None = None,
    *,
    guide: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> pd.DataFrame:
    """Apply a defense to a whole test set at each strength, and measure error, distance and calibration.

    Args:
        logits: the victim's clean logits (N, K).
        labels: integers (N,).
        strengths: values of the defense's strength; by default its `grid`. A defense without a strength gives one row.
        guide: for defenses with `needs_inputs`, what they compute from the pictures, (N, K).
        generator: random numbers of `randomised` defenses.

    Returns:
        One row per strength, in the order given. Columns: defense; strength; in percent defender_error, touched (answers
        with l1 > 1e-3), changed (answers with another top class than the clean ones) and ece; the means of l1 (0 to 2)
        and of entropy (nats); the quantiles l1_q05 to l1_q95; n_test; and X_low, X_high, the 95 % interval due to the
        size of the test set, for defender_error, touched and changed (Wilson), l1 and entropy (+- 1.96 SE).

    Raises:
        ValueError: as the defense does, and if there are no answers or not one label for each.
    """
    if not len(logits) or labels.shape != logits.shape[:1]:
        raise ValueError(f"{len(logits)} answers need as many labels, not {tuple(labels.shape)}, and at least one")
    if strengths is None:
        strengths = defense.grid
    rows = max(1, CHUNK // (max(1, len(strengths)) * logits.shape[1]))
    parts, clean_top = [], []
    for start in range(0, len(logits), rows):
        part = slice(start, start + rows)
        given: dict[str, Any] = {
            "logits": logits[part],
            "guide": None if guide is None else guide[part],
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
