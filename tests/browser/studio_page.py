"""The studio as a person uses it, and what can be seen and heard of it from outside."""

import base64
import re
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

from tests.browser.waits import until

Frame = NDArray[np.uint8]
HEARD_RATE = 16_000

# Notes which node feeds the loudspeaker, before the page's own scripts run. The page itself knows nothing of tests.
LISTEN_IN = """
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode) window.__speaker ??= this;
  return connect.call(this, target, ...rest);
};
"""
_RECORD = """() => {
  window.__heard = [];
  if (window.__tap) return;
  const tap = (window.__tap = window.__speaker.context.createScriptProcessor(4096, 1, 1));
  tap.onaudioprocess = (event) => window.__heard.push(event.inputBuffer.getChannelData(0).slice());
  window.__speaker.connect(tap);
  tap.connect(window.__speaker.context.destination);
}"""
_HEARD_SAMPLES = "() => window.__heard.length * 4096"
_HEARD = """() => {
  const samples = Int16Array.from(window.__heard.flatMap((block) => [...block]), (value) => value * 32767);
  let text = "";
  const bytes = new Uint8Array(samples.buffer);
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}"""
_COVERED_BY = """(key) => {
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  return document.querySelector("#output-cover").checkVisibility();
}"""
_PICTURE = """(selector) => {
  const source = document.querySelector(selector);
  const canvas = document.createElement("canvas");
  canvas.width = source.videoWidth ?? source.width;
  canvas.height = source.videoHeight ?? source.height;
  canvas.getContext("2d").drawImage(source, 0, 0);
  return canvas.toDataURL("image/jpeg", 0.95).split(",")[1];
}"""


@dataclass(frozen=True)
class Studio:
    """One open studio page."""

    page: Page

    def choose(self, label: str) -> None:
        """Pick an identity's face and voice; none when the label is empty."""
        for kind in ("#face", "#voice"):
            if label:
                self.page.select_option(kind, label=label)
            else:
                self.page.select_option(kind, value="")

    def settle(self) -> None:
        """Wait until sound plays and pictures follow it."""
        until(
            lambda: self.figure("sync") is not None and (self.figure("buffer") or 0) > 0,
            what="sound plays and pictures follow it",
        )

    def start(self) -> None:
        """Press Start and wait until the page is live and shows a picture."""
        self.page.click("#start")
        expect(self.page.locator("#status")).to_have_text("Live")
        expect(self.page.locator("#output-cover")).to_be_hidden()

    def stop(self) -> None:
        """Press Stop."""
        self.page.click("#stop")
        expect(self.page.locator("#status")).to_have_text("Off")

    def figure(self, name: str) -> float | None:
        """Return the number in the figure `name`; None while it shows a dash."""
        match = re.match(r"-?[\d.]+", self.page.inner_text(f"#f-{name}"))
        return float(match[0]) if match else None

    def output(self) -> Frame:
        """Return the output picture as it is now, BGR."""
        return _decode(self.page.evaluate(_PICTURE, "#output"))

    def own(self) -> Frame:
        """Return the own picture as it is now, BGR, not mirrored."""
        return _decode(self.page.evaluate(_PICTURE, "#own"))

    def record(self) -> None:
        """Begin to record what the loudspeaker plays; anew, if it is recorded already."""
        self.page.evaluate(_RECORD)

    def recorded_s(self) -> float:
        """Return how much was recorded so far."""
        samples: int = self.page.evaluate(_HEARD_SAMPLES)
        return samples / HEARD_RATE

    def heard(self) -> NDArray[np.float64]:
        """Return what was recorded, in -1..1, at `HEARD_RATE`."""
        raw = base64.b64decode(self.page.evaluate(_HEARD))
        return np.frombuffer(raw, "<i2").astype(np.float64) / 32768

    def notice(self, name: str) -> str:
        """Wait for the notice `name` and return its words."""
        card = self.page.locator(f'#notices [data-name="{name}"]')
        expect(card).to_be_visible()
        return card.inner_text()

    def is_blank(self) -> bool:
        """Whether the output shows nothing at all: one dark colour, under a cover."""
        return bool(self.output().max() < 40) and self.page.locator("#output-cover").is_visible()

    def await_blank(self) -> None:
        """Wait until the output is blank."""
        until(self.is_blank, what="the output is blank", every_s=0.05)

    def covered_by(self, key: str) -> bool:
        """Press `key`; returns whether the output is covered before the page does anything else."""
        return bool(self.page.evaluate(_COVERED_BY, key))


def _decode(text: str) -> Frame:
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture, np.uint8)
