"""Whatever a browser says when it does not give the camera, the page says what happened and what to do."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ALLOW, DENY, FAKE_DEVICES, Launch, OpenStudio
from tests.browser.studio_page import Studio
from tests.browser.system import RunningSystem

REFUSE = "navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('told so', '{}'); }};"
MUTE = """
AudioContext.prototype.resume = () => new Promise(() => {});
Object.defineProperty(AudioContext.prototype, "state", { get: () => "suspended" });
"""
NEVER = "navigator.mediaDevices.getUserMedia = () => new Promise(() => {});"


def _is_off(studio: Studio) -> None:
    expect(studio.page.locator("#status")).to_have_text("Off")
    expect(studio.page.locator("#start")).to_be_enabled()


def test_a_user_who_blocks_the_camera_is_told_where_to_allow_it(
    launch: Launch, device_flags: tuple[str, ...], open_studio: OpenStudio
) -> None:
    """Really blocked, by the browser's own answer."""
    studio = open_studio(within=launch(*device_flags, DENY))
    studio.page.click("#start")
    words = studio.notice("NotAllowedError")
    assert "blocked" in words
    assert "site settings" in words
    _is_off(studio)


def test_a_computer_without_camera_is_told_to_plug_one_in(launch: Launch, open_studio: OpenStudio) -> None:
    """Really none: the browser has no device at all."""
    studio = open_studio(within=launch(f"{FAKE_DEVICES}=device-count=0", ALLOW))
    studio.page.click("#start")
    words = studio.notice("NotFoundError")
    assert "No camera was found" in words
    assert "Plug one in" in words
    _is_off(studio)


@pytest.mark.parametrize(
    ("name", "said", "fix"),
    [
        ("NotReadableError", "in use by another program", "Close the call"),
        ("OverconstrainedError", "is not there", "Pick another one"),
        ("SecurityError", "switched off", "policy"),
        ("AbortError", "failed to start", "plug it in again"),
        ("SomethingNewError", "could not be started", "told so"),
    ],
)
def test_each_other_refusal_is_explained(open_studio: OpenStudio, name: str, said: str, fix: str) -> None:
    """As browsers name them; a name that does not exist yet is passed on in the browser's words."""
    studio = open_studio(script=REFUSE.format(name))
    studio.page.click("#start")
    words = studio.notice(name)
    assert said in words
    assert fix in words
    _is_off(studio)


def test_a_question_that_nobody_answers_is_pointed_out_and_can_be_given_up(open_studio: OpenStudio) -> None:
    """The page goes on waiting, and says so; Stop works."""
    studio = open_studio(script=NEVER)
    studio.page.clock.install()
    studio.page.click("#start")
    expect(studio.page.locator("#status")).to_contain_text("Waiting for camera")
    studio.page.clock.fast_forward(9_000)
    assert "near the address bar" in studio.notice("Hang")
    studio.page.click("#stop")
    _is_off(studio)


def test_a_page_that_is_not_secure_says_so_before_anything_is_pressed(
    launch: Launch, running_system: RunningSystem
) -> None:
    """A plain http address that is not localhost."""
    browser = launch("--host-resolver-rules=MAP studio.example 127.0.0.1")
    page = browser.new_page()
    page.goto(running_system.url.replace("127.0.0.1", "studio.example"))
    assert "not secure" in Studio(page).notice("InsecurePage")
    page.close()


def test_a_computer_whose_sound_does_not_start_is_told_what_is_missing(open_studio: OpenStudio) -> None:
    """Without any output, `AudioContext.resume()` may never settle: the page does not wait for ever."""
    studio = open_studio(script=MUTE)
    studio.page.click("#start")
    assert "sound does not start" in studio.notice("NoSound")
    _is_off(studio)


def test_a_camera_that_is_unplugged_ends_the_session_and_says_so(open_studio: OpenStudio) -> None:
    studio = open_studio()
    studio.start()
    studio.page.evaluate(
        """() => {
          const [track] = document.querySelector("#own").srcObject.getVideoTracks();
          track.dispatchEvent(new Event("ended"));
        }"""
    )
    assert "camera was unplugged" in studio.notice("Ended")
    _is_off(studio)
