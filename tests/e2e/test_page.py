"""The web page in a real Chromium, against a real server with known samples."""

from __future__ import annotations

import re
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.e2e.page_support import (
    PHONE_WIDTH,
    Explorer,
    chromium,
    explorer,
    stroke_of,
)
from tests.services.http import Client
from tests.services.millstream import Millstream
from tests.services.process import wait_until

pytestmark = pytest.mark.e2e

STEP_SECONDS = 15
HISTORY_SECONDS = 1_800
MARKUP = "<img src=x onerror=alert(1)>"
EVERY_VIEW = ("graph", "table")


@dataclass(frozen=True)
class Site:
    """A server with samples whose picture is known."""

    url: str
    end: int

    def send(self, text: str) -> None:
        with Client(self.url) as client:
            answer = client.request("POST", "/api/v1/import/prometheus", body=text.encode())
            assert answer.status in {200, 204}, answer.text


def known_samples(end: int) -> str:
    """Two flat lines, a line with markup in its label, and two counters."""
    lines = []
    for moment in range(end - HISTORY_SECONDS, end + 1, STEP_SECONDS):
        age = moment - (end - HISTORY_SECONDS)
        stamp = moment * 1000
        lines += [
            f'level_celsius{{room="kitchen",house="mill"}} 70 {stamp}',
            f'level_celsius{{room="cellar",house="mill"}} 30 {stamp}',
            f'marked{{text="{MARKUP}"}} 5 {stamp}',
            f'apples_total{{tree="old"}} {age * 2} {stamp}',
            f'apples_total{{tree="young"}} {age * 3} {stamp}',
        ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("page")
    with Millstream(folder / "data", folder / "logs") as server:
        end = int(time.time()) // STEP_SECONDS * STEP_SECONDS
        built = Site(server.url, end)
        built.send(known_samples(end))
        yield built


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Explorer]:
    with explorer(browser, site.url) as opened:
        yield opened


def fixed_range(site: Site) -> dict[str, str]:
    """The part of time that the known samples fill from edge to edge."""
    return {
        "from": str(site.end - HISTORY_SECONDS),
        "to": str(site.end),
        "step": f"{STEP_SECONDS}s",
    }


@pytest.mark.parametrize("dark", [False, True])
def test_known_series_are_drawn_where_and_in_the_colours_the_legend_says(
    browser: Browser, site: Site, dark: bool
) -> None:
    with explorer(browser, site.url, dark=dark) as page:
        page.open("level_celsius", **fixed_range(site))
        assert page.legend() == ['level_celsius{room="cellar"}', 'level_celsius{room="kitchen"}']
        picture = page.plot_picture()
        cellar = stroke_of(picture, page.swatch_color("cellar"))
        kitchen = stroke_of(picture, page.swatch_color("kitchen"))
        for line in (cellar, kitchen):
            assert line.right - line.left > 0.97 * picture.width, "the line fills the window"
            assert line.bottom - line.top <= 4, "a constant is a flat line"
            assert line.pixels > 0.9 * picture.width
        assert kitchen.bottom < cellar.top, "70 is above 30"
        # Neither theme may be a picture that is dark or light throughout.
        background = picture.getpixel((picture.width // 2, 3))
        assert isinstance(background, tuple)
        assert (sum(background) < 3 * 80) == dark


def test_gaps_between_samples_stay_gaps(page: Explorer, site: Site) -> None:
    page.open(
        f"level_celsius{{room='cellar'}} and on() (vector(time()) < {site.end - 900})",
        **fixed_range(site),
    )
    picture = page.plot_picture()
    line = stroke_of(picture, page.swatch_color("cellar"))
    assert line.pixels > 0
    assert line.right < 0.52 * picture.width, "nothing is drawn where there is no sample"


def test_parse_error_appears_below_the_column_it_names(page: Explorer) -> None:
    page.open()
    page.type_query("sum(level_celsius) bad")
    error = page.page.locator(".cm-queryError")
    expect(error).to_contain_text("1:20: parse error:")
    caret = page.page.locator(".cm-queryErrorCaret").bounding_box()
    # Column 20 is the `b` of `bad`; its place is measured from the text itself.
    letter = page.page.locator(".cm-line").first.evaluate(
        """line => {
          const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
          let left = 19;
          for (let node = walker.nextNode(); node; left -= node.length, node = walker.nextNode()) {
            if (left >= node.length) continue;
            const range = document.createRange();
            range.setStart(node, left);
            range.setEnd(node, left + 1);
            const box = range.getBoundingClientRect();
            return { left: box.left, right: box.right, bottom: box.bottom };
          }
          return null;
        }"""
    )
    assert caret is not None
    middle = caret["x"] + caret["width"] / 2
    assert letter["left"] - 1 <= middle <= letter["right"] + 1
    assert caret["y"] >= letter["bottom"] - 4
    # The complaint is about the old text, so a change takes it away.
    page.editor().press("End")
    page.page.keyboard.press("Backspace")
    expect(error).to_have_count(0)


def test_error_without_a_position_is_shown_as_it_is(page: Explorer) -> None:
    page.open("level_celsius", step="1ms", range="1h")
    expect(page.page.get_by_role("alert")).to_contain_text("11,000 points")


@pytest.mark.parametrize(
    ("query", "kind"), [("level_celsius[5m]", "range vector"), ('"a"', "string")]
)
def test_query_that_has_no_graph_points_to_the_table(
    page: Explorer, site: Site, query: str, kind: str
) -> None:
    page.open(query, **fixed_range(site))
    expect(page.page.get_by_role("alert")).to_contain_text(
        f"The result is a {kind}, which has no graph. The table shows it"
    )
    page.page.get_by_role("tab", name="Table").click()
    page.settle()
    expect(page.page.get_by_role("alert")).to_have_count(0)
    expect(page.page.locator("td.number").first).to_be_visible()


@pytest.mark.parametrize(("query", "value"), [("0/0", "NaN"), ("1/0", "+Inf"), ("-1/0", "-Inf")])
def test_value_without_a_place_on_the_axis_stands_in_the_legend(
    page: Explorer, site: Site, query: str, value: str
) -> None:
    page.open(query, **fixed_range(site))
    expect(page.page.locator(".legend-value")).to_have_text(value)


@pytest.mark.parametrize("view", EVERY_VIEW)
def test_markup_in_a_label_value_stays_text(page: Explorer, site: Site, view: str) -> None:
    page.open("marked", view=view, **fixed_range(site))
    shown = page.page.locator(".legend-name" if view == "graph" else "td", has_text=MARKUP)
    expect(shown).to_have_count(1)
    if view == "graph":
        page.page.locator(".u-over").hover()
        expect(page.page.locator(".tooltip-name")).to_contain_text(MARKUP)
    page.open_values("marked", "text").filter(has_text=MARKUP).click()
    expect(page.editor()).to_contain_text(f'marked{{text="{MARKUP}"}}')
    page.settle()
    assert page.page.locator("img").count() == 0


def test_browser_click_adds_a_matcher_to_the_query(page: Explorer) -> None:
    page.open('sum(level_celsius{house="mill"})')
    page.page.get_by_placeholder("Search metrics").fill("level cel")
    page.open_values("level_celsius", "room").filter(has_text="cellar").click()
    expect(page.editor()).to_have_text('sum(level_celsius{house="mill", room="cellar"})')
    page.settle()
    assert page.state()["q"] == ['sum(level_celsius{house="mill", room="cellar"})']


def test_completion_offers_metrics_labels_values_and_functions(page: Explorer) -> None:
    page.open()
    options = page.page.locator(".cm-tooltip-autocomplete li")

    def offered(typed: str, option: str) -> None:
        page.editor().press_sequentially(typed, delay=20)
        expect(options.filter(has_text=re.compile(f"^{option}")).first).to_be_visible()

    def accept(text: str) -> None:
        # For a moment after it opened, the list takes no keys; Enter then runs the query, which does no harm.
        def attempt() -> bool:
            page.page.keyboard.press("Enter")
            return page.editor().text_content() == text

        wait_until(f"the query is {text}", 10, attempt)

    offered("hist", "histogram_quantile")
    page.page.keyboard.press("Escape")
    page.page.keyboard.press("Control+a")
    offered("level_c", "level_celsius")
    accept("level_celsius")
    offered("{ro", "room")
    accept("level_celsius{room}")
    offered('="ce', "cellar")
    accept('level_celsius{room="cellar"}')


def test_drag_zooms_and_double_click_returns(page: Explorer, site: Site) -> None:
    page.open("level_celsius", **{**fixed_range(site), "step": "15s"})
    before = page.page.url
    area = page.page.locator(".u-over")
    box = area.bounding_box()
    assert box is not None
    page.page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 50)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60, steps=5)
    page.page.mouse.up()
    page.page.wait_for_url(lambda url: url != before)
    state = page.state()
    assert float(state["from"][0]) == pytest.approx(site.end - 0.75 * HISTORY_SECONDS, abs=10)
    assert float(state["to"][0]) == pytest.approx(site.end - 0.5 * HISTORY_SECONDS, abs=10)
    page.settle()
    area.dblclick()
    page.page.wait_for_url(before)


def test_custom_range_and_step_reach_the_server(page: Explorer) -> None:
    page.open("level_celsius")
    page.page.get_by_role("button", name="Last 1 hour").click()
    page.page.get_by_label("From", exact=True).fill("2026-03-01T10:00:00")
    page.page.get_by_label("To", exact=True).fill("2026-03-01T09:00:00")
    expect(page.page.get_by_role("button", name="Apply")).to_be_disabled()
    page.page.get_by_label("To", exact=True).fill("2026-03-01T11:00:00")
    page.page.get_by_role("button", name="Apply").click()
    page.settle()
    step = page.page.get_by_label("Step between points")
    step.fill("1ms")
    expect(step).to_have_attribute("aria-invalid", "true")
    step.fill("2m")
    with page.page.expect_request("**/api/v1/query_range") as sent:
        step.press("Enter")
    form = urllib.parse.parse_qs(sent.value.post_data or "")
    assert form["step"] == ["120"]
    assert float(form["end"][0]) - float(form["start"][0]) == 3_600
    assert page.state()["step"] == ["2m"]


def test_legend_hides_and_isolates_series(page: Explorer, site: Site) -> None:
    page.open("level_celsius", **fixed_range(site))
    cellar = page.page.get_by_role("button", name="cellar")
    kitchen = page.page.get_by_role("button", name="kitchen")
    color = page.swatch_color("cellar")
    cellar.click()
    expect(cellar).to_have_attribute("aria-pressed", "false")
    assert stroke_of(page.plot_picture(), color).pixels == 0
    cellar.click(modifiers=["Control"])
    expect(cellar).to_have_attribute("aria-pressed", "true")
    expect(kitchen).to_have_attribute("aria-pressed", "false")
    assert stroke_of(page.plot_picture(), color).pixels > 0


def test_hover_shows_the_values_at_that_time(page: Explorer, site: Site) -> None:
    page.open("level_celsius", **fixed_range(site))
    page.page.locator(".u-over").hover()
    tooltip = page.page.locator(".tooltip")
    expect(tooltip).to_contain_text('level_celsius{room="kitchen"}70')
    expect(tooltip).to_contain_text('level_celsius{room="cellar"}30')


def test_table_shows_labels_and_exact_values_and_sorts(page: Explorer, site: Site) -> None:
    page.open("apples_total", view="table", **fixed_range(site))
    values = page.page.locator("td.number")
    expect(values).to_have_text([str(2 * HISTORY_SECONDS), str(3 * HISTORY_SECONDS)])
    page.page.get_by_role("button", name="value").click()
    expect(values).to_have_text([str(3 * HISTORY_SECONDS), str(2 * HISTORY_SECONDS)])
    expect(page.page.get_by_role("columnheader", name="value")).to_have_attribute(
        "aria-sort", "descending"
    )
    assert page.page.locator("th").all_text_contents()[:2] == ["metric", "tree"]


def test_rows_are_added_hidden_and_removed_and_the_url_carries_them(page: Explorer) -> None:
    page.open("level_celsius", range="30m")
    page.page.get_by_role("button", name="Add query").click()
    page.type_query("apples_total", "B")
    page.settle()
    page.expect_state({"q": ["level_celsius", "apples_total"], "range": ["30m"]})
    assert [name[0] for name in page.legend()] == ["A", "A", "B", "B"]
    page.page.get_by_role("button", name="Query A is shown").click()
    expect(page.page.locator(".legend-name")).to_have_count(2)
    page.expect_state({"qoff": ["level_celsius"], "q": ["apples_total"], "range": ["30m"]})
    page.page.reload()
    page.settle()
    expect(page.page.locator(".legend-name")).to_have_count(2)
    page.page.get_by_role("button", name="Remove query A").click()
    page.settle()
    page.expect_state({"q": ["apples_total"], "range": ["30m"]})
    page.page.go_back()
    expect(page.page.locator(".query-row")).to_have_count(2)


def test_at_most_eight_rows(page: Explorer) -> None:
    page.open(*["level_celsius"] * 12)
    expect(page.page.locator(".query-row")).to_have_count(8)
    expect(page.page.get_by_role("button", name="Add query")).to_be_disabled()


def test_live_refresh_draws_new_samples_by_itself(page: Explorer, site: Site) -> None:
    page.open("alive", range="5m")
    expect(page.page.get_by_text("No samples between")).to_be_visible()
    page.page.get_by_label("Live refresh").select_option("2")
    site.send(f"alive 1 {int(time.time() * 1000)}\n")
    expect(page.page.locator(".legend-name")).to_have_text(["alive"])
    assert page.state()["refresh"] == ["2"]


def test_a_newer_query_cancels_the_one_under_way(page: Explorer) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        if "slow" in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    page.open()
    page.page.route("**/api/v1/query_range", hold)
    page.type_query("slow")
    page.page.wait_for_function("document.querySelector('.results').ariaBusy === 'true'")
    page.type_query("level_celsius")
    expect(page.page.locator(".legend-name")).to_have_count(2)
    assert len(held) == 1
    assert [url.rsplit("/", 1)[1] for url in page.watch.failed_requests] == ["query_range"]


@pytest.mark.parametrize("view", EVERY_VIEW)
def test_nothing_overflows_at_phone_width(browser: Browser, site: Site, view: str) -> None:
    with explorer(browser, site.url, width=PHONE_WIDTH, height=780) as page:
        page.open(
            "level_celsius",
            'apples_total{tree=~"old|young"} * 1000000',
            view=view,
            **fixed_range(site),
        )
        page.page.locator(".legend, table").first.wait_for()
        assert page.overflow() == 0
        page.page.locator(".range-picker > button").click()
        assert page.overflow() == 0
        popup = page.page.get_by_role("dialog", name="Time range").bounding_box()
        assert popup is not None
        assert popup["x"] >= 0
        assert popup["x"] + popup["width"] <= PHONE_WIDTH
        page.page.keyboard.press("Escape")
        page.type_query("sum(level_celsius) by (room) unexpected_and_rather_long_identifier")
        page.page.locator(".cm-queryError").wait_for()
        assert page.overflow() == 0
        page.page.get_by_role("button", name="Metrics").click()
        page.open_values("marked", "text").wait_for()
        assert page.overflow() == 0


def test_start_page_offers_queries_over_metrics_that_exist(page: Explorer) -> None:
    page.open()
    examples = page.page.locator(".example")
    expect(examples.first).to_be_visible()
    query = examples.first.locator("code").text_content()
    examples.first.click()
    page.settle()
    assert page.state()["q"] == [query]
    assert page.legend()


def test_a_sample_of_this_second_is_drawn_by_the_first_click(
    browser: Browser, site: Site, tmp_path: Path
) -> None:
    # Ten seconds is the step of the automatic range: the sample lies after the last multiple of it.
    second = site.end // 10 * 10 + 7
    with own_server(tmp_path) as server, explorer(browser, server.url) as page:
        Site(server.url, second).send(f"first 21.5 {second * 1000 + 250}\n")
        page.page.clock.set_fixed_time(second + 0.5)
        page.open()
        page.page.locator(".example").click()
        assert page.legend() == ["first"]


def test_policy_forbids_everything_foreign(page: Explorer) -> None:
    answer = page.page.goto(f"{page.url}/")
    assert answer is not None
    policy = answer.header_value("content-security-policy") or ""
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_everything_is_reached_with_the_keyboard(page: Explorer) -> None:
    page.open("level_celsius")
    names = []
    for _ in range(60):
        page.page.keyboard.press("Tab")
        names.append(
            page.page.evaluate(
                "(document.activeElement?.ariaLabel || document.activeElement?.textContent || '').trim()"
            )
        )
    text = "\n".join(names)
    for wanted in (
        "Skip to the queries",
        "Switch to dark colours",
        "Reload metrics",
        "Add query",
        "Last 1 hour",
        "Run",
        "Graph",
        "cellar",
    ):
        assert wanted in text, f"{wanted} not reached:\n{text}"


def test_theme_choice_outlives_a_reload(page: Explorer) -> None:
    page.open()
    page.page.get_by_role("button", name="Switch to dark colours").click()
    page.page.reload()
    page.settle()
    expect(page.page.get_by_role("button", name="Switch to light colours")).to_be_visible()
    assert page.page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"


def test_theme_follows_the_system_until_the_reader_chooses(page: Explorer) -> None:
    def scheme() -> str:
        return str(page.page.evaluate("getComputedStyle(document.body).colorScheme"))

    page.open("level_celsius")
    for system in ("dark", "light", "dark"):
        page.page.emulate_media(color_scheme=system)
        other = "light" if system == "dark" else "dark"
        expect(page.page.get_by_role("button", name=f"Switch to {other} colours")).to_be_visible()
        assert scheme() == system
    page.page.get_by_role("button", name="Switch to light colours").click()
    page.page.emulate_media(color_scheme="light")
    page.page.emulate_media(color_scheme="dark")
    expect(page.page.get_by_role("button", name="Switch to dark colours")).to_be_visible()
    assert scheme() == "light"


def test_empty_database_says_how_to_begin_and_comes_to_life(
    browser: Browser, tmp_path: Path
) -> None:
    with own_server(tmp_path) as server, explorer(browser, server.url) as page:
        page.open()
        expect(page.page.get_by_role("heading", name="No metrics yet")).to_be_visible()
        expect(page.page.locator("pre")).to_contain_text(f"{server.url}/api/v1/import/prometheus")
        Site(server.url, 0).send(f"first 1 {int(time.time() * 1000)}\n")
        expect(page.page.locator(".example code")).to_have_text(["first"], timeout=15_000)


def test_server_that_is_gone_is_named(browser: Browser, tmp_path: Path) -> None:
    with own_server(tmp_path) as server, explorer(browser, server.url) as page:
        page.open()
        server.stop()
        page.type_query("up")
        expect(page.page.get_by_role("alert")).to_contain_text("cannot be reached")
        page.watch.faults = [fault for fault in page.watch.faults if "net::ERR_" not in fault]


def test_long_names_and_values_keep_to_a_few_lines(browser: Browser, tmp_path: Path) -> None:
    name, value = "g" * 2_000, "v" * 2_000
    with own_server(tmp_path) as server, explorer(browser, server.url) as page:
        Site(server.url, 0).send(f'{name}{{label="{value}"}} 1 {int(time.time() * 1000)}\n')
        page.open()
        page.page.locator(".example").click()
        page.settle()
        page.page.locator(".u-over").hover()
        expect(page.open_values(name, "label")).to_have_count(1)
        for shown, lines in ((".browser-text", 2), (".chip", 3), (".legend-name", 4)):
            box = page.page.locator(shown).first.bounding_box()
            assert box is not None
            assert box["height"] < (lines + 1) * 20, shown
        whole = page.metrics().get_by_role("button", name=name, exact=True)
        expect(whole).to_have_attribute("title", name)
        assert page.overflow() == 0


@contextmanager
def own_server(folder: Path) -> Iterator[Millstream]:
    with Millstream(folder / "data", folder / "logs") as server:
        yield server
