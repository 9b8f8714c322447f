import math

import numpy as np
import pandas as pd
import pytest

from dcp_core.results.pairing import holm, paired


def rows(errors: dict[float, float]) -> pd.DataFrame:
    return pd.DataFrame({"seed": list(errors), "adversary_error": list(errors.values())})


def test_the_interval_is_students_over_the_differences_of_each_seed():
    # Differences 4, 5, 6: s = 1, standard error 1 / sqrt(3); t(0.975, 2) = 4.3027; t = 5 sqrt(3) = 8.660, and the
    # two-sided p with 2 degrees of freedom is 1 - t / sqrt(t^2 + 2) = 0.01307.
    found = paired(rows({0: 40, 1: 50, 2: 60}), rows({2: 54, 1: 45, 0: 36}))
    half = 4.3027 / math.sqrt(3)
    assert (found.mean, found.pairs) == (5, 3)
    assert (found.low, found.high) == (pytest.approx(5 - half, abs=1e-3), pytest.approx(5 + half, abs=1e-3))
    assert found.p == pytest.approx(0.01307, abs=1e-4)


def test_what_all_seeds_share_cancels():
    scattered = paired(rows({0: 20, 1: 50, 2: 80}), rows({0: 10, 1: 41, 2: 69}))
    assert scattered.low > 0


def test_only_seeds_of_both_sides_count():
    found = paired(rows({0: 40, 1: 50, 7: 99}), rows({0: 30, 1: 38, 3: 0, math.nan: 0}))
    assert (found.mean, found.pairs) == (11, 2)
    one = paired(rows({0: 40}), rows({0: 30}))
    assert (one.mean, one.pairs) == (10, 1)
    assert math.isnan(one.low)
    assert math.isnan(paired(rows({0: 40}), rows({1: 30})).mean)


def test_differences_without_scatter():
    assert paired(rows({0: 2, 1: 3}), rows({0: 1, 1: 2})).p == 0
    assert paired(rows({0: 2, 1: 3}), rows({0: 2, 1: 3})).p == 1


def test_holm_by_hand():
    # Sorted: .01 <= .05/4, .014 <= .05/3, .03 > .05/2: it and what follows stand, although .04 <= .05/1.
    assert holm([0.04, 0.01, 0.03, 0.014]) == [False, True, False, True]
    assert holm([0.03, math.nan]) == [True, False]
    assert holm([]) == []


def test_of_ten_defenses_without_effect_one_is_found_in_at_most_one_case_of_twenty():
    dice = np.random.default_rng(0)
    seeds = [0, 1, 2, 3, 4]

    def some_error() -> pd.DataFrame:
        return pd.DataFrame({"seed": seeds, "adversary_error": dice.normal(50, 2, len(seeds))})

    found = 0
    for _ in range(300):
        undefended = some_error()
        found += any(holm([paired(some_error(), undefended).p for _ in range(10)]))
    assert found <= 0.05 * 300 + 2 * math.sqrt(300 * 0.05 * 0.95)
