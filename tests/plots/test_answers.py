"""The figures of one answer show the numbers they are given."""

import numpy as np
import pandas as pd

from dcp_core import plots

CLASSES = tuple("abcde")
CLEAN = np.array([0.05, 0.6, 0.2, 0.1, 0.05])
DEFENDED = np.array([0.4, 0.3, 0.15, 0.1, 0.05])


def test_bars_show_the_classes_that_matter_most_with_both_winners_starred() -> None:
    figure = plots.answer_bars(CLASSES, CLEAN, DEFENDED, top=3)
    defended, clean = figure.data
    assert (defended.name, clean.name) == ("defended", "clean")
    assert list(clean.y)[::-1] == ["b", "c", "a"]
    assert list(clean.x)[::-1] == [0.6, 0.2, 0.05]
    assert [text.startswith("★") for text in clean.text][::-1] == [True, False, False]
    assert [text.startswith("★") for text in defended.text][::-1] == [False, False, True]
    assert figure.layout.xaxis.title.text == "posterior (probability)"


def test_a_clean_answer_alone_has_one_bar_a_class() -> None:
    (clean,) = plots.answer_bars(CLASSES, CLEAN).data
    assert clean.name == "clean"
    assert len(clean.x) == 5


def test_the_sentence_says_that_the_top_class_changed() -> None:
    sentence = plots.describe_answer(CLASSES, CLEAN, DEFENDED)
    assert "answers b with 0.600" in sentence
    assert "now a with 0.400" in sentence
    assert "l1 distance is 0.700" in sentence


def test_a_function_is_drawn_with_this_answers_points_and_its_threshold() -> None:
    curve = pd.DataFrame({"x": [0.0, 1.0], "y": [1.0, 0.0]})
    points = pd.DataFrame({"x": [0.6], "y": [1.0]})
    figure = plots.function_plot(curve, points, x="y_max", y="α", limit=0.9)
    assert list(figure.data[1].x) == [0.6]
    assert figure.layout.shapes[0].x0 == 0.9
    assert figure.layout.yaxis.title.text == "α"


def test_the_class_map_keeps_exact_zeros_visible_and_their_true_value_in_the_hover() -> None:
    figure = plots.class_map(CLASSES, np.array([1.0, 0, 0, 0, 0]), DEFENDED)
    points = figure.data[1]
    assert min(points.x) > 0
    assert points.customdata[1][0] == 0
    assert figure.layout.xaxis.type == "log"


def test_every_defense_gets_its_own_panel_with_its_cost() -> None:
    table = pd.DataFrame(
        {"defense": ["none", "dcp"], "posterior": [CLEAN, DEFENDED], "l1": [0.0, 0.7], "milliseconds": [0.01, 0.2]}
    )
    figure = plots.all_defenses(CLASSES, table, top=2)
    assert [title.text for title in figure.layout.annotations] == [
        "No defense<br><sup>l1 0.00 · 0.01 ms</sup>",
        "DCP<br><sup>l1 0.70 · 0.20 ms</sup>",
    ]
    assert list(figure.data[0].y)[::-1] == ["b", "a"]
    assert list(figure.data[1].x)[::-1] == [0.3, 0.4]
    assert list(figure.data[1].text)[::-1] == ["", "★"]
