"""Headless Chromium for tests of the report: one for a module, with the network off."""

import shutil
from contextlib import contextmanager

import pytest

# Without these Chromium looks for the network, and stops for want of a sandbox in a container.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium():
    """A browser; the test is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("there is no Chromium here; on Debian: apt-get install chromium")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


class Visit:
    """A page that is open, and what its console said."""

    def __init__(self, page):
        self.page = page
        self.said = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(f"dialog: {dialog.message}"))

    def drawn(self, key):
        """The element of a figure, its charts drawn."""
        element = self.page.locator(f"#{key}")
        element.scroll_into_view_if_needed()
        self.page.wait_for_selector(f"#{key}[data-drawn]", timeout=60_000)
        self.settled(key)
        return element

    def settled(self, key):
        """Wait until what was chosen last is drawn."""
        self.page.evaluate("async key => void (await muscope.cards.get(key).busy)", key)

    def under(self, key, chart, x, y):
        """What is told of the point that is nearest to a place, given in shares of a chart."""
        box = self.page.locator(f"#{key} .chart").nth(chart)
        box.scroll_into_view_if_needed()
        at = box.bounding_box()
        self.page.mouse.move(at["x"] + 1, at["y"] + 1)
        self.page.mouse.move(at["x"] + x * at["width"], at["y"] + y * at["height"])
        self.page.wait_for_selector("#vg-tooltip-element.visible")
        rows = self.page.locator("#vg-tooltip-element tr").all()
        cells = [row.locator("td").all_inner_texts() for row in rows]
        return {name.rstrip(":"): value for name, value in cells}


@contextmanager
def opened(browser, path, width=1400, dark=False):
    """A file, opened from disk with the network off."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        offline=True,
    )
    page = context.new_page()
    visit = Visit(page)
    page.goto(path.resolve().as_uri())
    yield visit
    context.close()
