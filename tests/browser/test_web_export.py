"""The exported web page answers in a real browser as the library does."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import free_port
from PIL import Image
from playwright.sync_api import Browser, expect

from dcp_core import Deception
from dcp_core.data.sources import SIGNS_TEST
from dcp_core.data.synthetic import signs
from dcp_core.models import zoo
from dcp_core.models.bundles import for_web, write_bundle

pytestmark = pytest.mark.browser


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of the exported page, served from a folder. Skipped where npm cannot install onnxruntime-web."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine")
    folder = tmp_path / "web"
    write_bundle(for_web("signs-resnet8", Deception(beta=1.2))[0], folder)
    try:
        subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=folder, check=True, timeout=120, capture_output=True,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm cannot install onnxruntime-web here")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait()


def test_the_page_answers_as_the_library(site: str, browser: Browser, tmp_path: Path) -> None:
    picture = signs(1, SIGNS_TEST)[0]
    file = tmp_path / "sign.png"
    Image.fromarray(picture[0].permute(1, 2, 0).numpy()).save(file)
    page = browser.new_page()
    page.goto(site)
    expect(page.locator("#state")).to_have_text("Ready: choose a picture.")
    page.set_input_files("#file", file)
    expect(page.locator("#answer .row")).to_have_count(6)
    theirs = torch.tensor(page.evaluate("window.posterior"))
    ours = Deception(beta=1.2)(logits=zoo.load("signs-resnet8").model(picture.float() / 255))[0].detach()
    assert float((theirs - ours).abs().max()) < 1e-4
    best = zoo.card("signs-resnet8").classes[int(ours.argmax())]
    expect(page.locator("#answer .row").first).to_contain_text(best)
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"not a picture"})
    expect(page.locator("#state")).to_contain_text("This did not work")
    page.close()
