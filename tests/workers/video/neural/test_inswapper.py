"""The swapper on stand-ins: what a face becomes follows from its identity, whoever else is in the batch."""

import numpy as np
import pytest
from onnx import helper, load_from_string

from schemas.errors import ModelRefused
from tests.workers.video.neural import standins
from workers.models.runtime import Runtime
from workers.video.engine import Frame
from workers.video.faces import TrackedFace, TrackMemory, bounds
from workers.video.neural import align, contracts
from workers.video.neural.emap import read_emap
from workers.video.neural.inswapper import MAX_BATCH, InSwapper, NeuralIdentity, SwapOptions, latent_of, picture
from workers.video.pixels import Float, f32
from workers.video.stages import SwapRequest

Request = SwapRequest[NeuralIdentity]


def swapper(graph: bytes | None = None, options: SwapOptions | None = None) -> InSwapper:
    network = Runtime("cpu").open(graph or standins.swapper_graph(), contracts.SWAPPER, label="stand-in")
    return InSwapper(network, options)


def identity(seed: int) -> NeuralIdentity:
    latent = np.random.default_rng(seed).standard_normal(512)
    return NeuralIdentity(f32(latent / np.linalg.norm(latent)))


def request(frame: Frame, seed: int, points: Float | None = None) -> Request:
    points = f32(align.template(128) * 1.2 + 60) if points is None else points
    face = TrackedFace(0, points, bounds(points), 0.9, stable=True, memory=TrackMemory())
    return SwapRequest(frame, face, identity(seed))


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Return quiet grey frames, each of another size and level."""
    return [np.full((220 + 10 * i, 260, 3), 90 + 4 * i, np.uint8) for i in range(MAX_BATCH + 3)]


def test_a_face_takes_the_colour_of_its_identity(frames: list[Frame]) -> None:
    requests = [request(frame, seed) for seed, frame in enumerate(frames)]
    for wanted, frame, patch in zip(requests, frames, swapper().swap(requests), strict=True):
        assert patch is not None
        expected = f32(frame[0, 0, ::-1]) + 255 * standins.tint(wanted.identity.latent)
        found = patch.pixels[40:90, 40:90, ::-1].mean(axis=(0, 1))
        np.testing.assert_allclose(found, np.clip(expected, 0, 255), atol=1.5)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_batch_is_what_each_is_alone(frames: list[Frame], *, fixed: bool) -> None:
    """In order, also beyond the largest batch, and with a graph that takes one face at a time."""
    many = swapper(standins.swapper_graph(fixed=fixed))
    requests = [request(frame, seed) for seed, frame in enumerate(frames)]
    for alone, patch in zip([many.swap([one])[0] for one in requests], many.swap(requests), strict=True):
        assert alone is not None
        assert patch is not None
        np.testing.assert_array_equal(alone.pixels, patch.pixels)


def test_a_face_without_extent_is_declined_and_its_neighbours_are_not(frames: list[Frame]) -> None:
    nowhere = f32(np.full((5, 2), 50.0))
    requests = [request(frames[0], 0), request(frames[1], 1, nowhere), request(frames[2], 2)]
    made = swapper().swap(requests)
    assert [patch is None for patch in made] == [False, True, False]
    assert swapper().swap([requests[1]]) == [None]
    assert swapper().swap([]) == []


@pytest.mark.parametrize("kind", ["nan", "black"])
def test_a_broken_answer_is_declined(frames: list[Frame], kind: str) -> None:
    assert swapper(standins.swapper_graph(kind=kind)).swap([request(frames[0], 0)]) == [None]


def test_a_black_answer_to_a_black_picture_is_an_answer() -> None:
    (patch,) = swapper(standins.swapper_graph(kind="black")).swap([request(np.zeros((200, 200, 3), np.uint8), 0)])
    assert patch is not None


def test_light_can_be_taken_from_the_frame(frames: list[Frame]) -> None:
    wanted = request(frames[0], 3)
    (plain,) = swapper().swap([wanted])
    (lit,) = swapper(options=SwapOptions(light=1.0)).swap([wanted])
    assert plain is not None
    assert lit is not None
    middle = slice(40, 90)
    level = float(frames[0][0, 0, 0])
    assert abs(float(lit.pixels[middle, middle].mean()) - level) < 2
    assert abs(float(plain.pixels[middle, middle].mean()) - level) > 2


def test_fractions_are_cut_off_and_the_range_is_kept() -> None:
    planes = np.zeros((3, 2, 2), np.float32)
    planes[0] = [[1.0, 2.0], [-1.0, 127.9 / 255]]
    shown = picture(planes)
    assert shown is not None
    np.testing.assert_array_equal(shown[..., 2], [[255, 255], [0, 127]])
    planes[1, 0, 0] = np.inf
    assert picture(planes) is None


def test_the_matrix_is_found_by_name_or_as_the_last_initialiser() -> None:
    named, last = (read_emap(standins.swapper_graph(emap_name=name), label="x") for name in ("buff2fs", "anything"))
    np.testing.assert_array_equal(named, last)
    assert named.shape == (512, 512)


@pytest.mark.parametrize("graph", [b"", b"not onnx at all", standins.recogniser_graph()])
def test_a_file_without_the_matrix_is_refused(graph: bytes) -> None:
    with pytest.raises(ModelRefused, match="the-file"):
        read_emap(graph, label="the-file")


def test_a_matrix_in_half_precision_is_read() -> None:
    model = load_from_string(standins.swapper_graph())
    full = read_emap(standins.swapper_graph(), label="x")
    model.graph.initializer.pop()
    half = helper.make_tensor("buff2fs", 10, [512, 512], full.astype(np.float16).tobytes(), raw=True)
    model.graph.initializer.append(half)
    np.testing.assert_allclose(read_emap(model.SerializeToString(), label="x"), full, atol=1e-3)


def test_a_latent_has_unit_length_and_follows_the_matrix() -> None:
    emap = read_emap(standins.swapper_graph(), label="x")
    embedding = identity(0).latent
    latent = latent_of(embedding, emap)
    assert np.linalg.norm(latent) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(latent * np.linalg.norm(embedding @ emap), embedding @ emap, atol=1e-5)
    with pytest.raises(ValueError, match="no length"):
        latent_of(embedding, np.zeros_like(emap))
