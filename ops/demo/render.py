"""What the demo leaves to look at: a side-by-side video with the converted sound, and a contact sheet.

VP9 (libvpx) and Opus (libopus), both BSD-licensed and royalty-free, in MP4: current browsers and the usual players
play it. The H.264 encoder of PyAV's wheel is x264, which is under the GPL; it is not used.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from ops.demo.footage import FPS, FRAME_US, SIDE, decode
from ops.demo.measure import converted_sound
from ops.demo.publish import Recording, Script
from workers.video.engine import Frame
from workers.voice.engine import SAMPLE_RATE, Pcm

BEFORE, AFTER = "before", "after (synthetic)"
_OPUS_RATE = 48_000
_VP9 = {"deadline": "realtime", "cpu-used": "6", "row-mt": "1", "crf": "28", "b": "0", "g": "60"}
_SHEET_MOMENTS, _SHEET_COLUMNS, _SHEET_SIDE = 8, 2, 256
_BAND = 30  # px
Caption = Callable[[int], str]
"""Given a frame's pts in us, returns what the picture says beside `AFTER`."""
_NOTE = "Face and voice are synthetic: made by Mirage from consented sources."


def _nothing(_pts_us: int) -> str:
    return ""


def before_after(
    path: Path, script: Script, recording: Recording, progress: Callable[[float], None], *, caption: Caption = _nothing
) -> None:
    """Write the video: each moment's input beside what a viewer saw then, with the converted sound."""
    count = round(script.seconds * FPS)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as sink:
        sink.metadata["comment"] = _NOTE
        video = sink.add_stream("libvpx-vp9", rate=FPS, options=_VP9)
        video.width, video.height, video.pix_fmt = 2 * SIDE, SIDE, "yuv420p"
        audio = sink.add_stream("libopus", rate=_OPUS_RATE, options={"b": "64k"})
        audio.layout = "mono"
        track = converted_sound(recording, len(script.speech))
        pieces = _resampled(track)
        heard = 0
        for number, (before, after) in enumerate(couples(script, recording, caption)):
            picture = av.VideoFrame.from_ndarray(np.hstack([before, after]), format="bgr24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            sink.mux(video.encode(picture))
            while heard < (number + 1) * _OPUS_RATE // FPS and (piece := next(pieces, None)) is not None:
                heard += piece.samples
                sink.mux(audio.encode(piece))
            progress((number + 1) / count)
        for piece in pieces:
            sink.mux(audio.encode(piece))
        sink.mux(video.encode(None))
        sink.mux(audio.encode(None))


def couples(script: Script, recording: Recording, caption: Caption = _nothing) -> Iterator[tuple[Frame, Frame]]:
    """Yield (before, after) for every 1/20 s, labelled: the frame sent, and the newest one that came back for then."""
    came = {arrival.media.pts_us: arrival.media.data for arrival in recording.of("video")}
    after = np.zeros((SIDE, SIDE, 3), np.uint8)
    for number in range(round(script.seconds * FPS)):
        before = decode(script.clip.jpegs[script.clip.index(number)])
        if (jpeg := came.get(number * FRAME_US)) is not None:
            after = _fitted(decode(jpeg))
        yield labelled(before, BEFORE), labelled(after, f"{AFTER} {caption(number * FRAME_US)}".rstrip())


def contact_sheet(path: Path, script: Script, recording: Recording) -> None:
    """Write eight moments, each before | after."""
    count = round(script.seconds * FPS)
    moments = {round((k + 0.5) * count / _SHEET_MOMENTS) for k in range(_SHEET_MOMENTS)}
    small = (_SHEET_SIDE, _SHEET_SIDE)
    pairs = [
        np.hstack([cv2.resize(picture, small, interpolation=cv2.INTER_AREA) for picture in couple])
        for number, couple in enumerate(couples(script, recording))
        if number in moments
    ]
    blank = np.zeros_like(pairs[0])
    pairs += [blank] * (-len(pairs) % _SHEET_COLUMNS)
    rows = [np.hstack(pairs[at : at + _SHEET_COLUMNS]) for at in range(0, len(pairs), _SHEET_COLUMNS)]
    if not cv2.imwrite(str(path), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 90]):
        raise OSError(f"{path} could not be written")


def labelled(frame: Frame, text: str) -> Frame:
    """Return a copy of `frame` (H, W, 3) with a dark band that says what it is."""
    picture = frame.copy()
    band = picture[-_BAND:].astype(np.uint16)
    picture[-_BAND:] = (band // 3).astype(np.uint8)
    place = (10, picture.shape[0] - 9)
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def _fitted(frame: Frame) -> Frame:
    if frame.shape == (SIDE, SIDE, 3):
        return frame
    return np.asarray(cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.uint8)


def _resampled(track: Pcm) -> Iterator[av.AudioFrame]:
    """Yield the track at Opus's rate, in 20 ms pieces."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=_OPUS_RATE, frame_size=_OPUS_RATE // 50)
    sound = av.AudioFrame.from_ndarray(track[None], format="s16", layout="mono")
    sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
    yield from resampler.resample(sound)
    yield from resampler.resample(None)
