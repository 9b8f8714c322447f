"""Time from dragging a slider to the new picture: `python -m benchmarks.live`.

The script starts a dashboard and a Chromium, holds a slider of the page and moves the mouse once in each frame. The time is
measured from the mouse's event to the changed picture (goal: median 16, 95 % below 33 milliseconds), and to the frame that
shows it. The slider's own thumb, which Streamlit draws, is shown by the same frame. Chromium hands a move to the page at its
next frame: up to 16 milliseconds of each time are this wait. The third time is from the hand-over to the changed picture:
what the page itself takes.
"""

import os
import shutil
import sys
import tempfile

import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.browser import FLAGS, dashboard

MOVES = 120
CASES = {  # page and address -> name of its slider
    "playground?victim=signs-resnet8": "Strength (β)",
    "playground?victim=signs-resnet8&dcp_tau_auto=false": "Change answers below (τ)",
    "playground?victim=signs-resnet8&defense=Random+noise": "Largest l1 distance (ε)",
}
CLOCK = """
(holders) => {
  window.clock = {times: [], moves: 0};
  let moved = null;
  const move = (event) => {
    clock.moves += 1;
    moved ??= {sent: event.timeStamp, handed: performance.now()};
  };
  addEventListener('pointermove', move, true);
  const drawn = new MutationObserver(() => {
    if (moved === null) return;
    const [{sent, handed}, changed] = [moved, performance.now()];
    moved = null;
    requestAnimationFrame(() => clock.times.push([changed - sent, performance.now() - sent, changed - handed]));
  });
  for (const holder of document.querySelectorAll('[data-testid=stBidiComponentIsolated]'))
    if (holder.shadowRoot?.querySelector('.live'))
      drawn.observe(holder.shadowRoot, {subtree: true, attributes: true, childList: true, characterData: true});
}
"""


def drag(page: Page, label: str) -> tuple[np.ndarray, int]:
    """Milliseconds (pictures, 3) and the number of moves.

    Times are from a move to the changed picture and to its frame, and from the hand-over of the move to the changed picture.
    """
    slider = page.get_by_role("slider", name=label)
    box = slider.evaluate(
        """(input) => {
          const holder = input.closest('[data-testid=stSlider]');
          const thumb = holder.querySelector('[data-testid=stSliderThumbValue]').parentElement.getBoundingClientRect();
          const track = holder.querySelector('[role=group] > div').getBoundingClientRect();
          return [thumb.x + thumb.width / 2, thumb.y + thumb.height / 2, track.x, track.width];
        }"""
    )
    x, y, left, width = box
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate(CLOCK)
    for move in range(MOVES):
        page.mouse.move(left + width * (0.5 + 0.45 * np.sin(move / 12)), y)
        page.evaluate("new Promise(requestAnimationFrame)")
    clock = page.evaluate("clock")
    page.mouse.up()
    return np.array(clock["times"]), clock["moves"]


def main() -> None:
    """Print one line for each slider."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium on this machine")
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"DCP_HOME": home, "OMP_NUM_THREADS": "1"}
        with dashboard() as (address, _), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
            for case, label in CASES.items():
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                page.goto(f"{address}/{case}")
                page.get_by_role("slider", name=label).wait_for(timeout=90_000)
                page.locator(".live .panels > *").first.wait_for(timeout=90_000)
                page.locator("[data-test-script-state=notRunning]").wait_for(state="attached", timeout=90_000)
                page.wait_for_timeout(1000)
                times, moves = drag(page, label)
                print(f"{case}: {moves} moves, {len(times)} pictures")
                for what, each in zip(("changed", "shown", "page"), times.T, strict=True):
                    median, most = np.percentile(each, (50, 95))
                    print(f"  {what:8} median {median:5.1f}, 95 % {most:5.1f}, at most {each.max():5.1f} ms")
                page.close()
            browser.close()


if __name__ == "__main__":
    main()
