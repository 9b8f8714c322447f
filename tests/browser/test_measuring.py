"""The Cost page in Chromium: start a measurement, watch it, stop and delete it."""

import re

import pytest
from playwright.sync_api import Browser, expect

from dcp_core.runs import store

pytestmark = pytest.mark.browser


def test_a_measurement_is_begun_watched_stopped_and_deleted(server: str, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{server}/cost?c_seconds=300")
    begin = page.get_by_role("button", name=re.compile("Measure on this machine"))
    begin.wait_for(timeout=120_000)
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached(timeout=120_000)  # moves no more
    begin.click()
    expect(page.get_by_text("running", exact=True)).to_be_visible(timeout=120_000)
    (view,) = store.benches()
    card = page.locator(f".st-key-bench-{view.key}")
    progress = card.get_by_test_id("stProgress")
    expect(progress).to_contain_text("latency, 1 at once", timeout=120_000)
    expect(progress).to_contain_text("to go", timeout=120_000)  # by itself

    card.get_by_role("button", name="Stop").click()
    expect(card.get_by_text("interrupted", exact=True)).to_be_visible()
    card.get_by_role("button", name="Delete").click()
    assert view.folder.exists()  # it asks first
    page.get_by_role("button", name="Yes, delete it").click()
    expect(card).to_have_count(0)
    assert not view.folder.exists()
    assert page.get_by_test_id("stException").count() == 0
    page.close()
