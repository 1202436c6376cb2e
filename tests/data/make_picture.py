"""Makes `stress.png` from `stress.mcap`: `python -m tests.data.make_picture`, with a Chromium on the PATH.

It is the timeline of the session's own replay report, in light colours, without the lanes that say nothing here, and
with one more at the top: what the demo made go wrong, which the session itself does not know.
"""

import shutil
from html import escape
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

from ops.archive.reader import open_archive
from ops.demo import course
from ops.demo.stress import LEAD_US, LOAD
from ops.replay.run import replay_session
from schemas.names import Kind
from workers.faults import Fault, fault_plan

HERE = Path(__file__).parent
WIDTH = 1180
HIDDEN = ("Voice", "Workers", "Decisions")
_STYLE = """
.hint, #readout, .card > .bar, .cursor, .lane output { display: none !important }
.card { border: 0 !important; border-radius: 0 !important; padding-top: .4rem !important }
.plot.load { height: 23px; margin-bottom: 2px; background: none } .plot.load .band { background: var(--spread) }
"""


def lane(start_ms: int, length_ms: int, zero_ms: int) -> str:
    """Return the lane of what goes wrong."""

    def band(from_us: int, to_us: int, what: str) -> str:
        left, right = ((us / 1000 + zero_ms - start_ms) / length_ms for us in (from_us, to_us))
        return (
            f'<div class="plot load"><b class="band" style="left:{left:.2%};width:{right - left:.2%};overflow:visible">'
            f'<span style="position:absolute;left:100%">{escape(what)}</span></b></div>'
        )

    jam = LOAD.jam
    rows = [band(jam.from_us + LEAD_US, jam.to_us + LEAD_US, f"frames arrive {jam.late_us // 1000} ms late")]
    for kind in (Kind.VIDEO, Kind.VOICE):
        rows += [
            band(fault.from_us or 0, fault.to_us or 0, _words(fault)) for fault in fault_plan(LOAD.fault, kind).faults
        ]
    return (
        '<section class="lane"><header><h3>Load</h3><p>what the demo makes go wrong, at what time</p></header>'
        f"{''.join(rows)}</section>"
    )


def _words(fault: Fault) -> str:
    if fault.kind is Kind.VOICE:
        return f"voice: +{fault.delay_us // 1000} ms a chunk"
    if fault.by_area:
        return f"face: +{fault.delay_us // 1000} ms a frame of 512 px"
    return f"one frame takes {fault.delay_us // 1000} ms longer"


def main() -> None:
    """Write the picture."""
    replayed = replay_session(open_archive(HERE / "stress.mcap"), tell=True)
    zero_ms = course.zero_ms(course.decoded(replayed.story))
    if zero_ms is None:
        raise SystemExit("the recorded session has no frame")
    line = replayed.timeline
    hidden = ", ".join(f'.lane[aria-label="{name}"]' for name in HIDDEN)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 1400}, color_scheme="light")
        page.set_content(replayed.page())
        page.add_style_tag(content=f"{_STYLE} {hidden} {{ display: none }}")
        added = lane(line.start_ms, line.length_ms, zero_ms)
        page.evaluate("html => document.querySelector('.axis').insertAdjacentHTML('afterend', html)", added)
        shot = cv2.imdecode(np.frombuffer(page.locator("#timeline").screenshot(), np.uint8), cv2.IMREAD_COLOR)
        cv2.imwrite(str(HERE / "stress.png"), np.asarray(shot), [cv2.IMWRITE_PNG_COMPRESSION, 9])  # no alpha: smaller
        browser.close()


if __name__ == "__main__":
    main()
