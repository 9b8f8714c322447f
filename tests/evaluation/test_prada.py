"""PRADA, beside a slow program that follows the paper's algorithm line by line."""

import numpy as np
import pytest
from scipy.stats import shapiro

from dcp_core.evaluation.prada import MOST_KEPT, Prada


def by_the_paper(pictures: np.ndarray, classes: np.ndarray) -> tuple[list[float], float]:
    """All distances, and W of those within three standard deviations."""
    sets: dict[int, list[np.ndarray]] = {}
    of_set: dict[int, list[float]] = {}
    threshold: dict[int, float] = {}
    found = []
    for picture, each in zip(pictures, classes.tolist(), strict=True):
        if each not in sets:
            sets[each], of_set[each], threshold[each] = [picture], [], 0.0
            continue
        distance = min(float(np.sqrt(((picture - other) ** 2).sum())) for other in sets[each])
        found.append(distance)
        if distance > threshold[each]:
            sets[each].append(picture)
            of_set[each].append(distance)
            threshold[each] = max(threshold[each], np.mean(of_set[each]) - np.std(of_set[each]))
    values = np.array(found)
    inside = values[np.abs(values - values.mean()) <= 3 * values.std()]
    return found, float(shapiro(inside).statistic)


def queries(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.random((count, 3, 4, 4)), random.integers(0, 5, count)


@pytest.mark.parametrize("at_once", [1, 7, 400])
def test_it_computes_what_the_paper_says_however_the_queries_are_grouped(at_once: int) -> None:
    pictures, classes = queries(0, 400)
    pictures[50:60] = pictures[40:50]  # asked twice
    prada = Prada()
    for start in range(0, 400, at_once):
        prada.see(pictures[start : start + at_once], classes[start : start + at_once])
    distances, statistic = by_the_paper(pictures, classes)
    np.testing.assert_allclose(prada.distances, distances, atol=2e-7)
    assert prada.statistic == pytest.approx(statistic, abs=1e-6)


def test_pictures_made_from_others_raise_the_alarm_and_independent_ones_do_not() -> None:
    customer, thief = Prada(), Prada()
    pictures, classes = queries(1, 300)
    customer.see(pictures, classes)
    assert not customer.alarm
    steps = 10 ** np.random.default_rng(0).uniform(-4, 0, 300)
    thief.see(pictures[np.arange(300) % 5] + steps[:, None, None, None], np.arange(300) % 5)  # around five seeds
    assert thief.alarm


def test_nothing_is_said_of_few_queries_nor_of_one_picture_asked_again_and_again() -> None:
    prada = Prada()
    pictures, classes = queries(2, 90)
    prada.see(pictures, classes)
    assert prada.statistic is None
    same = Prada()
    same.see(np.repeat(pictures[:1], 200, axis=0), np.repeat(classes[:1], 200))
    assert same.statistic is None
    assert not same.alarm


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    prada = Prada()
    for seed in range(3):
        pictures, _ = queries(seed, 900)
        prada.see(pictures[:, :1, :1, :2], np.zeros(900))
    assert prada.kept is not None
    assert len(prada.kept) <= MOST_KEPT
