from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcp_core.results.constraints import added, best_under, limits, pareto_front, strongest, table2


def points(d: list[float], l1: list[float], a: list[float], victim_error: float | None = None) -> pd.DataFrame:
    """One curve: owner's error, l1, thief's error; strengths 0, 1, 2, ..."""
    return pd.DataFrame(
        {
            "defense": "dcp",
            "strength": np.arange(len(d), dtype=float),
            "victim_error": d[0] if victim_error is None else victim_error,
            "defender_error": d,
            "l1": np.nan,
            "l1_queries": l1,
            "adversary_error": a,
            "unreliable": False,
        }
    )


# The worked example; undefended error 8. Points 0 to 3 meet l1 <= .9, and all of them +1, +2 and +5.
EXAMPLE = points([8, 8, 8.1, 8.6, 9.7, 12], [0, 0.2, 0.5, 0.8, 1, 1.2], [18, 19, 21, 24, 27, 33])
NUMBERS = st.integers(0, 40).map(lambda n: n / 10)
CURVES = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=8).map(
    lambda rows: points(*map(list, zip(*rows, strict=True)), victim_error=1.0)
)


@pytest.mark.parametrize(
    ("increase", "discrete", "piecewise"),
    [
        # From (8.6, .8, 24) to (9.7, 1, 27): +1 is reached at t = .4/1.1, thief 24 + 3 * .363636 = 25.0909;
        # l1 = .9 at t = .5, thief 25.5, owner 9.15: within +2 and +5, not within +1.
        (1, 24, 24 + 3 * 0.4 / 1.1),
        (2, 24, 25.5),
        (5, 24, 25.5),
    ],
)
def test_worked_example(increase: float, discrete: float, piecewise: float):
    best = best_under(EXAMPLE, increase, 0.9)
    assert (best.adversary_error, best.between, best.strength, best.reason) == (discrete, (3,), 3.0, "")
    between = best_under(EXAMPLE, increase, 0.9, "piecewise")
    assert between.adversary_error == pytest.approx(piecewise, abs=1e-6)
    assert between.between == (3, 4)
    assert between.strength == pytest.approx(3 + (piecewise - 24) / 3, abs=1e-6)


def test_the_order_of_rows_does_not_matter():
    shuffled = EXAMPLE.sample(frac=1, random_state=3)
    assert best_under(shuffled, 1, 0.9, "piecewise") == best_under(EXAMPLE, 1, 0.9, "piecewise")


def test_a_point_exactly_on_the_limit_meets_it():
    assert 8.05 - 7.05 > 1  # in floating point
    assert best_under(points([7.05, 8.05], [0, 0.9], [10, 20]), 1, 0.9).adversary_error == 20


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        (points([11.5, 12], [0, 0.1], [20, 30], victim_error=10), "at least 1.50 points"),
        (points([10, 10], [1.2, 1], [20, 30]), "mean l1 on the thief's queries of at least 1.00"),
        (points([10, 15], [1.2, 0.1], [20, 30]), "no point meets both"),
        (points([10], [0.1], [float("nan")]), "no point with a measured thief error"),
    ],
)
@pytest.mark.parametrize("mode", ["discrete", "piecewise"])
def test_nothing_within_the_constraints_says_why(curve: pd.DataFrame, reason: str, mode: str):
    best = best_under(curve, 1, 0.9, mode)
    assert np.isnan(best.adversary_error)
    assert best.between == ()
    assert reason in best.reason


def test_piecewise_finds_a_stretch_between_two_points_that_both_fail():
    curve = points([10, 14], [1.3, 0.5], [20, 40], victim_error=10)  # l1 <= .9 from t = .5, +3 up to t = .75
    best = best_under(curve, 3, 0.9, "piecewise")
    assert best.adversary_error == pytest.approx(35)
    assert np.isnan(best_under(curve, 3, 0.9).adversary_error)


def test_l1_is_limited_on_the_thiefs_queries_unless_customers_answers_are_asked_for():
    curve = EXAMPLE.assign(l1=[0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert best_under(curve, 2, 0.9).adversary_error == 24
    assert best_under(curve, 2, 0.9, l1="l1").adversary_error == 27
    assert table2(curve, [2.0])["adversary_error"].tolist() == [24]
    assert table2(curve, [2.0], l1="l1")["adversary_error"].tolist() == [27]


def test_an_l1_that_was_not_measured_is_named():
    assert "no point with a measured l1 on customers' answers" in best_under(EXAMPLE, 2, 0.9, l1="l1").reason


def test_captions_name_both_limits():
    assert limits([1.0], 0.9) == "owner's error up by at most 1 point, mean l1 on the thief's queries ≤ 0.9"
    several = "owner's error up by at most 1, 2.5 points, mean l1 on customers' answers (test set) ≤ 1.2"
    assert limits([1.0, 2.5], 1.2, "l1") == several


@settings(max_examples=60, deadline=None)
@given(CURVES, NUMBERS, NUMBERS)
def test_both_modes_against_brute_force(curve: pd.DataFrame, increase: float, max_l1: float):
    values = curve[["defender_error", "l1_queries", "adversary_error"]].to_numpy(copy=True)
    values[:, 0] -= 1.0

    def best(of: np.ndarray) -> float:
        met = (of[:, 0] <= increase + 1e-9) & (of[:, 1] <= max_l1 + 1e-9)
        return float(of[met, 2].max()) if met.any() else -1.0

    t = np.linspace(0, 1, 401)[:, None]
    dense = np.concatenate([values, *(a + t * (b - a) for a, b in pairwise(values))])
    discrete, piecewise = (
        np.nan_to_num(best_under(curve, increase, max_l1, mode).adversary_error, nan=-1.0)
        for mode in ("discrete", "piecewise")
    )
    assert discrete == best(values)
    assert piecewise >= discrete
    assert piecewise >= best(dense) - 1e-6
    if best(dense) >= 0:  # a feasible stretch shorter than the grid's step may be missed by the grid
        steepest = np.abs(np.diff(values[:, 2])).max(initial=0.0)
        assert piecewise <= max(best(dense) + steepest / 400 + 1e-6, values[:, 2].max())


def test_table2_has_a_cell_for_each_defense_and_increase_and_leaves_out_what_is_unreliable():
    doubtful = EXAMPLE.assign(defense="rs", unreliable=EXAMPLE["strength"] == 3)
    cells = table2(pd.concat([EXAMPLE, doubtful], ignore_index=True))
    assert cells[["defense", "max_defender_increase", "adversary_error"]].to_numpy().tolist() == [
        ["dcp", 1, 24],
        ["dcp", 2, 24],
        ["dcp", 5, 24],
        ["rs", 1, 21],
        ["rs", 2, 21],
        ["rs", 5, 21],
    ]
    assert set(cells["source"]) == {"measured"}
    assert cells["adversary_error_std"].isna().all()
    spread = EXAMPLE.assign(adversary_error_std=EXAMPLE["strength"] / 2)
    assert list(table2(spread, [1.0])["adversary_error_std"]) == [1.5]  # of the point with strength 3
    assert (
        table2(EXAMPLE.assign(adversary_error_std=1.0), [1.0], mode="piecewise")["adversary_error_std"]
        .isna()
        .all()
    )
    assert table2(EXAMPLE[:0]).empty


def test_what_a_defense_adds_is_over_the_undefended_of_its_own_source_and_allowance():
    rows = [("paper", "none", 1, 18.0), ("paper", "none", 2, 19.0), ("measured", "none", 1, 60.0)]
    rows += [("measured", "dcp", 1, 67.0), ("paper", "dcp", 1, 22.0), ("paper", "dcp", 2, 24.0)]
    rows += [("measured", "am", 1, np.nan), ("measured", "rs", 2, 63.0)]  # no cell; nothing to compare with
    cells = pd.DataFrame(
        rows, columns=["source", "defense", "max_defender_increase", "adversary_error"], index=range(7, 15)
    )
    found = added(cells)
    assert list(found["defense"]) == ["dcp", "dcp", "dcp", "am", "rs"]
    assert list(found["adversary_error"][:3]) == [7.0, 4.0, 5.0]
    assert found["adversary_error"][3:].isna().all()


def test_what_a_defense_adds_is_paired_by_seed_where_both_have_the_seeds():
    # Seed by seed 9, 10 and 11; s = 1; half of the interval t(0.975, 2) / sqrt(3) = 2.484. Seed 7 has no pair.
    cells = pd.DataFrame(
        {
            "source": "measured",
            "defense": ["none", "dcp", "rs"],
            "max_defender_increase": 1.0,
            "adversary_error": [47.5, 50.0, 52.5],
            "by_seed": ['{"0": 20, "1": 40, "2": 60, "7": 70}', '{"0": 29, "1": 50, "2": 71}', np.nan],
        }
    )
    dcp, rs = (row for _, row in added(cells).iterrows())
    assert dcp["adversary_error"] == 10
    assert (dcp["low"], dcp["high"]) == (pytest.approx(7.516, abs=1e-3), pytest.approx(12.484, abs=1e-3))
    assert rs["adversary_error"] == 5  # of the means
    assert np.isnan(rs["low"])


@pytest.mark.parametrize("costs", [("defender_error",), ("l1_queries",), ("defender_error", "l1_queries")])
@settings(max_examples=25, deadline=None)
@given(curve=CURVES)
def test_pareto_front_against_brute_force_and_idempotent(costs: tuple[str, ...], curve: pd.DataFrame):
    front = pareto_front(curve, costs)
    rows = [(tuple(row[list(costs)]), row["adversary_error"]) for _, row in curve.iterrows()]
    expected = {
        i
        for i, (cost, thief) in enumerate(rows)
        if not any(
            all(x <= y for x, y in zip(other, cost, strict=True))
            and high >= thief
            and (other, high) != (cost, thief)
            for other, high in rows
        )
    }
    assert set(front.index) == expected
    assert pareto_front(front, costs).equals(front)


def test_pareto_front_by_hand():
    curve = points([1, 1, 2, 3, 3], [0] * 5, [10, 12, 11, 15, 15])
    assert pareto_front(curve).index.tolist() == [1, 3, 4]


def test_the_strongest_thief_has_the_smallest_trusted_undefended_error_and_met_a_defense():
    def setting(undefended: float | None, *, unreliable: bool = False, defended: bool = True) -> pd.DataFrame:
        rows = [("none", undefended, unreliable)] if undefended is not None else []
        rows += [("dcp", 5.0, False)] if defended else []
        return pd.DataFrame(rows, columns=["defense", "adversary_error", "unreliable"])

    weak, strong, one_seed = setting(61.6), setting(29.3), setting(16.5, unreliable=True)
    untried = setting(28.9, defended=False)
    assert strongest({"weak": weak, "strong": strong, "one seed": one_seed, "untried": untried}) == "strong"
    assert strongest({"one seed": one_seed, "no undefended": setting(None), "untried": untried}) is None
