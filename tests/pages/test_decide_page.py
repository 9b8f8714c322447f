"""The page Decide: its answer is the library's, and says why."""

from pathlib import Path

import pandas as pd
from test_pages import open_page, texts

from dcp_core.results.decision import AS_IS, Needs, measured_cases, operating_points, recommended
from dcp_core.results.rows import SHIPPED, load_results, thief_points, write_results

CASE = "knockoff · signs_pool · 2,000 queries"


def signs() -> tuple[str, pd.DataFrame]:
    """The shipped case of the road signs, all thieves together."""
    cases = measured_cases(thief_points(load_results(SHIPPED)[0]))
    return next((name, case) for name, case in cases.items() if name.startswith(CASE) and name.endswith("fp32"))


def test_the_first_answer_is_the_librarys(home: Path) -> None:
    name, case = signs()
    app = open_page("decide", d_case_knowledgeable=name)
    best = recommended(operating_points(case, Needs(1.0, 0.9)))
    assert best is not None
    assert f"**{best['gain']:+.1f} points**" in app.success[0].value
    assert f"mean l1 of {best['l1']:.2f}" in app.success[0].value
    assert f"--defense {best['defense']}" in app.main.code[0].value


def test_limits_change_the_answer(home: Path) -> None:
    name, case = signs()
    app = open_page("decide", d_case_knowledgeable=name, d_increase="0.0", d_l1="0.0")
    assert "No defense pays here" in app.warning[0].value
    assert "every point has a mean l1 of at least" in texts(app)
    wide = recommended(operating_points(case, Needs(10.0, 2.0)))
    assert wide is not None
    app.slider(key="d_increase").set_value(10.0)
    app.slider(key="d_l1").set_value(2.0).run()
    assert f"{wide['adversary_error']:.1f}" in app.success[0].value


def test_on_the_edge_a_second_network_is_refused(home: Path) -> None:
    app = open_page("decide", d_case_knowledgeable=signs()[0], d_place="edge, one file")
    assert "MAD: needs a second network" in texts(app)


def test_who_needs_labels_alone_is_told_to_send_labels_alone(home: Path) -> None:
    app = open_page("decide", d_case_knowledgeable=signs()[0], d_sent="the label")
    assert "Send the label alone" in app.success[0].value
    assert app.slider(key="d_l1").disabled
    assert "serve --victim signs-resnet8 --defense label" in app.main.code[0].value


def test_cleverer_thieves_behind_the_chosen_point_are_named(home: Path) -> None:
    name, case = signs()
    app = open_page("decide", d_case_knowledgeable=name, d_place="edge, one file", d_increase="0.5", d_l1="2.0")
    best = recommended(operating_points(case, Needs(0.5, 2.0, one_file=True)))
    assert best is not None
    assert best["defense"] == "dcp"
    knowing = case[(case["parameters"] == best["parameters"]) & (case["thief"] != AS_IS)]
    assert len(knowing)
    for error in knowing["adversary_error"]:
        assert f"{error:.1f} ±" in texts(app)


OWN = {
    "source": "measured",
    "where": "a test",
    "dataset": "own",
    "victim": "mine",
    "precision": "fp32",
    "victim_error": 5.0,
    "defender_error": 5.0,
    "l1": 0.1,
    "attack": "knockoff",
    "queries_from": "own",
    "thief": "as is",
    "budget": 77,
    "hardware": "h",
    "versions": "{}",
    "date": "2026-01-01",
}


def own_results(home: Path, *errors: dict[str, object]) -> None:
    write_results(
        home / "results" / "own.csv", pd.DataFrame([OWN | {"parameters": "{}"} | each for each in errors])
    )


def own_case() -> str:
    """As the page names it."""
    return next(name for name in measured_cases(thief_points(load_results()[0])) if "77 queries" in name)


def test_one_seed_recommends_nothing(home: Path) -> None:
    dcp = {"defense": "dcp", "strength": 0.9, "seed": 0, "adversary_error": 90.0}
    own_results(home, {"defense": "none", "seed": 0, "adversary_error": 20.0}, dcp)
    app = open_page("decide", d_case_knowledgeable=own_case())
    assert "One seed is not enough" in app.warning[0].value
    assert not app.success


def test_a_victim_that_is_not_here_and_a_defense_without_strength_are_no_trouble(home: Path) -> None:
    thieves = [("none", 20.0, None), ("label", 60.0, None), ("dcp", 20.5, 0.9)]
    own_results(
        home,
        *(
            {"defense": name, "strength": strength, "seed": seed, "adversary_error": error + seed}
            for name, error, strength in thieves
            for seed in range(3)
        ),
    )
    app = open_page("decide", d_case_knowledgeable=own_case())
    assert (
        "**Label only.** It takes this thief from 21.0 ± 1.0 % to 61.0 ± 1.0 %: **+40.0 points**"
        in app.success[0].value
    )
    assert "not measured for Label only on this victim" in texts(app)
    timed = {
        name: OWN[name]
        for name in ("source", "where", "dataset", "victim", "precision", "hardware", "versions", "date")
    }
    bench = timed | {
        "defense": "none",
        "parameters": "{}",
        "batch": 1,
        "implementation": "here",
        "latency_ratio": 1.0,
    }
    write_results(home / "results" / "bench.csv", pd.DataFrame([bench]))  # which lacks the recommended one
    assert "not measured for Label only on this victim" in texts(
        open_page("decide", d_case_knowledgeable=own_case())
    )


def test_a_case_without_an_undefended_thief_is_not_offered(home: Path) -> None:
    own_results(
        home,
        {"defense": "dcp", "strength": 0.9, "seed": 0, "adversary_error": 90.0},
        {"defense": "rs", "strength": 0.3, "seed": 0, "adversary_error": 80.0},
    )
    app = open_page("decide")
    assert not any("77 queries" in option for option in app.selectbox(key="d_case_knowledgeable").options)
