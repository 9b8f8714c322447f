import json

import pandas as pd
import pytest

from dcp_core import Deception, make_defense
from dcp_core.defenses.base import identity
from dcp_core.plots.overview import accuracy_bars, describe_accuracies, learning_curves
from dcp_core.results.overview import (
    CLONE,
    DEFENDED,
    LABELS,
    VICTIM,
    accuracies,
    along,
    best_along,
    best_thieves,
    learning,
    least_behind,
    levels,
    point_at,
    strengths,
    strongest_case,
)
from dcp_core.results.rows import load_results, thief_points


@pytest.fixture(scope="module")
def points() -> pd.DataFrame:
    rows, _ = load_results()
    return thief_points(rows)


def table(points: pd.DataFrame) -> pd.DataFrame:
    """A weak thief and a strong one; behind DCP 0.9, the best of the strong ones keeps the top class."""
    base = points[(points["victim"] == "signs-resnet8") & (points["defense"] == "none")].iloc[0].to_dict()
    base |= {"unreliable": False, "victim_error": 6.0, "parameters": "{}", "strength": None, "thief": "as is"}
    dcp = base | {"defense": "dcp", "parameters": '{"beta": 0.9}', "strength": 0.9}
    rows = [
        base | {"budget": 100, "adversary_error": 60.0},
        dcp | {"budget": 100, "adversary_error": 70.0},
        base | {"budget": 9000, "adversary_error": 8.0},
        dcp | {"budget": 9000, "adversary_error": 20.0},
        dcp | {"budget": 9000, "adversary_error": 11.0, "thief": "top-1"},
        base | {"budget": 9000, "adversary_error": 10.0, "thief": "top-1"},
    ]
    return pd.DataFrame(rows)


def test_the_thief_with_the_best_clone_is_shown_also_behind_the_defense(points: pd.DataFrame) -> None:
    case = strongest_case(table(points), "signs-resnet8")
    assert case is not None
    assert strengths(case) == [0.9]
    found = accuracies(case, point_at(case, 0.9)).set_index("who")["accuracy"]
    assert found.to_dict() == {VICTIM: 94, CLONE: 92, DEFENDED: 89, LABELS: 90}


def test_nothing_is_shown_of_a_victim_that_nobody_has_attacked(points: pd.DataFrame) -> None:
    assert strongest_case(table(points), "another") is None


def test_labels_are_a_line_and_the_others_bars_with_their_numbers(points: pd.DataFrame) -> None:
    case = strongest_case(table(points), "signs-resnet8")
    assert case is not None
    shown = accuracies(case, point_at(case, 0.9))
    figure = accuracy_bars(shown)
    assert list(figure.data[0].text) == ["94 %", "92 %", "89 %"]
    assert figure.layout.shapes[0].x0 == 90
    assert "clone, defended 89.0 %" in describe_accuracies(shown)


def test_the_shipped_rows_answer_for_the_embedded_victim(points: pd.DataFrame) -> None:
    case = strongest_case(points, "signs-resnet8")
    assert case is not None
    assert strengths(case)


def measured(points: pd.DataFrame) -> pd.DataFrame:
    """One attack: undefended, behind DCP at two strengths, and at one with another gamma."""
    bare = table(points).iloc[2].to_dict() | {"l1": 0.0}
    labels = bare | {"thief": "top-1", "adversary_error": 10.0}
    rows = [bare, labels]
    for defense, error in ((Deception(beta=1.2), 30.0), (Deception(beta=0.9), 20.0), (Deception(gamma=0.7), 50.0)):
        described = {"defense": "dcp", "parameters": json.dumps(identity(defense)), "strength": defense.beta}
        rows.append(bare | described | {"adversary_error": error, "l1": defense.beta / 3})
    return pd.DataFrame([*rows, rows[3] | {"thief": "top-1", "adversary_error": 11.0}])


def test_a_line_along_the_strength_has_the_same_other_parameters_and_begins_undefended(
    points: pd.DataFrame,
) -> None:
    line = along(measured(points), Deception(beta=0.4))
    assert line["strength"].tolist() == [0, 0.9, 1.2]
    assert line["adversary_error"].tolist() == [8, 20, 30]
    assert along(measured(points), Deception(gamma=0.3)).empty
    assert along(measured(points), make_defense("rs")).empty


def test_beside_the_thief_who_trusts_the_answers_there_is_a_line_of_the_best_one(points: pd.DataFrame) -> None:
    case = measured(points)
    best = best_along(case, along(case, Deception(beta=0.4)))
    assert best["strength"].tolist() == [0, 0.9, 1.2]
    assert best["adversary_error"].tolist() == [8, 11, 30]
    assert best["thief"].tolist() == ["as is", "top-1", "as is"]


def test_the_best_thief_behind_a_setting_may_use_labels_only(points: pd.DataFrame) -> None:
    assert least_behind(measured(points), Deception(beta=0.9)) == [8, 11]
    assert least_behind(measured(points), Deception(beta=0.5)) == []


def test_lines_that_no_strength_moves(points: pd.DataFrame) -> None:
    assert levels(measured(points)) == {VICTIM: 6, CLONE: 8, LABELS: 10}
    every = table(points)
    assert best_thieves(every) == {"victim": 6, "best thief, undefended": 8, "best thief from labels only": 10}
    assert best_thieves(pd.concat([every, every.assign(victim="another")])) == {}


def test_a_learning_curve_has_the_best_thief_of_each_number_of_queries(points: pd.DataFrame) -> None:
    case = strongest_case(table(points), "signs-resnet8")
    assert case is not None
    found = learning(table(points), case, 0.9)
    assert found[found["who"] == CLONE][["queries", "accuracy"]].to_numpy().tolist() == [[100, 40], [9000, 92]]
    assert found[found["who"] == DEFENDED]["accuracy"].tolist() == [30, 89]
    assert found[found["who"] == LABELS]["accuracy"].tolist() == [90]


def test_the_replay_begins_with_the_first_point_and_ends_with_the_whole_curve(points: pd.DataFrame) -> None:
    case = strongest_case(table(points), "signs-resnet8")
    assert case is not None
    figure = learning_curves(learning(table(points), case, 0.9), 94)
    begin, end = figure.frames[0].data[0], figure.frames[-1].data[0]
    assert set(begin.x) == {100}
    assert (end.x[-1], end.y[-1]) == (9000, 92)
    halfway = figure.frames[len(figure.frames) // 2].data[0]
    assert 100 < halfway.x[-1] < 9000
    assert 40 < halfway.y[-1] < 92
