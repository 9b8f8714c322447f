"""Differences between thieves' errors, paired by seed.

Runs with the same seed share the clone's initialisation, the sample of the query pool and the order of batches, for all
defenses. The difference of two such runs varies less than their errors. Therefore differences are computed for each seed
and then averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from dcp_core.results.rows import seeds_of

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean of paired differences in percentage points, with its 95 % t interval."""

    mean: float
    """NaN if there is no pair."""
    low: float
    """`low`, `high` and `p` are NaN if there are fewer than two pairs."""
    high: float
    p: float
    """Two-sided p-value of the hypothesis that the true mean is zero."""
    pairs: int
    """Number of common seeds."""


def paired(rows_a: pd.DataFrame, rows_b: pd.DataFrame) -> Interval:
    """The mean difference of the thief's error, `rows_a` minus `rows_b`, over the seeds that both have.

    Args:
        rows_a, rows_b: one row for each seed, with columns `seed` and `adversary_error` (percent). Rows without a seed
            are left out.
    """
    a, b = (rows.dropna(subset=["seed"]).set_index("seed")["adversary_error"] for rows in (rows_a, rows_b))
    differences = (a - b).dropna().to_numpy(float)
    pairs = len(differences)
    mean = float(differences.mean()) if pairs else np.nan
    if pairs < 2:
        return Interval(mean, np.nan, np.nan, np.nan, pairs)
    error = float(differences.std(ddof=1)) / pairs**0.5
    if error == 0:
        return Interval(mean, mean, mean, float(mean == 0), pairs)
    half = float(student.ppf((1 + CONFIDENCE) / 2, pairs - 1)) * error
    p = 2 * float(student.sf(abs(mean) / error, pairs - 1))
    return Interval(mean, mean - half, mean + half, p, pairs)


def difference(point: pd.Series, other: pd.Series) -> Interval:
    """The difference of the thief's error between two points of `rows.thief_points`, `point` minus `other`, paired by seed.

    Without a common seed it is the difference of the means, without an interval.
    """
    found = paired(seeds_of(point), seeds_of(other))
    if found.pairs:
        return found
    return Interval(float(point["adversary_error"] - other["adversary_error"]), np.nan, np.nan, np.nan, 0)


def holm(p_values: Sequence[float], level: float = 1 - CONFIDENCE) -> list[bool]:
    """Which of n hypotheses are rejected, such that the probability to reject any true one is at most `level`.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979: the smallest p-value must be at most `level` / n,
    the next `level` / (n - 1), and so on. The first larger one and all after it are not rejected.

    Args:
        p_values: p-values of the n tests. NaN means that a test was impossible: it is not counted in n, and not rejected.
        level: family-wise error rate.
    """
    rejected = [False] * len(p_values)
    known = sorted((p, i) for i, p in enumerate(p_values) if not np.isnan(p))
    for place, (p, i) in enumerate(known):
        if p > level / (len(known) - place):
            break
        rejected[i] = True
    return rejected
