"""The learning curve of a thief: a power law of the clone's error over the number of queries, with intervals from seeds.

error(q) = a + b q^-c, in percent, with a >= 0 and b >= 0. It is fitted by least squares of relative deviations to the mean
errors at the measured budgets. For each exponent c of a grid, the best a and b have a closed form.

The intervals come from a bootstrap over the seeds. A resample moves the errors of a seed at all budgets together, because
runs of one seed share their queries. There are few seeds, so resamples have the distribution of Student's t instead of
being drawn from the seeds: the interval of a mean error is then exactly Student's. See Wu, Annals of Statistics 1986, on
resampling with random weights.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 3  # budgets; a curve through fewer cannot be told from others
BEYOND = 4  # a curve is drawn at most this many times beyond the largest measured budget
EXPONENTS = np.geomspace(0.05, 4.0, 160)
RESAMPLES = 2000
LEVEL = (2.5, 97.5)  # percentiles of the 95 % interval

Numbers = NDArray[np.float64]


class CurveError(ValueError):
    """Measurements through which no curve can be drawn. The message says why."""


@dataclass(frozen=True)
class PowerLaw:
    """A fitted curve.

    Args:
        budgets: the measured query budgets (B,), rising.
        best: a, b and c of the fit to the mean errors, (3,). b is for q in multiples of `unit`.
        draws: a, b and c of each resample, (R, 3); empty (0, 3) with a single seed, because there is no interval then.
        unit: geometric mean of the budgets.
    """

    budgets: Numbers
    best: Numbers
    draws: Numbers
    unit: float

    @property
    def last(self) -> float:
        """The largest number of queries for which the curve may be used: `BEYOND` times the largest budget."""
        return float(self.budgets[-1]) * BEYOND

    def at(self, queries: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """The error in percent at some numbers of queries (n,), and the ends of its 95 % interval (NaN without draws).

        Raises:
            CurveError: for fewer queries than the smallest budget, or more than `last`.
        """
        if queries.min() < self.budgets[0] or queries.max() > self.last:
            raise CurveError(f"the curve holds from {self.budgets[0]:,.0f} to {self.last:,.0f} queries")
        middle = _errors(self.best[None], queries / self.unit)[0]
        if not len(self.draws):
            return middle, np.full_like(middle, np.nan), np.full_like(middle, np.nan)
        low, high = np.percentile(_errors(self.draws, queries / self.unit), LEVEL, axis=0)
        return middle, low, high

    def queries_for(self, error: float) -> tuple[float, float, float]:
        """The number of queries with which the clone's error is `error`, and the ends of its 95 % interval.

        Infinite where the curve never falls so low; an end is NaN without draws. Values above `last` are extrapolated
        too far: show only that they are above.
        """
        middle = float(self._reach(self.best[None], error)[0])
        if not len(self.draws):
            return middle, float("nan"), float("nan")
        # "inverted_cdf" returns one of the values, and so does not compute inf - inf
        low, high = np.percentile(self._reach(self.draws, error), LEVEL, method="inverted_cdf")
        return middle, float(low), float(high)

    def _reach(self, curves: Numbers, error: float) -> Numbers:
        a, b, c = curves.T
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            reached = self.unit * ((error - a) / b) ** (-1 / c)
        return np.where(error <= a, np.inf, np.where(b == 0, 0.0, reached))


def fit(budgets: Numbers, errors: Numbers, *, seed: int = 0) -> PowerLaw:
    """Fit a power law.

    Args:
        budgets: numbers of queries (B,), rising, at least `FEWEST`.
        errors: the clone's error in percent (S, B), a row for each seed.
        seed: seed of the bootstrap.

    Raises:
        CurveError: for fewer than three budgets, or numbers of another shape.
    """
    if len(budgets) < FEWEST:
        raise CurveError(f"a learning curve needs {FEWEST} query budgets, not {len(budgets)}")
    if errors.ndim != 2 or errors.shape[1] != len(budgets) or not len(errors) or not np.isfinite(errors).all():
        raise CurveError(f"the errors must be finite numbers (seeds, {len(budgets)}), not {errors.shape}")
    if not (np.diff(budgets) > 0).all() or budgets[0] <= 0:
        raise CurveError("the query budgets must be positive and rising")
    mean, unit = errors.mean(0), float(np.exp(np.log(budgets).mean()))
    weights = 1 / np.maximum(mean, 1.0) ** 2
    best = _least_squares(budgets / unit, mean[None], weights)[0]
    draws = np.empty((0, 3))
    if len(errors) > 1:
        draws = _least_squares(budgets / unit, _resamples(errors, np.random.default_rng(seed)), weights)
    return PowerLaw(np.asarray(budgets, float), best, draws, unit)


def _resamples(errors: Numbers, rng: np.random.Generator) -> Numbers:
    """Mean errors (R, B) that scatter as the mean over these seeds does, with Student's t of S - 1 degrees of freedom."""
    seeds = len(errors)
    apart = errors - errors.mean(0)
    noise = rng.standard_normal((RESAMPLES, seeds)) @ apart / np.sqrt(seeds * (seeds - 1))
    scale = np.sqrt(rng.chisquare(seeds - 1, (RESAMPLES, 1)) / (seeds - 1))
    return np.clip(errors.mean(0) + noise / scale, 0, 100)


def _least_squares(x: Numbers, means: Numbers, weights: Numbers) -> Numbers:
    """The best a, b, c (R, 3) for each row of mean errors (R, B) over relative queries `x` (B,)."""
    found = np.empty((len(means), 3))
    least = np.full(len(means), np.inf)
    w = weights / weights.sum()
    y = means @ w
    for c in EXPONENTS:
        basis = x**-c
        center = basis @ w
        b = ((means - y[:, None]) * (basis - center)) @ w / (((basis - center) ** 2) @ w)
        a = y - b * center
        through = (means * basis) @ w / ((basis**2) @ w)  # the best b with a = 0
        b = np.where(b < 0, 0.0, np.where(a < 0, through, b))
        a = np.where(b == 0, y, np.maximum(a, 0.0))
        loss = ((means - a[:, None] - b[:, None] * basis) ** 2) @ w
        better = loss < least
        found[better] = np.stack([a, b, np.full_like(a, c)], 1)[better]
        least = np.minimum(least, loss)
    return found


def _errors(curves: Numbers, x: Numbers) -> Numbers:
    """The error (R, n) of each curve at relative queries `x` (n,)."""
    a, b, c = (part[:, None] for part in curves.T)
    return np.clip(a + b * x[None] ** -c, 0, 100)
