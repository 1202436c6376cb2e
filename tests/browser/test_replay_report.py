"""The replay report in a real browser: no request, no complaint, no overflow, and usable by keyboard alone."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from ops.bench.synthetic import SyntheticSession
from ops.replay.run import replay_session
from tests.browser.conftest import Launch


@pytest.fixture(scope="module")
def plain(launch: Launch) -> Browser:
    """Launch a browser without devices."""
    return launch()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of a what-if: the fullest page there is."""
    done = replay_session(
        SyntheticSession(300), config=lambda was: msgspec.structs.replace(was, video_down_pm=980), tell=True
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(done.page(), "utf-8")
    return path


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light")], ids=["light", "dark", "narrow"])
def page(request: pytest.FixtureRequest, plain: Browser, report: Path) -> Iterator[Page]:
    """Open the report; anything that the page asks for or the browser complains of is a failure."""
    width, scheme = request.param
    opened = plain.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda sent: asked.append(sent.url))
    opened.goto(report.as_uri())
    yield opened
    opened.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]


def test_it_fits_its_window(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.locator(".verdict")).to_contain_text("The same")


def test_both_values_of_a_changed_threshold_are_there_however_narrow(page: Page) -> None:
    """On a phone the table of decisions leaves its rules out; the table of thresholds leaves nothing out."""
    shown = page.locator("table.slim tbody td")
    expect(shown).to_have_text(["video_down_pm", "750", "980"])
    for cell in shown.all():
        expect(cell).to_be_visible()


def test_the_cursor_moves_by_keyboard_and_reads_every_lane(page: Page) -> None:
    """Page Down goes from decision to decision, arrows step, and Tab reaches the timeline."""
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.scroll')"):
            break
    readout = page.locator("#readout")
    page.keyboard.press("End")
    expect(readout).to_contain_text("5:0")
    page.keyboard.press("Home")
    expect(readout).to_contain_text("0:00.0")
    page.keyboard.press("PageDown")
    first = readout.text_content()
    page.keyboard.press("PageDown")
    assert readout.text_content() != first
    expect(readout).to_contain_text("rung")
    page.keyboard.press("PageUp")
    expect(readout).to_have_text(first or "")


def test_zooming_widens_the_lanes_and_keeps_the_page(page: Page) -> None:
    before = page.evaluate("document.querySelector('.inner').clientWidth")
    page.locator(".scroll").focus()
    for _ in range(3):
        page.keyboard.press("+")
    assert page.evaluate("document.querySelector('.inner').clientWidth") > 3 * before
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_mark_leads_to_its_row(page: Page) -> None:
    mark = page.locator("a.mark").first
    target = str(mark.get_attribute("href"))
    mark.dispatch_event("click")
    expect(page.locator(target)).to_be_in_viewport()


def test_pointing_reads_the_values_there(page: Page) -> None:
    plot = page.locator(".plot").first
    box = plot.bounding_box()
    assert box is not None
    plot.hover(position={"x": box["width"] / 2, "y": 60})
    expect(page.locator("#readout")).to_contain_text("2:3")
