"""Every page in Chromium, light and dark, wide and narrow: can everyone read it, and does it look as it did?

`axe.min.js.gz` has axe-core 4.14.1 by Deque Systems (Mozilla Public License 2.0), unchanged from the npm package `axe-core`.
`make looks` takes the pictures of `looks/` again: after a page has changed on purpose, and after you have seen the change.
"""

import gzip
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from looks import MOST, SQUARE, differing, load, looks, path_of, save
from playwright.sync_api import Browser, Page, expect

from dcp_core.ui import PAGES

pytestmark = pytest.mark.browser

AXE = gzip.decompress((Path(__file__).parent / "axe.min.js.gz").read_bytes()).decode()
RULES = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]},
    "dark": {"type": "rule", "values": ["color-contrast"]},  # the others do not depend on the colour scheme
}
CHECK = """
async (runOnly) => {
  const faded = [['[data-stale=true]']];  // while their new content is computed
  const found = await axe.run({exclude: faded}, {runOnly, resultTypes: ['violations']});
  return found.violations.flatMap((rule) => rule.nodes.map((node) =>
    `${rule.id}: ${node.html.slice(0, 160)} (${(node.any[0] ?? node.all[0] ?? node.none[0])?.message ?? ''})`));
}
"""
THEMED = """
() => {
  const color = (each) => getComputedStyle(each).backgroundColor;
  const charts = [...document.querySelectorAll('.js-plotly-plot .main-svg:first-child')];
  return charts.every((chart) => color(chart) === color(document.querySelector('.stApp')));
}
"""  # charts are drawn again in another colour scheme, later than the rest of the page
NARROW, WIDE, HEIGHT = 390, 1280, 1600
RENEW = "DCP_RENEW_LOOKS" in os.environ  # take the stored pictures again
PATIENCE, PAUSE = 20, 500  # at most so many pauses of so many milliseconds until a page looks as it should


@dataclass
class Visit:
    """What was seen of a page."""

    page: str
    problems: dict[str, list[str]] = field(default_factory=dict)
    """By colour scheme: what some people cannot read or use."""
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    """By name of the stored picture: how the page looks now."""
    errors: list[str] = field(default_factory=list)
    """Errors of the page's scripts."""
    too_wide: int = 0
    """Pixels by which a phone's page can be scrolled sideways."""


def settled(page: Page) -> None:
    """Wait until nothing is computed, and everything is drawn in the colour scheme."""
    idle = page.locator("[data-test-script-state=notRunning]")
    expect(idle).to_be_attached()
    page.wait_for_timeout(PAUSE)  # what has been drawn may ask for more
    expect(idle).to_be_attached()
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    page.wait_for_function(THEMED)


def picture_of(page: Page, name: str) -> np.ndarray:
    """The page's picture as soon as it is like the stored one; to renew that, as soon as two in a row are the same."""
    stored = load(name) if path_of(name).exists() else None
    before = None
    for _ in range(PATIENCE):
        seen = looks(page.screenshot(mask=[page.locator("iframe")]))  # a report has the machine's own fonts
        if np.array_equal(seen, before) if RENEW else stored is not None and differing(seen, stored) <= MOST:
            break
        before = seen
        settled(page)
    return seen


@pytest.fixture(scope="module", params=PAGES)
def visit(request: pytest.FixtureRequest, shared_server: str, browser: Browser) -> Visit:
    """One visit to a page: its tests look at what it has seen."""
    found = Visit(request.param)
    page = browser.new_page(
        viewport={"width": WIDE, "height": HEIGHT}, color_scheme="light", reduced_motion="reduce"
    )
    page.set_default_timeout(120_000)
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    page.goto(f"{shared_server}/{found.page}")
    expect(page.locator("[data-testid=stMainBlockContainer] h1")).to_be_visible()
    page.evaluate(AXE)
    for width, scheme in ((WIDE, "light"), (WIDE, "dark"), (NARROW, "dark"), (NARROW, "light")):
        page.set_viewport_size({"width": width, "height": HEIGHT})
        page.emulate_media(color_scheme=scheme)
        expect(page.locator(".stApp")).to_have_css("color-scheme", scheme)
        settled(page)
        if width == WIDE:
            found.problems[scheme] = page.evaluate(CHECK, RULES[scheme])
        name = f"{found.page}-{width}-{scheme}"
        found.pictures[name] = picture_of(page, name)
    found.too_wide = page.get_by_test_id("stMain").evaluate("(main) => main.scrollWidth - main.clientWidth")
    page.close()
    return found


def test_everyone_can_read_it(visit: Visit) -> None:
    assert visit.problems == {"light": [], "dark": []}
    assert visit.errors == []


def test_a_phone_scrolls_no_page_sideways(visit: Visit) -> None:
    assert visit.too_wide == 0


def test_it_looks_as_it_did(visit: Visit, tmp_path: Path) -> None:
    changed = {}
    for name, seen in visit.pictures.items():
        if RENEW:
            save(seen, path_of(name))
        share = differing(seen, load(name)) if path_of(name).exists() else 1.0
        if share > MOST:
            save(seen, tmp_path / f"{name}.png")
            changed[name] = f"{100 * share:.1f} %"
    assert not changed, (
        f"share of squares of {SQUARE} pixels that differ; seen: {tmp_path}; `make looks` takes the pictures again"
    )


def test_a_moved_or_missing_part_is_seen_and_other_smoothing_is_not() -> None:
    page = np.full((200, 160), 255, dtype=np.uint8)
    page[20:40, 10:150] = 120
    page[100:180:8, 10:150] = 230  # thin lines of a chart
    rng = np.random.default_rng(0)
    smoothed = np.clip(page + rng.integers(-7, 8, page.shape), 0, 255).astype(np.uint8)
    assert differing(smoothed, page) < MOST
    assert differing(np.roll(page, 1, axis=0), page) < MOST  # 8 pixels
    changes = {"gone": page.copy(), "no lines": page.copy(), "moved": np.roll(page, 40, axis=0)}
    changes["gone"][20:40, 80:150] = 255
    changes["no lines"][100:] = 255
    for changed in changes.values():
        assert differing(changed, page) > MOST
        assert differing(page, changed) > MOST
    assert differing(page[:100], page) == 1


def test_a_page_that_lost_a_chart_looks_different() -> None:
    stored = load(f"cost-{NARROW}-light")
    lost = stored.copy()
    lost[35:78] = np.bincount(stored.ravel()).argmax()
    assert differing(lost, stored) > MOST
