"""The report: one page that asks nobody for anything, whatever a session says."""

import base64
import re
from html.parser import HTMLParser

import cv2
import msgspec
import numpy as np
import pytest

from ops.bench.synthetic import SyntheticSession
from ops.replay.rules import MEANINGS
from ops.replay.run import PolicyReplay, replay_session
from policy import audio, health, ladder, sync
from schemas.bus.base import Entry
from schemas.decisions import SetVideo, decision_id
from schemas.events import (
    EVENT,
    AudioProcessed,
    FrameThinned,
    SessionStarted,
    VideoProcessed,
    WorkerTook,
    metric_events,
)
from schemas.ids import EntryId
from schemas.message import encode
from tests.ops.replay.stage import Told, frames, tampered

VOID = {"meta", "link", "input", "img", "br"}
HOSTILE = "</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Reads a page; fails on a tag that is closed wrongly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]


def told(session: SyntheticSession | Told, *, pictures: bool = False) -> PolicyReplay:
    return replay_session(session, tell=True, pictures=pictures)


def test_the_page_is_well_formed_and_whole_in_itself() -> None:
    """Nothing is loaded from anywhere, and every link inside the page leads to something."""
    text = told(SyntheticSession(300)).page()
    page = Page(text)
    loaded = page.values("src", "href", "srcset", "data", "action")
    assert all(value.startswith(("#", "data:")) for value in loaded)
    assert len(page.ids) == len(set(page.ids))
    assert {value[1:] for value in page.values("href") if value.startswith("#")} <= set(page.ids)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)


def test_hundreds_of_decisions_are_thin_marks_that_lead_to_rows_that_are_there() -> None:
    """Decisions beyond those in the table are marks without a link."""
    session = SyntheticSession(60)
    causes = [entry.id for entry in session.metrics[:700]]
    floor = [
        Entry(
            decision_id(cause, 0),
            {EVENT: encode(SetVideo(cause=str(cause), rule="r", rung=n % 2, quality=1, fps=1, size=1))},
        )
        for n, cause in enumerate(causes)
    ]
    text = told(Told({"metrics": session.metrics, "policy": floor})).page()
    page = Page(text)
    links = {value[1:] for value in page.values("href") if value.startswith("#")}
    assert len(links) > 500
    assert links <= set(page.ids)
    assert 'class="row crowd"' in text
    assert 'class="row crowd"' not in told(SyntheticSession(60)).page()


def test_a_what_if_shows_both_sides() -> None:
    done = replay_session(
        SyntheticSession(120), config=lambda was: msgspec.structs.replace(was, video_down_pm=980), tell=True
    )
    page = Page(done.page())
    assert any(name.startswith("recorded-") for name in page.ids)
    assert "what-if" in done.page()
    assert "Open loop" in done.page()


def tile(page: str, name: str) -> str:
    """Return what a tile says, without its markup."""
    found = re.search(rf"<dt>{name}</dt><dd>(.*?)</dd>", page)
    assert found is not None
    return re.sub(r"(<[^>]*>)+", " ", found[1]).strip()


def test_accepted_chunks_and_the_detectors_pace_are_told() -> None:
    """Of five seconds with a look at every fifth frame: one look left out, one frame without a face, one slow chunk."""
    metrics, frame, chunk = [], 0, 0
    for entry in SyntheticSession(5).metrics:
        event = metric_events.decode(entry.fields[EVENT])
        if isinstance(event, VideoProcessed):
            frame += 1
            looks = event.detector_ran and frame != 21
            event = msgspec.structs.replace(event, detector_ran=looks, faces=int(frame != 33))
        elif isinstance(event, AudioProcessed) and event.outcome == "converted":
            chunk += 1
            event = msgspec.structs.replace(event, runtime_us=event.duration_us * (66 if chunk == 2 else 64) // 100)
        metrics.append(Entry(entry.id, {EVENT: encode(event)}))
    page = told(Told({"metrics": metrics})).page()
    share = f"{(chunk - 1) / chunk:.1%}"
    assert tile(page, "chunks accepted") == f"{share} took under 65% of their time, of {chunk} converted that counted"
    assert tile(page, "detector runs") == "every 5.3 frames longest wait: 10 frames; a face in 99.0% of frames"
    empty = told(Told({"metrics": metrics[:1]})).page()
    assert tile(empty, "chunks accepted") == "- no chunk counted"
    assert tile(empty, "detector runs") == "- no frame came out"


def test_an_hour_stays_small() -> None:
    assert len(told(SyntheticSession(3600)).page().encode()) < 1_000_000


def test_what_a_session_says_stays_text() -> None:
    """Names come from clients and other machines."""
    session = SyntheticSession(70)
    metrics = list(session.metrics)
    metrics[2] = Entry(metrics[2].id, {EVENT: encode(WorkerTook(kind=HOSTILE, worker=HOSTILE, epoch=1))})
    changed = [
        Entry(entry.id, {EVENT: encode(msgspec.structs.replace(event, outcome=HOSTILE))})
        if isinstance(event := metric_events.decode(entry.fields[EVENT]), VideoProcessed)
        else entry
        for entry in metrics
    ]
    text = told(Told({"metrics": changed, "policy": session.policy}, sid=HOSTILE)).page()
    page = Page(text)
    assert HOSTILE not in text
    assert not page.values("onerror")


def test_figures_that_cannot_be_true_still_make_a_page() -> None:
    """A damaged or hostile recording must not take all memory, or for ever."""
    metrics = list(SyntheticSession(20).metrics)
    thinned = FrameThinned(producer="x", seq=1, frames=1 << 60)
    metrics.append(Entry(EntryId(metrics[-1].id.ms + 1, 0), {EVENT: encode(thinned)}))
    metrics.append(Entry(EntryId(10**19, 0), {EVENT: encode(thinned)}))
    Page(told(Told({"metrics": metrics})).page())


def test_events_that_cannot_be_folded_are_a_problem_and_not_the_end() -> None:
    session = SyntheticSession(20)
    first = Entry(session.metrics[0].id, {EVENT: encode(SessionStarted(chunk_ms=7))})
    done = told(Told({"metrics": [first, *session.metrics[1:]]}))
    assert done.verdict.exit_code == 1
    assert "cannot be folded" in done.verdict.problems[0]
    Page(done.page())
    for name in ("chunks accepted", "detector runs"):
        assert tile(done.page(), name) == "- not known: the events were not folded"


def test_a_difference_is_told() -> None:
    session = SyntheticSession(100)
    text = told(Told({"metrics": session.metrics, "policy": tampered(session.policy, 0)})).page()
    assert "Different: " in text
    assert str(session.policy[0].id) in text
    Page(text)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_session_that_hardly_began_has_a_page(count: int) -> None:
    Page(told(Told({"metrics": SyntheticSession(5).metrics[:count]})).page())


def test_frames_before_and_after_are_shown_in_pairs() -> None:
    """Eight moments over the whole session, small, before left and after right; the raw face is pointed out."""
    session = SyntheticSession(80)
    ids = [EntryId(session.metrics[0].id.ms + n * 50, 0) for n in range(1600)]
    video = {"video:in": frames(ids, shade=40), "video:out": frames(ids[5:], shade=200)}
    done = told(Told({"metrics": session.metrics, "policy": session.policy} | video), pictures=True)
    page = Page(done.page())
    shown = [decoded(value) for value in page.values("src")]
    assert [round(float(picture.mean()) / 10) for picture in shown] == [4, 20] * 8
    assert max(max(picture.shape) for picture in shown) <= 320
    assert "own face" in done.page()
    assert [pair.at_ms // 10_000 for pair in done.pictures] == list(range(8))


def decoded(source: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture.astype(np.uint8)


def test_pictures_that_are_none_are_left_out() -> None:
    session = SyntheticSession(10)
    ids = [EntryId(session.metrics[0].id.ms + n * 50, 0) for n in range(200)]
    broken = [Entry(entry.id, {**entry.fields, b"d": b"no jpeg"}) for entry in frames(ids, shade=1)]
    done = told(Told({"metrics": session.metrics, "video:in": broken, "video:out": broken}), pictures=True)
    assert done.pictures == []
    assert "No pictures" in done.page()


def test_every_rule_is_explained() -> None:
    rules = {
        value
        for module in (audio, health, ladder, sync)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }
    assert len(rules) > 15
    assert rules <= set(MEANINGS)
