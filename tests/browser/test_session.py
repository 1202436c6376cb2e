"""Signing in, panic, and what the page does when the connection or the session goes away."""

import json
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect
from websockets.sync.client import connect

from tests.browser.conftest import MEDIA, OpenStudio
from tests.browser.studio_page import Studio
from tests.browser.system import RunningSystem
from tests.browser.weak_network import WeakNetwork

SHOTS = Path(__file__).parents[2] / "out" / "browser"


def test_the_printed_address_signs_in_once_and_leaves_no_trace(running_system: RunningSystem, browser: Browser) -> None:
    """The code vanishes from the address; the tab stays signed in over a reload; a second user gets nowhere."""
    page = browser.new_page()
    page.goto(running_system.printed_url)
    expect(page.locator("#studio")).to_be_visible()
    assert page.url == f"{running_system.url}/"
    page.reload()
    expect(page.locator("#studio")).to_be_visible()

    other = browser.new_page()
    other.goto(running_system.printed_url)
    expect(other.locator("#login")).to_be_visible()
    expect(other.locator("#studio")).to_be_hidden()
    assert "does not work" in other.inner_text('#notices [data-key="login"]')
    assert "code" not in other.url

    code = running_system.login_url().partition("code=")[2]
    other.fill("#login-code", code)
    other.keyboard.press("Enter")
    expect(other.locator("#studio")).to_be_visible()
    page.close()
    other.close()


def test_a_page_that_could_not_load_its_lists_can_try_again(running_system: RunningSystem, browser: Browser) -> None:
    page = browser.new_page()
    page.route("**/v1/identities", lambda route: route.fulfill(status=503, json={"code": "x", "detail": "later"}))
    page.goto(running_system.login_url())
    again = page.locator('#notices [data-key="service"]').get_by_role("button", name="Try again")
    again.click()
    expect(again).to_be_visible()
    page.unroute("**/v1/identities")
    again.click()
    expect(page.locator("#studio")).to_be_visible()
    expect(again).to_have_count(0)
    page.close()


def test_a_sign_in_that_expired_is_explained(running_system: RunningSystem, browser: Browser) -> None:
    """A token that the service does not know any more leads back to the login."""
    page = browser.new_page()
    page.add_init_script("sessionStorage.setItem('mirage.login', 'no.longer.valid')")
    page.goto(running_system.url)
    assert "expired" in Studio(page).notice("signed_out")
    expect(page.locator("#login")).to_be_visible()
    page.close()


def test_the_panic_key_blanks_at_once_and_only_the_button_goes_back_on_air(open_studio: OpenStudio) -> None:
    """Escape blanks, Escape again changes nothing; sound is gone too."""
    studio = open_studio()
    studio.start()
    assert studio.covered_by("Escape")
    studio.await_blank()
    studio.page.keyboard.press("Escape")
    expect(studio.page.locator("#status")).to_have_text("Panic: off air")
    assert studio.is_blank()
    studio.page.click("#panic")
    expect(studio.page.locator("#status")).to_have_text("Live")
    expect(studio.page.locator("#output-cover")).to_be_hidden()
    assert not studio.is_blank()


def test_a_network_that_holds_everything_back_freezes_and_then_blanks_the_output(
    open_studio: OpenStudio, running_system: RunningSystem, network: WeakNetwork
) -> None:
    """Nothing new for a second: nothing old stays on show. The own picture goes on; so does the session, later."""
    assert running_system.url
    studio = open_studio(origin=network.origin)
    studio.start()
    network.hold()
    studio.await_blank()
    assert studio.own().max() > 40
    network.release()
    expect(studio.page.locator("#output-cover")).to_be_hidden()


def test_a_lost_connection_is_resumed_by_itself(
    open_studio: OpenStudio, running_system: RunningSystem, network: WeakNetwork
) -> None:
    """The page says that it tries again, and goes on in the same session."""
    assert running_system.url
    studio = open_studio(origin=network.origin)
    with studio.page.expect_response("**/v1/sessions") as created:
        studio.start()
    sid = created.value.json()["sid"]
    network.cut()
    assert "connection to the service was lost" in studio.notice("reconnecting")
    with studio.page.expect_response(f"**/v1/sessions/{sid}/connect"):
        network.mend()
    expect(studio.page.locator("#status")).to_have_text("Live")
    expect(studio.page.locator('[data-name="reconnecting"]')).to_have_count(0)
    expect(studio.page.locator("#output-cover")).to_be_hidden()


def test_panic_that_is_released_without_a_connection_ends_with_the_next_one(
    open_studio: OpenStudio, running_system: RunningSystem, network: WeakNetwork
) -> None:
    """The service still holds panic when the page comes back, and is told that it is over."""
    assert running_system.url
    studio = open_studio(origin=network.origin)
    studio.start()
    studio.page.keyboard.press("Escape")
    studio.await_blank()
    studio.page.wait_for_timeout(500)  # the key arrives
    network.cut()
    assert "connection to the service was lost" in studio.notice("reconnecting")
    studio.page.click("#panic")
    network.mend()
    expect(studio.page.locator("#status")).to_have_text("Live")
    expect(studio.page.locator("#output-cover")).to_be_hidden()


def test_a_newer_publisher_ends_this_one_and_is_named(open_studio: OpenStudio, running_system: RunningSystem) -> None:
    """4409 is not fought over: the page says where the session went."""
    studio = open_studio()
    with studio.page.expect_response("**/v1/sessions") as created:
        studio.start()
    session = created.value.json()
    with as_user(studio, running_system) as client:
        fresh = client.post(f"/v1/sessions/{session['sid']}/connect", json={"role": "publish"}).json()["token"]
    url = f"{running_system.url.replace('http', 'ws')}/v1/sessions/{session['sid']}/stream"
    with connect(url, additional_headers={"Authorization": f"Bearer {fresh}"}, subprotocols=["mirage.v1"]):  # type: ignore[list-item]
        assert "somewhere else" in studio.notice("ended")
    expect(studio.page.locator("#status")).to_have_text("Off")


def test_consent_that_is_withdrawn_ends_the_session_and_says_so(
    open_studio: OpenStudio, running_system: RunningSystem
) -> None:
    """Nothing of that person is on show two seconds later."""
    studio = open_studio()
    with as_user(studio, running_system) as client:
        consent = {
            "subject": "Somebody",
            "scope": ["face", "live"],
            "purpose": "a test",
            "expires": "2099-01-01",
            "evidence": {"statement": "Said so.", "by": "a test"},
        }
        files = {"portrait": (MEDIA / "portrait.png").read_bytes()}
        enrolled = client.post("/v1/identities", data={"consent": json.dumps(consent)}, files=files).json()
        studio.page.reload()
        studio.page.select_option("#face", value=enrolled["id"])
        studio.start()
        client.delete(f"/v1/identities/{enrolled['id']}")
        studio.await_blank()
    assert "Consent was withdrawn" in studio.notice("ended")
    studio.page.reload()
    expect(studio.page.locator("#studio")).to_be_visible()
    assert studio.page.locator(f"#face option[value='{enrolled['id']}']").count() == 0


def as_user(studio: Studio, system: RunningSystem) -> httpx.Client:
    """Return an HTTP client that is signed in as the page is."""
    token = studio.page.evaluate("() => sessionStorage.getItem('mirage.login')")
    return httpx.Client(base_url=system.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)


def test_an_enrolment_that_is_refused_says_why(open_studio: OpenStudio) -> None:
    """The service's own words, in the dialog, and what was typed is still there."""
    studio = open_studio()
    page = studio.page
    page.click("#enrol-open")
    page.set_input_files("[name=portrait]", {"name": "a.png", "mimeType": "image/png", "buffer": b"not a picture"})
    page.fill("[name=subject]", "Somebody")
    page.fill("[name=purpose]", "a test")
    page.fill("[name=statement]", "Said so.")
    page.check("[name=attest]")
    page.click("#enrol-save")
    expect(page.locator("#enrol-error")).to_be_visible()
    assert "neither a JPEG nor a PNG" in page.inner_text("#enrol-error")
    assert page.input_value("[name=subject]") == "Somebody"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_names_every_control(open_studio: OpenStudio, scheme: str) -> None:
    """390 px without sideways scrolling, every control reachable by Tab and with a name; in light and dark."""
    studio = open_studio()
    page = studio.page
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"phone-{scheme}.png", full_page=True)
    assert page.evaluate(NAMELESS) == []
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement.id"))
    for control in ("start", "listen", "camera", "microphone", "face", "voice", "enrol-open"):
        assert control in reached


NAMELESS = """() => [...document.querySelectorAll("button, input, select, textarea, meter, video, canvas")]
  .filter((node) => !(node.labels?.length || node.textContent.trim() || node.ariaLabel))
  .map((node) => node.outerHTML)"""
