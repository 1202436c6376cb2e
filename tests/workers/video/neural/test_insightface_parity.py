"""The same results as insightface on the same graphs and real photos. Runs where insightface is installed."""

import contextlib
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.workers.video.neural import standins
from workers.models.manifest import DETECTOR, RECOGNISER, SWAPPER
from workers.models.runtime import Runtime
from workers.video.engine import Frame
from workers.video.faces import TrackedFace, TrackMemory
from workers.video.neural import align, contracts
from workers.video.neural.arcface import ArcFace
from workers.video.neural.emap import read_emap
from workers.video.neural.inswapper import InSwapper, NeuralIdentity, latent_of
from workers.video.neural.scrfd import Scrfd
from workers.video.stages import SwapRequest

pytestmark = [pytest.mark.neural_peers, pytest.mark.filterwarnings("ignore")]  # insightface's own, of other packages

LEAST_DB = 50.0


class Peers:
    """insightface's classes and ours, on the same three files."""

    def __init__(self, folder: Path) -> None:
        from insightface.app import FaceAnalysis
        from insightface.model_zoo.inswapper import INSwapper

        graphs = standins.folder().graphs | {SWAPPER: standins.swapper_graph(fixed=True)}
        home = folder / "models" / "stand-ins"
        home.mkdir(parents=True)
        for name in (DETECTOR, RECOGNISER):
            (home / name).write_bytes(graphs[name])
        (folder / SWAPPER).write_bytes(graphs[SWAPPER])
        self.analysis: Any = FaceAnalysis(
            name="stand-ins",
            root=str(folder),
            allowed_modules=["detection", "recognition"],
            providers=["CPUExecutionProvider"],
        )
        self.analysis.prepare(ctx_id=-1, det_size=(640, 640))
        self.their_swapper: Any = INSwapper(str(folder / SWAPPER))
        runtime = Runtime("cpu")
        self.detector = Scrfd(runtime.open(graphs[DETECTOR], contracts.DETECTOR, label="detector"))
        self.recogniser = ArcFace(runtime.open(graphs[RECOGNISER], contracts.RECOGNISER, label="recogniser"))
        self.swapper = InSwapper(runtime.open(graphs[SWAPPER], contracts.SWAPPER, label="swapper"))
        self.emap = read_emap(graphs[SWAPPER], label="swapper")


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Peers:
    with contextlib.redirect_stdout(io.StringIO()):
        return Peers(tmp_path_factory.mktemp("insightface"))


@pytest.fixture(scope="module")
def photos(clip: list[Frame], couple: list[Frame], portrait: Frame) -> list[Frame]:
    """Real pictures, of several sizes, with one or two faces, upright and turned."""
    turned = cv2.warpAffine(clip[30], cv2.getRotationMatrix2D((256, 256), 25, 0.9), (512, 512))
    wide = cv2.resize(couple[0], (1280, 854), interpolation=cv2.INTER_CUBIC)[60:780]
    large = cv2.resize(portrait, (1080, 1080), interpolation=cv2.INTER_CUBIC)
    cut = clip[0][:, 200:]
    return [
        np.ascontiguousarray(photo, np.uint8) for photo in (*clip[::40], couple[0], portrait, turned, wide, large, cut)
    ]


def psnr(one: Frame, other: Frame) -> float:
    error = float(np.square(one.astype(np.float64) - other).mean())
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def test_the_same_faces_are_found(peers: Peers, photos: list[Frame]) -> None:
    seen = 0
    for photo in photos:
        boxes, keypoints = peers.analysis.det_model.detect(photo, input_size=(640, 640))
        found = peers.detector.detect(photo)
        assert len(found) == len(boxes)
        seen += len(found)
        for face, box, points in zip(found, boxes, keypoints, strict=True):
            assert face.score == pytest.approx(float(box[4]), abs=1e-5)
            np.testing.assert_allclose(face.box, box[:4], atol=0.01)
            np.testing.assert_allclose(face.keypoints, points, atol=0.01)
    assert seen >= len(photos)


@pytest.mark.parametrize("side", [112, 128, 256])
def test_crops_are_the_same(peers: Peers, photos: list[Frame], side: int) -> None:
    from insightface.utils import face_align

    for photo in photos:
        for face in peers.detector.detect(photo):
            crop, affine = face_align.norm_crop2(photo, face.keypoints, side)
            ours = align.similarity(face.keypoints, align.template(side))
            assert ours is not None
            np.testing.assert_allclose(ours, affine, rtol=1e-3, atol=1e-3)
            assert psnr(align.warp(photo, ours, side), crop) > LEAST_DB


def test_identities_are_the_same(peers: Peers, photos: list[Frame]) -> None:
    for photo in photos:
        for theirs, face in zip(peers.analysis.get(photo), peers.detector.detect(photo), strict=True):
            ours = peers.recogniser.embed(photo, face.keypoints)
            assert ours is not None
            assert float(ours @ theirs.normed_embedding) > 0.9999


def test_pasted_faces_are_the_same(peers: Peers, photos: list[Frame], portrait: Frame) -> None:
    (source,) = peers.analysis.get(portrait)
    (own,) = peers.detector.detect(portrait)
    embedding = peers.recogniser.embed(portrait, own.keypoints)
    assert embedding is not None
    identity = NeuralIdentity(latent_of(embedding, peers.emap))
    likeness = []
    for photo in photos:
        expected, shown = photo, photo.copy()
        for theirs, face in zip(peers.analysis.get(photo), peers.detector.detect(photo), strict=True):
            expected = peers.their_swapper.get(expected, theirs, source, paste_back=True)
            tracked = TrackedFace(0, face.keypoints, face.box, 1.0, stable=True, memory=TrackMemory())
            (patch,) = peers.swapper.swap([SwapRequest(shown.copy(), tracked, identity)])
            assert patch is not None
            patch.paste(shown)
        assert not np.array_equal(shown, photo)
        likeness.append(psnr(shown, expected))
    assert min(likeness) >= LEAST_DB, likeness
