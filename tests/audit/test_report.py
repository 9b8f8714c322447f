"""The report: the same numbers in HTML and JSON, honest about few seeds, offline, and safe with foreign text."""

import dataclasses
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended import dice, pretend, victim_with_answers

from dcp_core.audit import power_law, session, words
from dcp_core.audit.findings import CLOSE, SCHEMA, Findings, findings
from dcp_core.audit.ladder import ladder
from dcp_core.audit.numbers import as_json
from dcp_core.audit.report import as_html, write
from dcp_core.audit.request import Request
from dcp_core.audit.rows import finished
from dcp_core.audit.session import Plan, plan
from dcp_core.defenses import Deception
from dcp_core.files import PRECOMPUTED
from dcp_core.models import zoo
from dcp_core.results.rows import load_results
from dcp_core.results.verdict import decide
from dcp_core.runs.folder import claim, folder_of
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.status import Status

REQUEST = {"defenses": ("mgw",), "price": 2.0}


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan of an audit needs no pictures: the limits are checked on the test answers. And a fast bootstrap."""
    monkeypatch.setattr(session, "_first_answers", lambda request: None)
    monkeypatch.setattr(power_law, "RESAMPLES", 200)
    monkeypatch.setattr(power_law, "EXPONENTS", power_law.EXPONENTS[::2])


def falling(added: float, *, best_is_labels: bool = False) -> Callable[[RunSpec], float]:
    """Errors that fall with the queries; a defense adds some to who trusts it, and labels alone cost 6 points."""
    noise = dice(3)

    def error(spec: RunSpec) -> float:
        thief = spec.make_attack().thief
        base = 6 + 20 * (spec.budget / 1000) ** -0.8 + (6 if thief == "top-1" else 0)
        more = 0 if spec.defense == "none" or thief == "top-1" else added

        return base + more + 0.3 * spec.seed + 0.2 * float(torch.rand(1, generator=noise))

    return error


def found(count: int | None = None, added: float = 1.0, **request: object) -> Findings:
    """The findings after the first `count` runs of an audit."""
    asked = Request.of(victim_with_answers(), **{**REQUEST, **request})  # type: ignore[arg-type]
    planned = plan(asked)
    pretend(planned.runs[:count], falling(added))
    return findings(asked, planned)


def text_of(html: str) -> str:
    """What a reader sees, in one line."""
    parts: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            parts.append(data)

    Reader().feed(re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL))
    return re.sub(r"\s+", " ", " ".join(parts))


def test_a_model_that_was_not_stolen_is_not_called_safe(home: Path, no_drawing: None) -> None:
    asked = Request.of(victim_with_answers(), **REQUEST)  # type: ignore[arg-type]
    planned = plan(asked)
    pretend(planned.runs[:1], lambda spec: 90.0)
    assert words.headline(findings(asked, planned)) == "With 500 queries, this model could not be stolen"


def test_without_a_run_the_report_says_so(home: Path, no_drawing: None) -> None:
    text = text_of(as_html(found(0)))
    assert words.NOTHING in text
    assert "clone's error" not in text


def test_one_seed_is_an_indication_without_intervals(home: Path, no_drawing: None) -> None:
    one = found(7)
    text = text_of(as_html(one))
    assert "One seed: an indication, not evidence." in text
    assert as_json(one)["verdict"]["evidence"] is False
    assert as_json(one)["verdict"]["answer"] == "cannot tell"
    assert "cannot be told" in " ".join(words.verdict(one))
    assert one.series[0].curve is not None
    assert all(each.low is None for each in one.series[0].points.values())


def test_three_seeds_give_intervals_and_one_verdict(home: Path, no_drawing: None) -> None:
    three = found(21)
    assert three.seeds == 3
    assert "indication" not in text_of(as_html(three))
    verdict = decide(three.case, three.request.needs)
    assert as_json(three)["verdict"]["answer"] == verdict.answer == "no"
    assert "Deploy none" in " ".join(words.verdict(three))


def test_a_defense_is_judged_by_the_best_thief_behind_it(home: Path, no_drawing: None) -> None:
    (effect,) = found(21, added=30.0).effects
    assert effect.best == "top-1"  # he loses 6 points; the others lose 30
    assert effect.rise.mean == pytest.approx(6, abs=0.5)
    assert effect.rise.pairs == 3
    assert set(effect.thieves) == {"as is", "top-1", "recovery (bayes)"}


def test_the_price_of_a_close_clone_is_where_the_curve_meets_the_target(home: Path, no_drawing: None) -> None:
    three = found(21)
    assert three.target == pytest.approx(three.victim_error.mean + CLOSE)
    price = three.prices[0]
    expected = 1000 * (20 / (three.target - 6.4)) ** (1 / 0.8)  # 6.4: with the mean of the seeds' offsets
    assert price.queries == pytest.approx(expected, rel=0.1)
    assert price.low is not None
    assert price.low < expected
    stated = float(re.findall(r"about ([\d,]+)", words.queries(price))[0].replace(",", ""))
    assert words.money(price, 2.0).startswith(
        f"{stated * 2 / 1000:,.2f} ("
    )  # of the rounded number that is stated


def test_a_clone_that_stays_worse_is_not_reached(home: Path, no_drawing: None) -> None:
    asked = Request.of(victim_with_answers(), **REQUEST)  # type: ignore[arg-type]
    planned = plan(asked)
    pretend(planned.runs[:21], lambda spec: 60 + 0.1 * spec.seed)
    price = findings(asked, planned).prices[0]
    assert words.queries(price).startswith("not reached within 2,000 queries")
    assert words.money(price, 2.0) == "more than 4.00"
    said = " ".join(words.verdict(findings(asked, planned)))
    assert "No clone came within 5 points of the model's error" in said
    assert "with 2,000 queries or fewer" in said


def test_two_budgets_give_no_curve_but_a_bound(home: Path, no_drawing: None) -> None:
    two = found(2)
    assert two.series[0].curve is None
    assert "needs 3 query budgets, not 2" in text_of(as_html(two))
    assert words.queries(dataclasses.replace(two.prices[0], reached=2000)).startswith("at most 2,000 queries")


def test_the_html_is_one_file_without_scripts_and_the_json_has_the_same_numbers(
    home: Path, no_drawing: None
) -> None:
    found(21)
    page = write(Request.of("small", **REQUEST))  # type: ignore[arg-type]
    html, numbers = page.read_text("utf-8"), json.loads(page.with_name("report.json").read_text("utf-8"))
    assert not re.search(r"<script|<link|src=|https?://|url\(|@import", html)
    assert numbers["schema"] == 1
    assert numbers["verdict"]["text"] in text_of(html)
    point = numbers["learning_curves"][0]["points"][-1]
    assert f"{point['error']['mean']:.1f} ({point['error']['low']:.1f} to" in text_of(html)
    assert len(numbers["rows"]) == 21
    assert all(row["where"] in text_of(html) for row in numbers["rows"])
    assert numbers["queries"]["asked_by_all_runs"] == sum(row["budget"] for row in numbers["rows"])
    assert (
        numbers["queries"]["different_pictures"] <= 3 * 2000
    )  # three seeds; lower budgets ask about the same pictures
    assert html.count('role="img"') == html.count('aria-label="Error of the')


def test_foreign_text_is_escaped(home: Path, no_drawing: None) -> None:
    one = found(7)
    card = dataclasses.replace(one.card, title="<b>x</b><script>alert(1)</script>")
    html = as_html(dataclasses.replace(one, card=card))
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_failed_run_is_listed_with_its_reason_and_one_that_never_began_is_not(
    home: Path, no_drawing: None
) -> None:
    asked = Request.of(victim_with_answers(), **REQUEST)  # type: ignore[arg-type]
    planned = plan(asked)
    pretend(planned.runs[:3], falling(1.0))
    broken, waiting = planned.runs[3:5]
    claim(waiting, folder_of(waiting))
    claim(broken, folder_of(broken))
    Status(state="failed", message="out of memory: use a smaller batch").write(folder_of(broken))
    text = text_of(as_html(findings(asked, planned)))
    assert "failed: out of memory: use a smaller batch" in text
    assert broken.command in text
    assert waiting.command not in text


def test_a_damaged_result_does_not_count_and_hides_no_other(home: Path, no_drawing: None) -> None:
    asked = Request.of(victim_with_answers(), **REQUEST)  # type: ignore[arg-type]
    planned = plan(asked)
    pretend(planned.runs[:4], falling(1.0))
    (folder_of(planned.runs[0]) / "result.json").write_text("{")
    assert len(findings(asked, planned).rows) == 3


def test_rows_that_came_with_the_package_count(home: Path) -> None:
    asked = Request.of("signs-resnet8")
    known = set(load_results()[0]["key"].dropna())
    runs = ladder(asked, [Deception(beta=0.9)])
    assert set(finished(runs)) == {spec.key for spec in runs} & known


def test_the_plan_of_a_finished_audit_is_the_same_again(home: Path, no_drawing: None) -> None:
    asked = Request.of(victim_with_answers(), **REQUEST)  # type: ignore[arg-type]
    first = plan(asked)
    pretend(first.runs[:5], falling(1.0))
    again: Plan = plan(asked)
    assert again == first
    assert zoo.card("small") == asked.card


def test_the_sample_report_is_small_and_of_this_schema() -> None:
    folder = PRECOMPUTED / "audit"
    numbers, html = (
        json.loads((folder / "report.json").read_text("utf-8")),
        (folder / "report.html").read_text("utf-8"),
    )
    assert numbers["schema"] == SCHEMA
    assert numbers["verdict"]["text"] in text_of(html)
    assert len(html) < 1_500_000


def test_a_pool_that_was_given_is_not_called_other_pictures_and_the_small_clone_is_told(
    home: Path, tmp_path: Path, no_drawing: None
) -> None:
    np.savez(tmp_path / "mine.npz", x_train=np.zeros((300, 32, 32, 3), np.uint8))
    victim = victim_with_answers(size=64, dataset="small-1a2b3c4d")
    asked = Request.of(victim, (str(tmp_path / "mine.npz"),), **REQUEST)  # type: ignore[arg-type]
    planned = plan(asked)
    pretend(planned.runs[:3], falling(1.0))
    said = text_of(as_html(findings(asked, planned)))
    assert "sends the pictures that were given (mine.npz), each once" in said
    assert "this network sees the pictures at 32 x 32 pixels" in said
    assert "cannot know whether the thief's pictures" in said
    assert "its training takes longer (--clone-size 64)" in said
    assert "other pictures (" not in said


def test_the_verdict_prices_the_thief_who_needs_fewest_queries(home: Path, no_drawing: None) -> None:
    asked = Request.of(victim_with_answers(), **REQUEST)  # type: ignore[arg-type]
    planned = plan(asked)
    # Labels alone are enough, the probabilities mislead: as with few queries and one seed.
    pretend(planned.runs[:4], lambda spec: 5.0 if spec.make_attack().thief == "top-1" else 60.0)
    said = " ".join(words.verdict(findings(asked, planned)))
    assert "errs on 5.0 %" in said
    assert "takes at most 2,000 queries" in said
    assert "No clone came" not in said
