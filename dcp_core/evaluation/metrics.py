"""Metrics of perturbed posteriors: error, l1 distance, calibration, fidelity, and their statistical uncertainty.

Posteriors are (N, K) for one batch, or (S, N, K) for S strengths, written as (..., N, K). Shares are in percent, 0 to 100.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TOUCHED = 1e-3  # an answer with a larger l1 counts as perturbed; rounding in float32 stays below 1e-5
ECE_BINS = 15
Z95 = 1.959964  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class PerAnswer:
    """Metrics of each single answer; every field is (..., N)."""

    l1: Tensor
    """Sum of |y' - y| over the classes (Eq. 2), 0 to 2."""
    top: Tensor
    """The most probable class; the first one if several are equal."""
    confidence: Tensor
    """The posterior of that class."""
    entropy: Tensor
    """Entropy of the posterior in nats, 0 to log K."""


def per_answer(answers: Tensor, clean: Tensor) -> PerAnswer:
    """Metrics of perturbed posteriors (..., N, K) against the clean ones (N, K)."""
    confidence, top = answers.max(-1)
    l1 = (answers - clean).abs_().sum(-1)
    # 0 log 0 = 0; the smallest normal float32 avoids log 0
    logs = answers.clamp_min(torch.finfo(torch.float32).tiny).log_()
    entropy = 0.0 - logs.mul_(answers).sum(-1)  # subtracted, because the negative of 0.0 is shown as -0.00
    return PerAnswer(l1, top, confidence, entropy.clamp_min_(0.0))


def error(answers: Tensor, labels: Tensor) -> Tensor:
    """Classification error in percent, (...), of posteriors or logits (..., N, K) against labels (N,)."""
    return percent(answers.argmax(-1) != labels)


def fidelity(clone: Tensor, victim: Tensor) -> Tensor:
    """Percentage of pictures, (...), for which clone (..., N, K) and victim (N, K) have the same top class."""
    return percent(clone.argmax(-1) == victim.argmax(-1))


def percent(flags: Tensor) -> Tensor:
    """Exact percentage of true values along the last axis, float64."""
    return flags.double().mean(-1) * 100


def expected_calibration_error(confidence: Tensor, correct: Tensor, bins: int = ECE_BINS) -> Tensor:
    """ECE of Guo et al. (ICML 2017), in percentage points, 0 to 100.

    Sum over equal-width bins ((m-1)/M, m/M] of |accuracy - confidence|, weighted by the bin's share of answers.

    Args:
        confidence: posteriors of the top class (..., N).
        correct: whether the top class is the label, bool (..., N).
    """
    rows = confidence.reshape(-1, confidence.shape[-1])
    gap = correct.reshape(rows.shape).double() - rows.double()
    place = (rows * bins).ceil_().long().sub_(1).clamp_(0, bins - 1)
    place += torch.arange(len(rows), device=rows.device)[:, None] * bins
    sums = torch.bincount(place.flatten(), weights=gap.flatten(), minlength=len(rows) * bins)
    ece = sums.view(len(rows), bins).abs().sum(-1) * (100 / rows.shape[-1])
    return ece.view(confidence.shape[:-1])


def wilson(share: np.ndarray | float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval (low, high) of a percentage measured on n independent pictures (Wilson, 1927).

    Unlike the normal approximation, it stays within 0 to 100 and has a positive width at 0 and at 100.
    """
    p = np.asarray(share, dtype=float) / 100
    shrink = 1 + Z95**2 / n
    middle = (p + Z95**2 / (2 * n)) / shrink
    half = Z95 * np.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2)) / shrink
    # clipped because rounding can give -1e-17 instead of 0
    return np.clip(middle - half, 0, 1) * 100, np.clip(middle + half, 0, 1) * 100


def standard_error(values: Tensor) -> Tensor:
    """Standard error of the mean along the last axis, (...); NaN for a single value."""
    return values.double().std(-1) / values.shape[-1] ** 0.5
