"""Several people before the camera: a list for each, counted from the left, and what reaches the service of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from schemas.facts import SettingsChanged
from tests.browser.conftest import OpenStudio, studio_pages
from tests.browser.lone_edge import LoneEdge, lone_edge
from tests.browser.studio_page import Studio
from tests.browser.waits import until

SHOTS = Path(__file__).parents[2] / "out" / "browser"
NAMES = ("Ada", "Bob", "Cleo")


@pytest.fixture(scope="module")
def edge(server_urls: tuple[str, str]) -> Iterator[LoneEdge]:
    """Run an ingress without workers."""
    with lone_edge(*server_urls) as running:
        yield running


@pytest.fixture(scope="module")
def ids(edge: LoneEdge) -> Iterator[dict[str, str]]:
    """Enrol three identities for these tests; returns their IDs by label."""
    enrolled = {name: edge.enrol(name) for name in NAMES}
    yield enrolled
    for identity_id in enrolled.values():
        edge.revoke(identity_id)  # else other pages offer them first


@pytest.fixture
def studio(edge: LoneEdge, ids: dict[str, str], browser: Browser) -> Iterator[Studio]:
    """Open the page of that ingress."""
    assert ids
    with studio_pages(edge.url, edge.login_url, browser) as opened:
        yield fresh(opened)


def fresh(opened: OpenStudio) -> Studio:
    studio = opened()
    expect(studio.page.locator("#face option:checked")).to_have_text("Ada")
    return studio


def add(studio: Studio) -> Locator:
    return studio.page.get_by_role("button", name="Add a person")


def labels(studio: Studio) -> list[str]:
    return studio.page.locator("#people label span").all_inner_texts()


def chosen(studio: Studio) -> list[str]:
    return studio.page.locator("#people option:checked").all_inner_texts()


def pick(studio: Studio, label: str, name: str) -> None:
    studio.page.get_by_role("combobox", name=label, exact=True).select_option(label=name)


def begin(studio: Studio, edge: LoneEdge) -> tuple[str, dict[str, Any]]:
    """Press Start and wait until the page is live; returns the session's ID, and what was asked for."""
    with studio.page.expect_response("**/v1/sessions") as created:
        studio.page.click("#start")
    sid = str(created.value.json()["sid"])
    edge.give_back(sid)
    expect(studio.page.locator("#status")).to_have_text("Live")
    return sid, json.loads(created.value.request.post_data or "")


def changes(edge: LoneEdge, sid: str) -> list[tuple[str, ...] | None]:
    return [fact.faces for fact in edge.facts(sid) if isinstance(fact, SettingsChanged)]


def until_changed(edge: LoneEdge, sid: str, *expected: tuple[str, ...]) -> None:
    until(lambda: changes(edge, sid) == list(expected), what=f"changes to {expected}")


def test_people_are_added_and_removed_and_named_by_where_they_stand(studio: Studio) -> None:
    """Each newcomer is offered a face that nobody wears yet; no person between others can wear none."""
    assert (labels(studio), add(studio).is_enabled()) == (["Face"], True)
    add(studio).click()
    assert labels(studio) == ["First person (left)", "Second person (right)"]
    assert chosen(studio) == ["Ada", "Bob"]
    expect(studio.page.get_by_role("combobox", name="Second person (right)", exact=True)).to_be_focused()
    expect(studio.page.locator("#people option:disabled")).to_have_count(2)
    expect(studio.page.locator("#people-hint")).to_contain_text("your own view is mirrored")
    add(studio).click()
    add(studio).click()
    assert labels(studio) == ["First person (left)", "Second person", "Third person", "Fourth person (right)"]
    assert chosen(studio) == ["Ada", "Bob", "Cleo", "Ada"]
    expect(add(studio)).to_be_disabled()
    assert "4" in str(add(studio).get_attribute("title"))

    studio.page.get_by_role("button", name="Remove the second person").click()
    assert labels(studio) == ["First person (left)", "Second person (middle)", "Third person (right)"]
    assert chosen(studio) == ["Ada", "Cleo", "Ada"]
    for _ in range(2):
        studio.page.get_by_role("button", name="Remove the first person").click()
    assert (labels(studio), chosen(studio)) == (["Face"], ["Ada"])
    expect(studio.page.get_by_role("button", name="Remove")).to_have_count(0)
    expect(studio.page.locator("#people option:disabled")).to_have_count(0)


def test_nobody_is_added_to_a_person_who_wears_no_face(studio: Studio) -> None:
    """There would be nothing to say to the service for the first of the two."""
    pick(studio, "Face", "None: cover every face")
    expect(add(studio)).to_be_disabled()
    expect(studio.page.locator("#people-hint")).to_contain_text("Pick a face")
    pick(studio, "Face", "Bob")
    expect(add(studio)).to_be_enabled()


def test_one_person_is_a_session_of_one_face(studio: Studio, edge: LoneEdge, ids: dict[str, str]) -> None:
    """Live, too; and nobody can join then."""
    sid, wishes = begin(studio, edge)
    assert (wishes["face"], "faces" in wishes) == (ids["Ada"], False)
    expect(add(studio)).to_be_disabled()
    assert "than it started with" in str(add(studio).get_attribute("title"))
    pick(studio, "Face", "Cleo")
    until_changed(edge, sid, (ids["Cleo"],))
    studio.stop()
    expect(add(studio)).to_be_enabled()


def test_two_people_wear_two_faces_and_change_them_live(studio: Studio, edge: LoneEdge, ids: dict[str, str]) -> None:
    """What the lists show is what is worn: at the start, changed, with one person less, and with both again."""
    ada, bob, cleo = (ids[name] for name in NAMES)
    add(studio).click()
    expect(studio.page.locator("#consent")).to_contain_text("Bob: consent from Bob")
    sid, wishes = begin(studio, edge)
    assert (wishes["faces"], "face" in wishes) == ([ada, bob], False)
    assert (edge.record(sid).faces, edge.record(sid).max_faces) == ((ada, bob), 2)
    expect(add(studio)).to_be_disabled()

    pick(studio, "Second person (right)", "Cleo")
    until_changed(edge, sid, (ada, cleo))
    expect(studio.page.get_by_role("button", name="Remove the first person")).to_be_disabled()
    studio.page.get_by_role("button", name="Remove the second person").click()
    until_changed(edge, sid, (ada, cleo), (ada,))
    add(studio).click()
    until_changed(edge, sid, (ada, cleo), (ada,), (ada, bob))
    studio.page.get_by_role("button", name="Remove the second person").click()
    pick(studio, "Face", "None: cover every face")
    until_changed(edge, sid, (ada, cleo), (ada,), (ada, bob), (ada,), ())
    expect(studio.page.locator('#notices [data-key="service"]')).to_have_count(0)
    expect(studio.page.locator("#status")).to_have_text("Live")


def test_a_face_that_is_picked_while_the_browser_asks_for_the_camera_is_worn(
    edge: LoneEdge, ids: dict[str, str], browser: Browser
) -> None:
    """The session was asked for with the face before; it wears what the list shows as soon as it is live."""
    with studio_pages(edge.url, edge.login_url, browser) as opened:
        studio = opened(script=HOLD)
        expect(studio.page.locator("#face option:checked")).to_have_text("Ada")
        studio.page.click("#start")
        expect(studio.page.locator("#status")).to_contain_text("Waiting for camera")
        pick(studio, "Face", "Bob")
        with studio.page.expect_response("**/v1/sessions") as created:
            studio.page.evaluate("() => window.__allow()")
        sid = str(created.value.json()["sid"])
        edge.give_back(sid)
        until_changed(edge, sid, (ids["Bob"],))


HOLD = """
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
const allowed = new Promise((allow) => (window.__allow = allow));
navigator.mediaDevices.getUserMedia = (wanted) => allowed.then(() => open(wanted));
"""


def test_people_are_dressed_from_the_keyboard_alone(studio: Studio) -> None:
    """Add, and out again; the focus goes where the next thing is to be done."""
    studio.page.focus("#face")
    studio.page.keyboard.press("Tab")
    expect(add(studio)).to_be_focused()
    studio.page.keyboard.press("Enter")
    expect(studio.page.locator("#face-2")).to_be_focused()
    studio.page.keyboard.press("Tab")
    expect(studio.page.get_by_role("button", name="Remove the second person")).to_be_focused()
    studio.page.keyboard.press("Space")
    expect(studio.page.locator("#face")).to_be_focused()
    assert labels(studio) == ["Face"]


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_four_people_fit_every_screen(studio: Studio, width: int) -> None:
    """No sideways scrolling; every list is wide enough to read a name, every button large enough for a thumb."""
    for _ in range(3):
        add(studio).click()
    studio.page.set_viewport_size({"width": width, "height": 844})
    assert studio.page.evaluate("() => document.documentElement.scrollWidth") == width
    for person in studio.page.locator("#people .person").all():
        box, remove = person.locator("select").bounding_box(), person.locator("button").bounding_box()
        assert box is not None
        assert remove is not None
        assert box["width"] > 150
        assert min(remove["width"], remove["height"]) >= 44
        assert box["x"] + box["width"] <= remove["x"]
    SHOTS.mkdir(parents=True, exist_ok=True)
    studio.page.screenshot(path=SHOTS / f"people-{width}.png", full_page=True)
