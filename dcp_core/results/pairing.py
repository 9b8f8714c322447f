"""Differences of thieves' errors, paired by seed.

Runs of one seed share the clone's initialisation, the sample of the query pool and the order of batches, whatever the
defense. Their difference scatters less than either of them, so it is the difference of each seed that is averaged.
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
    """NaN without a pair."""
    low: float
    """NaN with fewer than two pairs; so are `high` and `p`."""
    high: float
    p: float
    """Two-sided p-value of a mean of zero."""
    pairs: int
    """How many seeds both sides have."""


def paired(rows_a: pd.DataFrame, rows_b: pd.DataFrame) -> Interval:
    """How much larger the thief's error is in `rows_a` than in `rows_b`, over the seeds that both have.

    Args:
        rows_a: one row a seed, with columns `seed` and `adversary_error` (percent). Rows without a seed are left out.
        rows_b: the same.
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
    """How much larger the thief's error is at one point of `rows.thief_points` than at another: paired by seed; the
    difference of the means, without an interval, where no seed is on both sides."""
    found = paired(seeds_of(point), seeds_of(other))
    if found.pairs:
        return found
    return Interval(float(point["adversary_error"] - other["adversary_error"]), np.nan, np.nan, np.nan, 0)


def holm(p_values: Sequence[float], level: float = 1 - CONFIDENCE) -> list[bool]:
    """Which of several hypotheses are rejected so that any true one is with a probability of at most `level`.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979: the smallest p-value must be at most `level` / n,
    the next `level` / (n - 1), and so on until one is not.

    Args:
        p_values: of n tests; NaN, a test that could not be made, counts for nothing and is not rejected.
    """
    rejected = [False] * len(p_values)
    known = sorted((p, i) for i, p in enumerate(p_values) if not np.isnan(p))
    for place, (p, i) in enumerate(known):
        if p > level / (len(known) - place):
            break
        rejected[i] = True
    return rejected
