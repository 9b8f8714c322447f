"""All pages in Chromium, with the dashboard started as in the README."""

import re
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, Error, Page, expect

from dcp_core.results.rows import write_results

pytestmark = pytest.mark.browser

POINT = {
    "source": "measured",
    "where": "a test",
    "dataset": "svhn",
    "victim": "v",
    "precision": "fp32",
    "victim_error": 5.0,
    "defense": "dcp",
    "defender_error": 5.0,
    "hardware": "h",
    "versions": "{}",
    "date": "2026-01-01",
}


def open_page(browser: Browser, address: str, width: int = 1280) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(address)
    return page


def test_a_permalink_opened_first_thing_after_a_start_shows_its_state(server: str, browser: Browser) -> None:
    query = "victim=signs-resnet8&picture=7&dcp_beta=0.6&dcp_tau_auto=false&dcp_tau=1.2"
    page = open_page(browser, f"{server}/playground?{query}")
    numbers = page.locator(".gauge b")
    expect(numbers).to_be_visible()
    from dcp_core import Deception, defend
    from dcp_core.models import zoo

    answers = defend(zoo.test_answers("signs-resnet8")[0][7][None], Deception(beta=0.6, tau=1.2))
    expect(numbers).to_contain_text(f"{float((answers.defended - answers.clean).abs().sum()):.3f}")
    expect(page.locator(".bars")).to_be_visible()
    expect(page.get_by_role("link", name="Trade-offs", exact=True)).to_be_visible()
    assert page.locator("[data-testid=stException]").count() == 0
    page.close()


def test_from_the_story_to_the_tradeoffs_to_the_playground_the_address_carries_the_state(
    shared_server: str, browser: Browser
) -> None:
    page = open_page(browser, shared_server)
    page.get_by_role("button", name=re.compile("^Next")).click()
    expect(page.get_by_role("heading", name="2. How a thief uses it")).to_be_in_viewport()
    expect(page).to_have_url(re.compile(r"step=How"))

    page.get_by_role("link", name="Answers that may move little").click()
    expect(page.get_by_role("heading", name="Trade-offs")).to_be_visible()
    expect(page.get_by_text("at β = 0.4").first).to_be_visible()
    expect(page.locator(".live .point").first).to_be_visible()

    page.get_by_role("link", name="Use this setting on one picture").click()
    expect(page.get_by_role("heading", name="Playground")).to_be_visible()
    expect(page).to_have_url(re.compile(r"dcp_beta=0\.4"))
    expect(page.locator(".gauge b")).to_be_visible()
    before = page.locator(".gauge b").inner_text()

    slider = page.get_by_role("slider").first
    slider.focus()
    slider.press("End")
    expect(page).to_have_url(re.compile(r"dcp_beta=1\.5"))
    expect(page.locator(".gauge b")).not_to_have_text(before)
    shared = page.url
    after = page.locator(".gauge b").inner_text()
    page.close()

    second = browser.new_context().new_page()  # another person's browser
    second.goto(shared)
    expect(second.locator(".gauge b")).to_have_text(after)
    second.close()


def test_marks_are_clicked_and_the_limit_is_dragged_on_the_plot_of_thieves(
    tmp_path: Path, server: str, browser: Browser
) -> None:
    rows = [
        {
            **POINT,
            "parameters": f'{{"beta": {beta}}}',
            "strength": beta,
            "adversary_error": error,
            "defender_error": 5 + beta,
            "l1": beta,
        }
        for beta, error in ((0.2, 20.0), (0.5, 50.0), (0.8, 80.0))
    ]
    write_results(tmp_path / "results" / "mine.csv", pd.DataFrame(rows))
    page = open_page(
        browser, f"{server}/tradeoffs?t_data=svhn&axis=increase&increase=0.5"
    )  # below the second mark
    expect(page.get_by_text("All points (21)")).to_be_visible()  # with the paper's 18
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached()
    marks = page.locator(".st-key-thief .trace").filter(has=page.locator(".lines path")).locator(".points .point")
    expect(marks).to_have_count(3)

    def select(mark: int, selected: int) -> None:
        """Click a mark; again where it has moved meanwhile, because a slow page is still drawing what is above."""
        for _ in range(5):
            with suppress(AssertionError, Error):  # an Error: drawn again between two of these lines
                marks.nth(mark).scroll_into_view_if_needed()
                box = marks.nth(mark).bounding_box()
                assert box is not None
                page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, delay=50)
                return expect(page.get_by_text(f"Selected points ({selected})")).to_be_visible(timeout=20_000)
        raise AssertionError(f"{selected} marks cannot be selected")

    select(0, 1)
    page.keyboard.down("Shift")
    select(1, 2)
    page.keyboard.up("Shift")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV of these points").click()
    chosen = pd.read_csv(download.value.path())
    assert sorted(chosen["adversary_error"]) == [20, 50]

    limit = page.get_by_title("Drag to change the limit")
    expect(limit).to_have_text("≤ 0.5")
    box = limit.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 100, y, steps=3)
    dragged = float(limit.inner_text().removeprefix("≤ "))
    assert dragged > 0.5
    page.mouse.up()
    expect(page).to_have_url(re.compile(rf"increase={dragged:g}(&|$)"))
    expect(page.get_by_role("slider", name=re.compile("^Owner's error may rise"))).to_have_value(f"{dragged:g}")

    select(2, 1)
    page.get_by_role("link", name="Use this point in the Playground").click()
    expect(page.get_by_role("heading", name="Playground")).to_be_visible()
    expect(page).to_have_url(re.compile(r"dcp_beta=0\.8"))
    expect(page.get_by_role("slider").first).to_have_value("0.8")
    expect(page.locator(".gauge b")).to_be_visible()
    page.close()


def test_a_link_to_another_page_keeps_a_defense_that_is_not_the_first(
    shared_server: str, browser: Browser
) -> None:
    page = open_page(browser, shared_server)
    page.get_by_role("link", name="Edge device").click()
    expect(page).to_have_url(re.compile(r"defense=Reverse"))
    expect(page.get_by_role("slider").first).to_have_value("0.08")
    page.close()


def test_a_presenter_steps_with_the_arrow_keys_although_a_slider_has_the_focus(
    shared_server: str, browser: Browser
) -> None:
    page = open_page(browser, f"{shared_server}/?view=present")
    expect(page.get_by_role("button", name=re.compile("^Next"))).to_be_visible()
    expect(
        page.locator("[data-test-script-state=notRunning]")
    ).to_be_attached()  # the keys are set at the page's end
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name="2. How a thief uses it")).to_be_visible()
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", name="1. What an API leaks")).to_be_visible()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    assert page.locator(".stDownloadButton:visible").count() == 0
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached()
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_alt_text("QR code of this address")).to_be_visible()
    page.close()


def test_a_phone_shows_the_playground_without_sideways_scrolling(shared_server: str, browser: Browser) -> None:
    page = open_page(browser, f"{shared_server}/playground?victim=signs-resnet8", width=390)
    expect(page.locator(".bars")).to_be_visible()
    overflow = page.get_by_test_id("stMain").evaluate("(page) => page.scrollWidth - page.clientWidth")
    assert overflow <= 0
    expect(page.get_by_test_id("stSlider").filter(has_text="Strength")).to_be_in_viewport()  # beside what it moves
    page.close()
