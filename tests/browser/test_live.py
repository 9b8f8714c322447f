"""Pictures that follow a slider while it is dragged, in Chromium."""

import re
from itertools import pairwise

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from dcp_core import Deception, defend
from dcp_core.models import zoo

pytestmark = pytest.mark.browser

COUNT = """
window.sent = 0;
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) { window.sent += 1; return send.call(this, data); };
"""
BOTH = """
(input) => {
  const drawn = [...document.querySelectorAll('[data-testid=stBidiComponentIsolated]')].map((each) => each.shadowRoot);
  return [+input.value, +drawn.find((each) => each.querySelector('.gauge')).querySelector('.gauge b').textContent];
}
"""  # at one moment
PICTURE = 7


def playground(browser: Browser, address: str, query: str = "", **context: object) -> Page:
    """The Playground with DCP at 0.3 on one picture; the page counts what it sends to the server."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, **context)  # type: ignore[arg-type]
    page.set_default_timeout(120_000)
    page.add_init_script(COUNT)
    page.goto(f"{address}/playground?victim=signs-resnet8&picture={PICTURE}&dcp_beta=0.3{query}")
    expect(l1(page)).to_be_visible()
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached()
    page.wait_for_timeout(500)
    return page


def l1(page: Page) -> Locator:
    return page.locator(".gauge b")


def expected(beta: float) -> float:
    answers = defend(zoo.test_answers("signs-resnet8")[0][PICTURE][None], Deception(beta=beta))
    return float((answers.defended - answers.clean).abs().sum())


def thumb(page: Page, slider: Locator) -> tuple[float, float, float]:
    """The middle of a slider's thumb, and the length of its track in pixels."""
    box = slider.evaluate(
        """(input) => {
          const holder = input.closest('[data-testid=stSlider]');
          const thumb = holder.querySelector('[data-testid=stSliderThumbValue]').parentElement.getBoundingClientRect();
          const track = thumb && holder.querySelector('[role=group] > div').getBoundingClientRect();
          return [thumb.x + thumb.width / 2, thumb.y + thumb.height / 2, track.width];
        }"""
    )
    return box[0], box[1], box[2]


def test_while_a_slider_is_dragged_the_picture_moves_and_python_hears_of_it_on_release(
    shared_server: str, browser: Browser
) -> None:
    page = playground(browser, shared_server)
    slider = page.get_by_role("slider", name=re.compile("^Strength"))
    x, y, length = thumb(page, slider)
    bar = page.locator(".defended i").first
    sent, address = page.evaluate("sent"), page.url
    page.mouse.move(x, y)
    page.mouse.down()
    seen = set()
    for step in range(1, 11):
        page.mouse.move(x + step * length / 20, y)
        page.wait_for_timeout(40)
        beta, shown = slider.evaluate(BOTH)
        assert shown == pytest.approx(expected(beta), abs=6e-4)
        seen.add(bar.get_attribute("style"))
    assert len(seen) > 3
    assert page.url == address
    assert page.evaluate("sent") == sent

    page.mouse.up()
    expect(page).to_have_url(re.compile(rf"dcp_beta={beta:g}(&|$)"))
    assert page.evaluate("sent") > sent
    expect(l1(page)).to_have_text(f"{expected(beta):.3f}")
    page.close()


def test_keys_move_the_picture_too_and_the_back_button_returns(shared_server: str, browser: Browser) -> None:
    page = playground(browser, shared_server)
    slider = page.get_by_role("slider", name=re.compile("^Strength"))
    slider.focus()
    slider.press("ArrowRight")
    expect(l1(page)).to_have_text(f"{expected(0.31):.3f}")
    slider.press("Home")
    expect(l1(page)).to_have_text("0.000")
    expect(page.locator(".sentence")).to_contain_text("left this answer as it was")
    slider.press("End")
    expect(l1(page)).to_have_text(f"{expected(1.5):.3f}")
    slider.press("PageDown")
    expect(slider).to_have_attribute("aria-valuetext", "1.35")
    expect(l1(page)).to_have_text(f"{expected(1.35):.3f}")
    expect(page).to_have_url(re.compile(r"dcp_beta=1\.35"))
    page.go_back()
    expect(page).not_to_have_url(re.compile(r"dcp_beta=1\.35"))
    page.close()


def test_every_number_of_a_defense_moves_the_picture(shared_server: str, browser: Browser) -> None:
    page = playground(browser, shared_server, "&dcp_tau_auto=false&dcp_tau=0.2")
    before = l1(page).inner_text()
    threshold = page.get_by_role("slider", name=re.compile("^Change answers below"))
    x, y, length = thumb(page, threshold)
    sent = page.evaluate("sent")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 0.75 * length, y, steps=4)
    expect(l1(page)).not_to_have_text(before)
    assert page.evaluate("sent") == sent
    page.mouse.up()
    page.close()


def test_a_point_slides_along_the_measured_curves_while_the_strength_is_dragged(
    shared_server: str, browser: Browser
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.add_init_script(COUNT)
    page.goto(f"{shared_server}/tradeoffs?t_victim=signs-resnet8&t_dcp_beta=0.3")
    points = page.locator(".live .point")  # Plotly's own charts name their marks so too
    point = points.first
    expect(points).to_have_count(3)  # on the owner's curve, and on those of a trusting thief and of the best one
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached()
    page.wait_for_timeout(500)
    x, y, length = thumb(page, page.get_by_role("slider", name=re.compile("^Strength")))
    sent, owner, before = page.evaluate("sent"), page.locator(".tile b").first, point.get_attribute("cx")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 0.75 * length, y, steps=4)
    expect(point).not_to_have_attribute("cx", str(before))
    expect(page.locator(".sentence")).to_contain_text(re.compile(r"At β = 1\.\d"))
    while_dragged = float(owner.inner_text().removesuffix(" %"))
    assert while_dragged > 6.7
    assert page.evaluate("sent") == sent
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"t_dcp_beta=1\.\d"))
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached()
    assert float(owner.inner_text().removesuffix(" %")) == pytest.approx(while_dragged, abs=0.3)
    page.close()


def test_the_first_screen_has_picture_clean_and_defended_answer_without_scrolling(
    shared_server: str, browser: Browser
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{shared_server}/playground")
    seen = [page.get_by_test_id("stImage").locator("img"), page.locator(".bars"), page.get_by_role("slider").first]
    edges = []
    for each in seen:
        expect(each).to_be_visible()
    page.wait_for_timeout(500)
    for each in seen:
        box = each.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 800
        edges.append((box["x"], box["x"] + box["width"]))
    assert edges == sorted(edges)
    assert all(left[1] <= right[0] for left, right in pairwise(edges))
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    page.get_by_role("link", name="Skip to the content").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Playground")).to_be_focused()
    page.close()


def test_without_live_pictures_the_page_has_ordinary_charts(shared_server: str, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{shared_server}/playground?live=false")
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=120_000)
    assert page.locator(".live").count() == 0
    page.close()
