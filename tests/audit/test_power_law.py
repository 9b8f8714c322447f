"""The learning curve: it finds known parameters, its intervals cover at their rate, and it refuses to guess."""

import numpy as np
import pytest

from dcp_core.audit import power_law
from dcp_core.audit.power_law import BEYOND, CurveError, fit

BUDGETS = np.array([500.0, 1000, 2000, 5000, 10_000])


def truth(queries: np.ndarray, a: float = 6.0, b: float = 30.0, c: float = 0.7) -> np.ndarray:
    """A known curve, percent."""
    return a + b * (queries / 1000) ** -c


def measured(seeds: int, dice: np.random.Generator, scatter: float = 0.06) -> np.ndarray:
    """Errors (seeds, 5) that scatter around the known curve; runs of one seed deviate together."""
    together, alone = dice.standard_normal((seeds, 1)), dice.standard_normal((seeds, len(BUDGETS)))
    return truth(BUDGETS) * (1 + scatter * (together + alone))


def test_a_curve_without_scatter_is_found_again() -> None:
    found = fit(BUDGETS, np.stack([truth(BUDGETS)] * 3))
    queries = np.array([700.0, 20_000, 40_000])
    middle, low, high = found.at(queries)
    assert middle == pytest.approx(truth(queries), rel=0.01)
    assert low == pytest.approx(high, rel=1e-6)
    assert found.queries_for(float(truth(np.array([3000.0]))[0]))[0] == pytest.approx(3000, rel=0.01)


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_intervals_cover_at_their_rate(seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_law, "RESAMPLES", 200)
    monkeypatch.setattr(power_law, "EXPONENTS", np.geomspace(0.05, 4.0, 60))
    dice = np.random.default_rng(0)
    beyond, reach = np.array([2 * BUDGETS[-1]]), 3000.0
    covered = []
    for trial in range(120):
        found = fit(BUDGETS, measured(seeds, dice), seed=trial)
        _, low, high = found.at(beyond)
        _, least, most = found.queries_for(float(truth(np.array([reach]))[0]))
        covered.append((low[0] <= truth(beyond)[0] <= high[0], least <= reach <= most))
    rates = np.mean(covered, axis=0)
    assert (rates >= 0.88).all(), rates  # 0.95 - 3.5 standard errors of 120 trials
    assert (rates <= 1.0).all()


def test_more_seeds_give_a_narrower_interval() -> None:
    def width(seeds: int) -> float:
        dice = np.random.default_rng(1)
        ends = [fit(BUDGETS, measured(seeds, dice)).at(BUDGETS[-1:])[1:] for _ in range(5)]
        return float(np.median([high[0] - low[0] for low, high in ends]))

    assert width(8) < width(3)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_budgets_give_no_curve(count: int) -> None:
    with pytest.raises(CurveError, match="needs 3 query budgets"):
        fit(BUDGETS[:count], np.ones((3, count)))


def test_one_seed_gives_a_curve_without_an_interval() -> None:
    found = fit(BUDGETS, truth(BUDGETS)[None])
    assert np.isnan(found.at(BUDGETS)[1]).all()
    assert np.isnan(found.queries_for(20.0)[1])


def test_the_curve_ends_four_times_beyond_the_largest_budget() -> None:
    found = fit(BUDGETS, truth(BUDGETS)[None])
    found.at(np.array([BEYOND * BUDGETS[-1]]))
    for queries in (BEYOND * BUDGETS[-1] + 1, BUDGETS[0] - 1):
        with pytest.raises(CurveError, match="the curve holds from"):
            found.at(np.array([queries]))


def test_an_error_below_the_curves_floor_is_never_reached() -> None:
    found = fit(BUDGETS, np.stack([truth(BUDGETS) + d for d in (-0.1, 0.0, 0.1)]))
    assert found.queries_for(3.0)[0] == np.inf


def test_an_error_that_does_not_fall_gives_a_flat_curve() -> None:
    found = fit(BUDGETS, np.array([[20.0, 21, 22, 23, 24]]))
    middle, _, _ = found.at(BUDGETS)
    assert middle == pytest.approx(np.full(5, middle[0]))
    assert found.queries_for(10.0)[0] == np.inf
