"""How fluid the endpoint's page is with a file's cells: time to draw the map, to sort, to show one type.

    totalanvi serve bundle/ &
    python benchmarks/page.py http://127.0.0.1:3000 query.h5ad

The page maps the file; then the map is moved and enlarged for three seconds in headless Chromium, which draws without a
GPU. Printed are medians and 95th percentiles of what the page's own code takes for a frame, and of the time from one
frame to the next.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

MOVE = """async () => {
  const map = document.getElementById("map");
  const drawn = [];
  const seen = new PerformanceObserver((list) => {
    drawn.push(...list.getEntriesByName("map").map((one) => one.duration));
  });
  seen.observe({ entryTypes: ["measure"] });
  map.focus();
  const keys = ["+", "ArrowLeft", "ArrowUp", "-", "ArrowRight", "ArrowDown"];
  const frames = [];
  const begun = performance.now();
  for (let last = begun, i = 0; last - begun < 3000; i++) {
    map.dispatchEvent(new KeyboardEvent("keydown", { key: keys[i % keys.length] }));
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - last);
    last = now;
  }
  seen.disconnect();
  return { drawn, frames: frames.slice(1) };
}"""

TIMED = """async ([selector, type, value]) => {
  const element = document.querySelector(selector);
  const begun = performance.now();
  if (value !== null) element.value = value;
  if (type === "click") element.click(); else element.dispatchEvent(new Event(type));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - begun;
}"""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(600_000)
        page.goto(asked.url)
        page.wait_for_selector("#start:not([hidden])")
        page.set_input_files("#file", asked.file)
        page.wait_for_selector("#preview:not([hidden])")
        page.click("#begin")
        page.wait_for_selector("#result:not([hidden])")
        page.wait_for_timeout(1000)
        measure(page)
        browser.close()


def measure(page: Page) -> None:
    """Print how long things take on a page that shows a result."""
    print(page.inner_text("#cells-text"))
    for colour in ("label", "confidence"):
        page.select_option("#colour", colour)
        page.wait_for_timeout(500)
        moved = page.evaluate(MOVE)
        for name, times in moved.items():
            median, late = np.percentile(times, [50, 95])
            print(f"{name} by {colour}: median {median:.1f} ms, 95 % within {late:.1f} ms, {len(times)} frames")
    steps = {
        "sort by confidence": ("#cells th:nth-child(3) button", "click", None),
        "sort by name": ("#cells th:nth-child(1) button", "click", None),
        "show one type": ("#only", "change", "0"),
    }
    for name, step in steps.items():
        print(f"{name}: {page.evaluate(TIMED, list(step)):.0f} ms")


if __name__ == "__main__":
    main()
