"""A real browser with a real face and real speech for devices, on a real `mirage up`."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, expect, sync_playwright

from tests.browser import media
from tests.browser.studio_page import LISTEN_IN, Studio
from tests.browser.system import RunningSystem, mirage_up
from tests.browser.weak_network import WeakNetwork
from tests.waiting import PATIENCE_S

MEDIA = Path(__file__).parents[2] / "ops" / "media"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
FAKE_DEVICES = "--use-fake-device-for-media-stream"
ALLOW, DENY = "--use-fake-ui-for-media-stream", "--use-fake-ui-for-media-stream=deny"

Launch = Callable[..., Browser]
OpenStudio = Callable[..., Studio]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder, and skip it where there is no Chromium."""
    if not _chromium() and os.environ.get("REQUIRE_BROWSER"):
        raise pytest.UsageError("REQUIRE_BROWSER is set, and there is no chromium on the PATH")
    missing = None if _chromium() else pytest.mark.skip(reason="no chromium on the PATH (apt-get install chromium)")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if missing is not None:
                item.add_marker(missing)


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="package")
def camera_frames() -> list[media.Frame]:
    """Return what the camera sees, frame by frame."""
    return media.camera_frames()


@pytest.fixture(scope="package")
def device_flags(tmp_path_factory: pytest.TempPathFactory, camera_frames: list[media.Frame]) -> tuple[str, ...]:
    """Return flags that make files of a talking head and of speech the camera and the microphone."""
    folder = tmp_path_factory.mktemp("devices")
    camera, microphone = folder / "camera.mjpeg", folder / "microphone.wav"
    media.write_camera(camera, camera_frames)
    media.write_microphone(microphone)
    return (
        FAKE_DEVICES,
        f"--use-file-for-fake-video-capture={camera}",
        f"--use-file-for-fake-audio-capture={microphone}",
    )


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """Start the driver. It keeps an event loop in this thread, so it must be gone before other folders' tests run."""
    with sync_playwright() as driver:
        expect.set_options(timeout=PATIENCE_S * 1000)
        yield driver


@pytest.fixture(scope="package")
def launch(playwright: Playwright) -> Iterator[Launch]:
    """Launch browsers with further flags; all are closed at the end."""
    browsers: list[Browser] = []

    def start(*flags: str) -> Browser:
        browsers.append(playwright.chromium.launch(executable_path=_chromium(), args=[*FLAGS, *flags]))
        return browsers[-1]

    yield start
    for browser in browsers:
        browser.close()


@pytest.fixture(scope="package")
def browser(launch: Launch, device_flags: tuple[str, ...]) -> Browser:
    """Start a browser whose user allows camera and microphone."""
    return launch(*device_flags, ALLOW)


@pytest.fixture(scope="package")
def network() -> Iterator[WeakNetwork]:
    """Lay a wire to the running system that tests can cut."""
    wire = WeakNetwork()
    yield wire
    wire.stop()


@pytest.fixture(scope="package")
def running_system(tmp_path_factory: pytest.TempPathFactory, network: WeakNetwork) -> Iterator[RunningSystem]:
    """Start the whole system, as a user does."""
    with mirage_up(tmp_path_factory.mktemp("mirage"), origins=(network.origin,)) as system:
        parts = urlsplit(system.url)
        network.target = (str(parts.hostname), int(parts.port or 0))
        yield system


@contextmanager
def studio_pages(url: str, login_url: Callable[[], str], browser: Browser) -> Iterator[OpenStudio]:
    """Open signed-in studio pages of the service at `url`, each as a user of its own; all are closed at the end.

    A script error, or something that the page's own security policy forbids, is a failure.
    """
    pages: list[Page] = []
    faults: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "Uncaught" in message.text:
            faults.append(message.text)

    def opened(*, within: Browser = browser, origin: str = url, script: str = "") -> Studio:
        page = within.new_page(viewport={"width": 1280, "height": 1000})
        pages.append(page)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", note)
        page.add_init_script(LISTEN_IN + script)
        page.goto(login_url().replace(url, origin))
        expect(page.locator("#studio")).to_be_visible()
        return Studio(page)

    try:
        yield opened
    finally:
        for page in pages:
            page.close()
    assert faults == []


@pytest.fixture
def open_studio(running_system: RunningSystem, browser: Browser) -> Iterator[OpenStudio]:
    """Open studio pages of the running system; see `studio_pages`."""
    with studio_pages(running_system.url, running_system.login_url, browser) as opened:
        yield opened


@pytest.fixture(scope="package")
def identity(running_system: RunningSystem, browser: Browser) -> str:
    """Enrol a face and a voice as a user does it, in the dialog; returns the label."""
    page = browser.new_page()
    page.goto(running_system.login_url())
    page.click("#enrol-open")
    page.set_input_files("[name=portrait]", MEDIA / "portrait.png")
    page.set_input_files("[name=voice]", MEDIA / "speaker_b.wav")
    page.fill("[name=label]", "Test identity")
    page.fill("[name=subject]", "a public-domain portrait and voice")
    page.fill("[name=purpose]", "browser tests")
    page.fill("[name=statement]", "Public domain.")
    page.check("[name=attest]")
    page.click("#enrol-save")
    expect(page.locator("#enrol")).to_be_hidden(timeout=60_000)
    expect(page.locator("#face option:checked")).to_have_text("Test identity")
    page.close()
    return "Test identity"
