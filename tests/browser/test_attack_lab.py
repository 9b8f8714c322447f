"""The Attack lab in Chromium: start an attack, watch it, reload, stop, resume, compare and delete."""

import re

import pytest
from playwright.sync_api import Browser, expect

from dcp_core.runs import launch, store

pytestmark = pytest.mark.browser


def test_a_theft_is_launched_watched_stopped_resumed_compared_and_deleted(server: str, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{server}/attack_lab?a_attack=dfme&a_budget=200000&a_pair=false&a_dfme_batch=4")
    page.get_by_role("button", name=re.compile("^Launch the run")).click(timeout=120_000)  # the form is open
    expect(page.get_by_text("Launched 1 run: DFME, 200,000 queries, behind DCP 0.9")).to_be_visible(
        timeout=120_000
    )
    running = page.get_by_text("running", exact=True)
    expect(running).to_be_visible(timeout=120_000)
    (view,) = store.views()
    card = page.locator(f".st-key-run-{view.key}")
    progress = card.get_by_text(re.compile("queries left"))
    expect(progress).to_contain_text("stealing", timeout=120_000)
    before = progress.inner_text()
    expect(progress).not_to_have_text(before)  # it moves by itself
    page.reload()
    expect(progress).to_be_visible()
    expect(page).to_have_url(re.compile(rf"a_runs=.*{view.key[:4]}"))

    card.get_by_role("button", name="Stop").click()
    expect(card.get_by_text("interrupted", exact=True)).to_be_visible()
    assert store.view(view.folder).state == "interrupted"
    reached = store.view(view.folder).queries
    card.get_by_role("button", name="Resume").click()
    expect(card.get_by_text("running", exact=True)).to_be_visible(timeout=120_000)
    launch.stop(view.folder)
    expect(card.get_by_text("interrupted", exact=True)).to_be_visible()
    assert store.view(view.folder).queries >= reached

    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    for row in (1, 2, 3):  # below the header: this run, and two that came with the repository
        table.click(position={"x": 15, "y": 36 * row + 18})
    page.get_by_role("button", name="Show only these 3").click()
    expect(page.locator("[class*=st-key-run-]")).to_have_count(3)
    expect(page.locator(".st-key-thefts .scatterlayer .trace").nth(1)).to_be_visible()

    card.get_by_role("button", name="Duplicate").click()
    form = page.get_by_role("button", name=re.compile("^Launch the run"))
    expect(form).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(form).to_be_hidden()

    card.get_by_role("button", name="Delete").click()
    assert view.folder.exists()  # it asks first
    page.get_by_role("button", name="Yes, delete it").click()
    expect(card).to_have_count(0)
    assert not view.folder.exists()
    assert page.locator("[data-testid=stException]").count() == 0
    page.close()
