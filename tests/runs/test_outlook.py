"""What is said of a budget before a launch, and of the clones afterwards, follows from measured errors."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from dcp_core.results.rows import SHIPPED, load_results, thief_points
from dcp_core.runs import store
from dcp_core.runs.describe import card_of, clearest_pair, courses_of
from dcp_core.runs.outcome import UNSCORED, sentence_of
from dcp_core.runs.outlook import USUAL_BUDGET, outlook, usual_budget
from dcp_core.runs.spec import RunSpec

SIGNS = RunSpec("signs-resnet8", budget=100, pool="signs_pool")


@pytest.fixture(scope="module")
def points() -> pd.DataFrame:
    return thief_points(load_results(SHIPPED)[0])


def done(error: float, **changes: object) -> store.RunView:
    spec = dataclasses.replace(SIGNS, **changes)  # type: ignore[arg-type]
    row = {"adversary_error": error, "fidelity": 100 - error}
    return store.RunView(Path(spec.key), "done", spec, fraction=1.0, result={"rows": [row]})


def test_a_budget_with_which_an_attack_failed_is_called_hopeless_before_the_launch(points: pd.DataFrame) -> None:
    maze = RunSpec("signs-resnet8", "maze", budget=2000)
    found = outlook(points, maze)
    assert found.hopeless
    assert (
        "even 38,400 queries gave a clone that misses 80 of 100" in found.words
    )  # the mean of three seeds in fig3.csv
    more = outlook(points, dataclasses.replace(maze, budget=120_000))
    assert not more.hopeless
    assert "120,000 queries → clone error 58 %" in more.words


def test_measurements_on_another_victim_are_named_and_call_nothing_hopeless(points: pd.DataFrame) -> None:
    found = outlook(points, RunSpec("cifar10-resnet20", "maze", budget=2000))
    assert "Not measured on this victim. On signs-resnet8" in found.words
    assert not found.hopeless
    assert not outlook(points[:0], RunSpec("cifar10-resnet20", "maze", budget=2000)).words


def test_the_first_budget_fits_the_attack(points: pd.DataFrame) -> None:
    assert usual_budget(points, "maze") == usual_budget(points, "disguide") == 120_000  # 38,400 failed
    assert usual_budget(points, "dfme") == 1_000_000  # 112,000 failed
    short = points[points["budget"] < 100_000]
    assert usual_budget(short, "maze") == 38_400
    assert usual_budget(points[:0], "maze") == USUAL_BUDGET
    assert usual_budget(points, "knockoff") == USUAL_BUDGET


def test_the_sentence_compares_an_undefended_clone_with_its_twin() -> None:
    twin = {"defense": "dcp", "defense_parameters": {"beta": 1.2}}
    card = card_of("signs-resnet8")
    assert card is not None
    assert card.test_accuracy == pytest.approx(93.37)
    said = sentence_of([done(70.0, **twin), done(37.0), done(90.0, seed=1)])
    assert said == (
        "Undefended, the clone misses 37 of 100 test pictures; behind DCP 1.2 it misses 70. The victim itself misses 7, "
        "guessing 94. The thief keeps 65 % of the model undefended, 27 % behind the defense."
    )
    alone = sentence_of([done(70.0, **twin), done(90.0, seed=1)])
    assert (
        "The best of these clones (KnockoffNets, 100 similar pictures, behind DCP 1.2) misses 70 of 100" in alone
    )
    assert sentence_of([store.RunView(Path(SIGNS.key), "queued", SIGNS)]) == UNSCORED


def test_runs_in_a_chart_have_names_that_tell_them_apart() -> None:
    views = {view.key: view for view in store.shipped()}
    pair = [views[key] for key in clearest_pair(list(views.values()))]
    assert courses_of(pair)[0]["name"].unique().tolist() == ["undefended", "DCP 0.9"]
    several = list(views.values())[:8]
    names = courses_of(several)[0].groupby("run")["name"].unique()
    assert len({name for each in names for name in each}) == len(several)
