"""Draw a figure as a picture of the documentation, with Chromium."""

import shutil
from pathlib import Path

import plotly.graph_objects as go
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def keep(figure: go.Figure, name: str) -> None:
    """Write `docs/images/NAME`, 860 x 440 pixels."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        page = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        page.set_viewport_size({"width": 860, "height": 440})
        page.set_content(figure.to_html(include_plotlyjs=True, config={"staticPlot": True}))
        page.locator(".main-svg").first.wait_for()
        page.screenshot(path=IMAGES / name)
