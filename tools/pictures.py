"""The pictures of the README, taken from the running dashboard: `make pictures`, which needs Chromium.

Writes `docs/images/first_screen.png` (the home page) and `docs/images/tour.webp`, an animation of about 15 seconds: the
strength of DCP rises on the Playground, then come Trade-offs and Decide.
"""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from benchmarks.browser import CLOCK, FLAGS, dashboard, settle

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZE = {"width": 1280, "height": 800}
STRENGTHS = 24  # frames in which the strength rises from 0
PRESSES = 6  # key presses before each, which move the slider by 0.01
FRAME, PAUSE = 300, 2500  # milliseconds that a frame of the slider, and a page, is shown
STRENGTH = "(β)"  # in the slider's name
QUALITY = 70
NOT_FADED = (
    "[data-stale=true] { opacity: 1 !important; transition: none !important; }"  # while a slow machine computes
)


def shot(page: Page) -> Image.Image:
    """The page as it looks now."""
    return Image.open(io.BytesIO(page.screenshot(timeout=120_000))).convert("RGB")


def visit(page: Page, address: str) -> None:
    """Open a page and wait until its charts stand."""
    page.set_default_timeout(300_000)
    page.goto(address)
    page.add_style_tag(content=NOT_FADED)
    page.locator("[data-testid=stMainBlockContainer] h1").wait_for()
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached(timeout=300_000)
    settle(page)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=300_000)
    page.wait_for_timeout(2500)


def raise_strength(page: Page) -> list[Image.Image]:
    """Frames of the Playground while the strength of DCP rises from 0."""
    slider = page.get_by_role("slider", name=STRENGTH).first
    slider.press("Home")
    settle(page)
    frames = [shot(page)]
    for _ in range(STRENGTHS):
        for _ in range(PRESSES):
            slider.press("ArrowRight")
        page.wait_for_timeout(200)  # the picture follows at once
        frames.append(shot(page))
    return frames


def main() -> None:
    """Take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with dashboard() as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.add_init_script(CLOCK)
        visit(page, address)
        shot(page).save(IMAGES / "first_screen.png", optimize=True)
        visit(page, f"{address}/playground")
        frames = raise_strength(page)
        times = [FRAME] * (len(frames) - 1) + [PAUSE]
        for name in ("tradeoffs", "decide"):
            visit(page, f"{address}/{name}")
            frames.append(shot(page))
            times.append(PAUSE)
        browser.close()
    small = [frame.resize((SIZE["width"] * 3 // 4, SIZE["height"] * 3 // 4)) for frame in frames]
    small[0].save(
        IMAGES / "tour.webp", save_all=True, append_images=small[1:], duration=times, loop=0, quality=QUALITY
    )


if __name__ == "__main__":
    main()
