"""The rung in force and a live change of fidelity reach the engine's session with the next frame."""

from collections.abc import Sequence

import cv2
import numpy as np

from schemas.facts import SettingsChanged
from schemas.ids import EntryId
from schemas.media import MediaEntry, MediaHeader
from schemas.names import Kind
from tests.workers.test_faults import Faces, Session, lease_of
from workers.engine_thread import EngineThread
from workers.video.batcher import FaceBatcher
from workers.video.engine import FaceSession, FaceSettings, FaceTuning
from workers.video.task import VideoConverter


class Opened(Faces):
    """An engine that remembers its session."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session()

    def open(self, settings: FaceSettings, worn: Sequence[bytes | None]) -> FaceSession:
        del settings, worn
        return self.session


async def test_rung_and_fidelity_reach_the_session_frame_by_frame() -> None:
    lease, identities = lease_of(Kind.VIDEO)
    engine = Opened()
    converter = VideoConverter(lease, faces=FaceBatcher(engine, EngineThread(), window_ms=0), identities=identities)
    await converter.open()
    jpeg = bytes(cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    seen = []
    for n, rung in enumerate((0, 3, 3, 1)):
        if n == 2:
            await converter.change(SettingsChanged(fidelity_pm=250))
        header = MediaHeader(pts_us=n * 50_000, sent_us=0, rung=rung)
        await converter.convert(MediaEntry(EntryId(n + 1, 0), header, jpeg))
        seen.append((engine.session.tuning.rung, engine.session.tuning.fidelity))
    assert seen == [(0, None), (3, None), (3, 0.25), (1, 0.25)]
    assert engine.session.tuning == FaceTuning(1, 0.25)
