"""The page Decide: its answer is the library's, and says why."""

from pathlib import Path

import pandas as pd
from test_pages import open_page, texts

from dcp_core import results
from dcp_core.evaluation.decision import AS_IS, Needs, operating_points, recommended
from dcp_core.results import load_results, over_seeds

CASE = "knockoff · signs_pool · 2,000 queries"


def signs() -> tuple[str, pd.DataFrame]:
    """The shipped case of the road signs, all thieves together."""
    rows, _ = load_results(results.SHIPPED)
    points = over_seeds(rows.dropna(subset=["adversary_error"]))
    groups = results.settings(points[points["source"] == "measured"], ["thief"])
    return next((name, group) for name, group in groups.items() if name.startswith(CASE) and "ptq" not in name)


def test_the_first_answer_is_the_librarys(home: Path) -> None:
    name, case = signs()
    app = open_page("decide", d_case_like=name)
    best = recommended(operating_points(case, Needs(1.0, 0.9)))
    assert best is not None
    assert f"**{best['gain']:+.1f} points**" in app.success[0].value
    assert f"mean l1 of {best['l1']:.2f}" in app.success[0].value
    assert f"--defense {best['defense']}" in app.main.code[0].value


def test_limits_change_the_answer(home: Path) -> None:
    name, case = signs()
    app = open_page("decide", d_case_like=name, d_increase="0.0", d_l1="0.0")
    assert "No defense pays here" in app.warning[0].value
    assert "every point has a mean l1 of at least" in texts(app)
    wide = recommended(operating_points(case, Needs(10.0, 2.0)))
    assert wide is not None
    app.slider(key="d_increase").set_value(10.0)
    app.slider(key="d_l1").set_value(2.0).run()
    assert f"{wide['adversary_error']:.1f}" in app.success[0].value


def test_on_the_edge_a_second_network_is_refused(home: Path) -> None:
    app = open_page("decide", d_case_like=signs()[0], d_place="edge, one file")
    assert "MAD: needs a second network" in texts(app)


def test_who_needs_labels_alone_is_told_to_send_labels_alone(home: Path) -> None:
    app = open_page("decide", d_case_like=signs()[0], d_sent="the label")
    assert "Send the label alone" in app.success[0].value
    assert app.slider(key="d_l1").disabled


def test_cleverer_thieves_behind_the_chosen_point_are_named(home: Path) -> None:
    name, case = signs()
    app = open_page("decide", d_case_like=name, d_place="edge, one file", d_increase="0.5", d_l1="2.0")
    best = recommended(operating_points(case, Needs(0.5, 2.0, one_file=True)))
    assert best is not None
    assert best["defense"] == "dcp"
    knowing = case[(case["parameters"] == best["parameters"]) & (case["thief"] != AS_IS)]
    assert len(knowing)
    for error in knowing["adversary_error"]:
        assert f"{error:.1f} ±" in texts(app)
