"""Time from moving a slider on the Trade-offs page to the new charts: `python -m benchmarks.browser`.

The pictures that follow the slider at once are switched off; `benchmarks/live.py` measures them.

The script starts a dashboard and a Chromium, and presses an arrow key on each slider. The time is measured from the key
to the frame in which the last chart is drawn. `waits` is the time for which Streamlit's slider delays a value in case
more keys follow; `page` is the rest. The processor time of server and browser (all threads) is also printed, because it
is more reliable than the elapsed time on a busy machine.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import torch
from playwright.sync_api import Page, sync_playwright

from dcp_core.models import storing, zoo
from dcp_core.models.architectures import build

ROOT = Path(__file__).resolve().parent.parent
MOVES = 8
CASES = {
    "cifar10-resnet20": 250,
    "synthetic-100": 1000,
}  # victim -> goal in milliseconds; each has 10,000 test answers
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
CLOCK = """
window.clock = {};
addEventListener('keydown', () => { window.clock = {key: performance.now()}; }, true);
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) { clock.sent ??= performance.now(); return send.call(this, data); };
new MutationObserver((changes) => {
  if (changes.some((c) => (c.target.closest ?? (() => null)).call(c.target, '.js-plotly-plot')))
    requestAnimationFrame(() => { clock.drawn = performance.now(); });
}).observe(document, {subtree: true, childList: true, attributes: true});
"""


def synthetic_victim() -> None:
    """Create a victim with 100 classes and 10,000 stored answers, of which about three quarters are correct, in DCP_HOME."""
    torch.manual_seed(0)
    logits = torch.randn(10_000, 100) * 3
    labels = (logits + torch.randn_like(logits)).argmax(1)
    classes = tuple(f"class {k}" for k in range(100))
    card = zoo.Card("synthetic-100", "Synthetic, 100 classes", "synthetic", "resnet8", classes, 32)
    storing.save(build("resnet8", 100), card, logits, labels)


@contextmanager
def dashboard() -> Iterator[tuple[str, int]]:
    """Start a dashboard; gives its address and process number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true"]
    process = subprocess.Popen(
        [*command, f"--server.port={port}"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2).read()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.kill()
        process.wait()


def settle(page: Page) -> None:
    """Wait until the script has run and no chart was drawn for half a second."""
    deadline = time.time() + 30
    while time.time() < deadline and not page.evaluate(
        "!!document.querySelector('[data-test-script-state=notRunning]')"
        " && performance.now() - Math.max(clock.key ?? 0, clock.sent ?? 0, clock.drawn ?? 0) > 500"
    ):
        time.sleep(0.05)


def processor_ms(server: int) -> tuple[float, float]:
    """Milliseconds of processor time so far: of the server, and of all processes of the browser."""

    def of(process: psutil.Process) -> float:
        times = process.cpu_times()
        return 1000 * (times.user + times.system)

    others = [child for child in psutil.Process().children(recursive=True) if child.pid != server]
    return of(psutil.Process(server)), sum(of(child) for child in others)


def measure(page: Page, label: str, server: int) -> np.ndarray:
    """Times in milliseconds (moves, 4): delay of the slider, time until the charts are drawn, server, browser."""
    slider = page.get_by_role("slider", name=label)
    slider.focus()
    times = []
    for move in range(MOVES + 1):
        before = processor_ms(server)
        slider.press("ArrowLeft" if move % 4 < 2 else "ArrowRight")
        settle(page)
        after = processor_ms(server)
        clock = page.evaluate("clock")
        if "drawn" in clock and move:  # the first move includes imports and is left out
            spent = np.subtract(after, before)
            times.append((clock["sent"] - clock["key"], clock["drawn"] - clock["sent"], *spent))
    return np.array(times).reshape(-1, 4)


def main() -> None:
    """Print one line for each slider."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium on this machine")
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"DCP_HOME": home, "OMP_NUM_THREADS": "1"}
        synthetic_victim()
        with dashboard() as (address, server), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            for victim, goal in CASES.items():
                page = browser.new_page(viewport={"width": 1280, "height": 1600})
                page.add_init_script(CLOCK)
                page.goto(
                    f"{address}/tradeoffs?t_victim={victim}&t_dcp_tau_auto=false&t_data=cifar10&t_live=false"
                )
                page.locator(".js-plotly-plot").nth(2).wait_for(timeout=60_000)
                page.get_by_text("More parameters").click()
                settle(page)
                print(f"{victim}, goal {goal} ms, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
                for slider in page.get_by_role("slider").all():
                    label = slider.get_attribute("aria-label") or ""
                    times = measure(page, label, server)
                    if not len(times):
                        print(f"  {label:40} changes no chart")
                        continue
                    whole = times[:, :2].sum(1)
                    waits, rest, served, drew = np.median(times, 0)
                    print(
                        f"  {label:40} median {np.median(whole):4.0f} (waits {waits:3.0f} + page {rest:4.0f}), "
                        f"p95 {np.percentile(whole, 95):4.0f} ms; processor: server {served:3.0f}, browser {drew:3.0f} ms"
                    )
                page.close()
            browser.close()


if __name__ == "__main__":
    main()
