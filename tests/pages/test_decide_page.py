"""The Decide page shows the library's recommendation and its reasons."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest
from test_pages import open_page, texts

sys.path.append(str(Path(__file__).parents[1] / "given"))
from networks import archive, network, saved

from dcp_core import ui
from dcp_core.cli.decide import command
from dcp_core.given import accept, examine
from dcp_core.making import finish
from dcp_core.results.constraints import L1, L1_LIMITS
from dcp_core.results.decision import Needs, measured_cases, operating_points
from dcp_core.results.rows import SHIPPED, load_results, thief_points, write_results
from dcp_core.results.verdict import Verdict, decide

CASE = "KnockoffNets · 2,000 queries · similar pictures (signs_pool) · 20 training epochs · clone resnet8"
OWN = {
    "source": "measured",
    "where": "a test",
    "dataset": "own",
    "victim": "mine",
    "precision": "fp32",
    "victim_error": 5.0,
    "defender_error": 5.0,
    "l1": 0.1,
    "l1_queries": 0.1,
    "attack": "knockoff",
    "queries_from": "own",
    "thief": "as is",
    "budget": 77,
    "hardware": "h",
    "versions": "{}",
    "date": "2026-01-01",
}


def cases() -> dict[str, pd.DataFrame]:
    """As page and command see them."""
    return measured_cases(thief_points(load_results()[0]))


def signs() -> tuple[str, pd.DataFrame]:
    """The shipped case of the road signs that has all defenses, with beginners; all thieves together."""
    return next(item for item in cases().items() if item[0].startswith(CASE) and "signs-resnet8-" not in item[0])


def own_results(home: Path, *errors: dict[str, object]) -> None:
    write_results(
        home / "results" / "own.csv", pd.DataFrame([OWN | {"parameters": "{}"} | each for each in errors])
    )


def own_case() -> str:
    """As the page names it."""
    return next(name for name in cases() if "77 queries" in name)


def seeds(home: Path, **errors: float) -> None:
    """Own results of three seeds: each defense's thief error, which scatters by a point alike for all."""
    strengths = {"dcp": ("beta", 0.9), "rs": ("beta", 0.5)}
    rows = []
    for name, error in errors.items():
        key, strength = strengths.get(name, ("", None))
        given = {"parameters": f'{{"{key}": {strength}}}', "strength": strength} if key else {}
        rows += [{"defense": name, "seed": seed, "adversary_error": error + seed} | given for seed in range(3)]
    own_results(home, *rows)


def assert_says(app: AppTest, verdict: Verdict) -> None:
    """The page says all words of the verdict."""
    word, rest = verdict.headline.split(": ", 1)
    assert any(f"[{word}:] {rest}" in each.value for each in app.markdown if each.value.startswith("## "))
    for sentence in (*verdict.why, *verdict.not_stopped, *filter(None, [verdict.summary])):
        assert sentence in texts(app)


@pytest.mark.parametrize(
    ("errors", "answer"),
    [
        ({"none": 20.0, "dcp": 90.0}, "yes"),
        ({"none": 20.0, "dcp": 20.5}, "no"),
        ({"none": 90.0, "dcp": 95.0}, "no"),
    ],
)
def test_page_and_command_say_the_words_of_the_same_verdict(
    home: Path, errors: dict[str, float], answer: str
) -> None:
    seeds(home, **errors)
    name = own_case()
    verdict = decide(cases()[name], Needs(1.0, 0.9))
    assert verdict.answer == answer
    assert_says(open_page("decide", d_case_knowledgeable=name), verdict)
    printed = CliRunner().invoke(command, [name]).output
    for sentence in (verdict.headline, *filter(None, [verdict.summary]), *verdict.why, *verdict.not_stopped):
        assert sentence in printed.splitlines() or f"- {sentence}" in printed.splitlines()


def test_one_seed_recommends_nothing_on_page_and_command(home: Path) -> None:
    dcp = {"defense": "dcp", "strength": 0.9, "seed": 0, "adversary_error": 90.0}
    own_results(home, {"defense": "none", "seed": 0, "adversary_error": 20.0}, dcp)
    app = open_page("decide", d_case_knowledgeable=own_case())
    assert "[Cannot tell:] one run of each attack is not enough." in texts(app)
    printed = CliRunner().invoke(command, [own_case()]).output
    assert "one run of each attack is not enough" in printed
    assert "deploy:" not in printed
    assert "not on your model" in texts(app)


def test_numbers_of_the_owners_classifier_are_called_so(home: Path, tmp_path: Path) -> None:
    accept("mine", finish(examine(saved(tmp_path, network()), archive(tmp_path))))
    dcp = {"defense": "dcp", "strength": 0.9, "seed": 0, "adversary_error": 90.0}
    own_results(home, {"defense": "none", "seed": 0, "adversary_error": 20.0}, dcp)
    shown = texts(open_page("decide", d_case_knowledgeable=own_case()))
    assert "on mine, which was added by you" in shown
    assert "not on your model" not in shown


@pytest.mark.parametrize("l1_of", L1_LIMITS)
def test_trade_offs_paper_decide_and_the_command_take_the_same_best_point(
    home: Path, monkeypatch: pytest.MonkeyPatch, l1_of: L1
) -> None:
    drawn: dict[str, pd.DataFrame] = {}
    plain = ui.chart

    def chart(*args: object, key: str, **more: object) -> object:
        drawn[key] = more["data"]
        return plain(*args, key=key, **more)

    monkeypatch.setattr(ui, "chart", chart)
    name = next(name for name in cases() if "cifar10-resnet20" in name and "clone resnet20" in name)

    def rs(key: str) -> float:
        """The thief's error at the best point of RS that was drawn, within +1 point."""
        table = drawn.pop(key)
        table = table[(table["defense"] == "rs") & (table["source"] == "measured")]
        if "max_defender_increase" in table and key == "table2":
            table = table[table["max_defender_increase"] == 1]
        return float(table["adversary_error"].iloc[0])

    said = L1_LIMITS[l1_of]
    open_page("tradeoffs", t_data="cifar10", l1_of=said).button_group(key="thief_recipe").set_value("plain").run()
    found = [rs("table2")]
    paper = open_page("paper", paper_data="cifar10", paper_what="the thief's error, as printed", paper_l1_of=said)
    box = next(box for box in paper.selectbox if box.label == "Our thief")
    box.select(next(option for option in box.options if "clone resnet20" in option)).run()
    found.append(rs("table2"))
    open_page("decide", d_thief="like yours", d_case_knowledgeable=name, d_l1_of=said)
    found.append(rs("gains"))
    printed = CliRunner().invoke(command, [name, "--l1-of", l1_of]).output
    assert {round(each, 2) for each in found} == {63.36 if l1_of == "l1_queries" else 62.79}
    strength = 0.64 if l1_of == "l1_queries" else 0.16
    assert any(line.split()[:2] == ["rs", str(strength)] for line in printed.splitlines())
    assert said in printed


def test_limits_change_the_answer(home: Path) -> None:
    name, case = signs()
    app = open_page("decide", d_case_knowledgeable=name, d_increase="0.0", d_l1="0.0")
    assert_says(app, decide(case, Needs(0.0, 0.0)))
    assert "every point has a mean l1 on the thief's queries of at least" in texts(app)
    app.slider(key="d_increase").set_value(10.0)
    app.slider(key="d_l1").set_value(2.0).run()
    assert_says(app, decide(case, Needs(10.0, 2.0)))


def test_on_the_edge_a_second_network_is_refused(home: Path) -> None:
    app = open_page("decide", d_case_knowledgeable=signs()[0], d_place="edge device, one file")
    assert "MAD: needs a second network" in texts(app)


def test_who_needs_labels_alone_is_told_to_send_labels_alone(home: Path) -> None:
    name, case = signs()
    app = open_page("decide", d_case_knowledgeable=name, d_sent="the label only")
    assert_says(app, decide(case, Needs(1.0, 0.9, label_only=True)))
    assert app.slider(key="d_l1").disabled
    assert "serve --victim signs-resnet8 --defense label" in app.main.code[0].value
    printed = CliRunner().invoke(command, [name, "--label-only"]).output
    assert "Yes: send only the label." in printed
    assert "serve --victim signs-resnet8 --defense label" in printed


def test_the_picture_sets_the_thief_against_the_owner_on_the_scale(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, dict] = {}
    plain = ui.chart

    def chart(*args: object, key: str, **more: object) -> object:
        drawn[key] = more
        return plain(*args, key=key, **more)

    monkeypatch.setattr(ui, "chart", chart)
    seeds(home, none=20.0, dcp=60.0)
    app = open_page("decide", d_case_knowledgeable=own_case())
    shown = drawn["thief-against-you"]
    # The victim's error is 5 %, and the errors 20 % and 60 % become 21 % and 61 % on average over the seeds.
    assert shown["data"]["share"].tolist() == pytest.approx([1, 79 / 95, 39 / 95])
    assert "best thief, behind DCP 0.9 41 %" in str(shown["alt"])
    assert "The defense slows." in str(shown["alt"])
    assert "the best measured thief keeps 83 % of your model; behind DCP β = 0.9, 41 %" in texts(app)


def test_a_victim_that_is_not_here_and_a_defense_without_strength_are_no_trouble(home: Path) -> None:
    seeds(home, none=20.0, label=60.0, dcp=20.5)
    app = open_page("decide", d_case_knowledgeable=own_case())
    assert "[Yes:] deploy Label only. It slows this thief." in texts(app)
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


def test_the_shipped_cases_have_verdicts_of_which_none_recommends_what_the_best_thief_overcomes(
    home: Path,
) -> None:
    for case in measured_cases(thief_points(load_results(SHIPPED)[0])).values():
        for needs in (Needs(1.0, 0.9), Needs(10.0, 2.0)):
            verdict = decide(case, needs)
            if verdict.point is not None:
                assert verdict.point["kept"] < 0.9
                assert operating_points(case, needs)["proven"].any()
