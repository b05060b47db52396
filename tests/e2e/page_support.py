"""Chromium with the web page in it, and what a test can ask of both.

Everything that a page must never do is collected while a test runs: calls to other hosts, violations of the
Content-Security-Policy, errors on the console, uncaught exceptions, dialogs.
"""

from __future__ import annotations

import io
import shutil
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Dialog,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ACTION_TIMEOUT_MS = 15_000
PHONE_WIDTH = 360
# An HTTP error that a test provokes is written to the console by the browser itself.
HTTP_ERROR_NOTE = "Failed to load resource: the server responded with a status of 4"
REPORT_VIOLATIONS = """
document.addEventListener('securitypolicyviolation', (event) =>
  console.error(`policy violation: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""

Color = tuple[int, int, int]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium of the system."""
    executable = shutil.which("chromium")
    if executable is None:
        raise RuntimeError("chromium is missing; docker/packages.txt names it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, headless=True, args=list(CHROMIUM_FLAGS)
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """What a page did that it should not have done."""

    own_origin: str
    faults: list[str] = field(default_factory=list)
    failed_requests: list[str] = field(default_factory=list)

    def attach(self, page: Page) -> None:
        page.add_init_script(REPORT_VIOLATIONS)
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("request", self._request)
        page.on("requestfailed", lambda request: self.failed_requests.append(request.url))
        page.on("dialog", self._dialog)

    def _console(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"} and not text.startswith(HTTP_ERROR_NOTE):
            self.faults.append(f"console {kind}: {text}")

    def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        parts = urllib.parse.urlsplit(request.url)
        if f"{parts.scheme}://{parts.netloc}" != self.own_origin and parts.scheme != "data":
            self.faults.append(f"request to another host: {request.url}")


class Explorer:
    """The page, in words of its user."""

    def __init__(self, page: Page, url: str, watch: Watch) -> None:
        self.page = page
        self.url = url
        self.watch = watch
        page.set_default_timeout(ACTION_TIMEOUT_MS)

    def open(self, *queries: str, **parameters: str) -> None:
        """Loads the page with a state in its URL and waits for the answer."""
        search = urllib.parse.urlencode(
            [("q", query) for query in queries] + list(parameters.items())
        )
        self.page.goto(f"{self.url}/?{search}" if search else f"{self.url}/")
        self.settle()

    def settle(self) -> None:
        """Waits until the page is there and no query is under way."""
        self.page.locator(".cm-content").first.wait_for()
        self.page.locator(".results[aria-busy=false]").wait_for()

    def state(self) -> Mapping[str, list[str]]:
        """What the URL says."""
        return _state_of(self.page.url)

    def expect_state(self, state: Mapping[str, list[str]]) -> None:
        """Waits until this is what the URL says; what was asked of the page may be on its way."""
        with suppress(PlaywrightTimeoutError):
            self.page.wait_for_url(lambda url: _state_of(url) == state, wait_until="commit")
        assert self.state() == state

    def editor(self, letter: str = "A") -> Locator:
        return self.page.get_by_role("textbox", name=f"PromQL query {letter}")

    def type_query(self, text: str, letter: str = "A") -> None:
        """Replaces the text of a row by typing, closes the completion, and runs."""
        self.editor(letter).click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(text)
        self.page.keyboard.press("Escape")
        # While the completion is open, Enter would take what it offers.
        expect(self.page.locator(".cm-tooltip-autocomplete")).to_have_count(0)
        self.page.keyboard.press("Enter")

    def metrics(self) -> Locator:
        return self.page.get_by_role("complementary", name="Metric browser")

    def open_values(self, metric: str, label: str) -> Locator:
        """Unfolds a metric and one of its labels in the browser; the values are the answer."""
        self.metrics().get_by_role("button", name=metric, exact=True).click()
        self.metrics().get_by_role("button", name=label, exact=True).click()
        return self.metrics().locator(".chip")

    def legend(self) -> list[str]:
        self.page.locator(".legend-name").first.wait_for()
        return self.page.locator(".legend-name").all_text_contents()

    def swatch_color(self, name: str) -> Color:
        """The colour that the legend gives to a series."""
        entry = self.page.locator(".legend-entry").filter(has_text=name)
        text = entry.locator(".swatch").evaluate("node => getComputedStyle(node).backgroundColor")
        red, green, blue = text.removeprefix("rgb(").removesuffix(")").split(",")
        return int(red), int(green), int(blue)

    def plot_picture(self) -> Image.Image:
        """A screenshot of the area inside of the axes."""
        # The pointer would dim other lines and leave a cursor in the picture.
        self.page.mouse.move(1, 1)
        return Image.open(io.BytesIO(self.page.locator(".u-over").screenshot())).convert("RGB")

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(
            self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )


def _state_of(url: str) -> Mapping[str, list[str]]:
    return urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)


@dataclass(frozen=True)
class Stroke:
    """Where one colour was drawn in a picture."""

    pixels: int
    left: int
    right: int
    top: int
    bottom: int


def stroke_of(picture: Image.Image, color: Color, tolerance: int = 24) -> Stroke:
    """Finds the pixels of a colour; smoothed edges within `tolerance` per channel count as well."""
    channels = np.asarray(picture, dtype=np.int16)
    close = (np.abs(channels - np.array(color, dtype=np.int16)) <= tolerance).all(axis=2)
    rows, columns = np.nonzero(close)
    if rows.size == 0:
        return Stroke(0, 0, 0, 0, 0)
    return Stroke(
        rows.size, int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max())
    )


@contextmanager
def explorer(
    browser: Browser, url: str, *, width: int = 1280, height: int = 800, dark: bool = False
) -> Iterator[Explorer]:
    """A page in a window of its own; fails at its end when the page did what it must not."""
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        has_touch=width <= PHONE_WIDTH,
    )
    try:
        page = context.new_page()
        watch = Watch(url)
        watch.attach(page)
        yield Explorer(page, url, watch)
        assert not watch.faults, watch.faults
    finally:
        context.close()
