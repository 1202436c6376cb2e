"""The models that ship with Mirage: whole, unaltered, and with the inputs and outputs the engines rely on."""

import hashlib
import json
import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from schemas.errors import Misconfigured
from workers.models import vendored

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "workers" / "models" / "vendored"
LEGAL = {"manifest.json", "NOTICE", "LICENSE-APACHE-2.0.txt"}

Shapes = dict[str, list[int | str]]  # by tensor name; a name in a shape is an axis the caller may choose
GRAPHS: dict[str, tuple[Shapes, Shapes]] = {
    "face_detection_full_range.onnx": (
        {"input": [1, 192, 192, 3]},
        {"reshaped_regressor_face_4": [1, 2304, 16], "reshaped_classifier_face_4": [1, 2304, 1]},
    ),
    "face_detection_short_range.onnx": (
        {"input": [1, 128, 128, 3]},
        {"regressors": [1, 896, 16], "classificators": [1, 896, 1]},
    ),
    "face_mesh_attention.onnx": (
        {"input_1": [1, 192, 192, 3]},
        {"landmarks": [478, 3], "conv_faceflag": [1, 1, 1, 1]},
    ),
    "ge2e.onnx": ({"mel": ["n", "t", 40]}, {"emb": ["n", 256]}),
}


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that the loader reads instead of the real one, holding the smallest file of it."""
    (tmp_path / "canonical.npz").write_bytes((FOLDER / "canonical.npz").read_bytes())
    monkeypatch.setattr(vendored, "_FOLDER", tmp_path)
    return tmp_path


def test_the_manifest_lists_every_file_and_nothing_else() -> None:
    """Nothing is vendored without an entry that says whence it came and under which licence."""
    assert {path.name for path in FOLDER.iterdir()} - LEGAL == set(vendored.names())


def test_every_entry_says_size_source_and_licence() -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text("utf-8"))["files"]
    for name, entry in manifest.items():
        assert entry["bytes"] == (FOLDER / name).stat().st_size, name
        assert entry["licence"] in {"Apache-2.0", "MIT"}, name
        assert entry["source"], name
        assert entry["copyright"], name
        assert all(len(given["sha256"]) == 64 for given in entry["inputs"]), name


def test_every_file_verifies() -> None:
    for name in vendored.names():
        assert vendored.read(name), name


def test_the_notice_names_every_file_and_the_licence_text_is_whole() -> None:
    notice = (FOLDER / "NOTICE").read_text("utf-8")
    assert all(name in notice for name in vendored.names())
    licence = (FOLDER / "LICENSE-APACHE-2.0.txt").read_text("utf-8")
    assert "TERMS AND CONDITIONS" in licence
    assert "END OF TERMS AND CONDITIONS" in licence


def test_a_flipped_byte_is_refused_with_the_file_and_both_hashes(copied: Path) -> None:
    """The message says which file to reinstall and lets a reader check both hashes."""
    path = copied / "canonical.npz"
    good = path.read_bytes()
    bad = bytes([good[0] ^ 1]) + good[1:]
    path.write_bytes(bad)
    with pytest.raises(Misconfigured) as refusal:
        vendored.read("canonical.npz")
    for part in ("canonical.npz", hashlib.sha256(good).hexdigest(), hashlib.sha256(bad).hexdigest()):
        assert part in str(refusal.value)


def test_a_missing_file_is_refused_by_name(copied: Path) -> None:
    (copied / "canonical.npz").unlink()
    with pytest.raises(Misconfigured, match=r"canonical\.npz is missing"):
        vendored.read("canonical.npz")


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_keeps_its_inputs_and_outputs(name: str) -> None:
    """Engines address tensors by these names and shapes."""
    session = vendored.session(name)
    inputs, outputs = GRAPHS[name]
    assert {given.name: given.shape for given in session.get_inputs()} == inputs
    assert {given.name: given.shape for given in session.get_outputs()} == outputs
    assert {given.type for given in (*session.get_inputs(), *session.get_outputs())} == {"tensor(float)"}


@pytest.mark.parametrize("name", [name for name in GRAPHS if name.startswith("face")])
def test_a_face_graph_gives_finite_numbers_and_the_same_ones_twice(name: str) -> None:
    session = vendored.session(name)
    (given,) = session.get_inputs()
    image = np.random.default_rng(0).random(given.shape, np.float32)
    once, again = session.run(None, {given.name: image}), session.run(None, {given.name: image})
    for one, other, shape in zip(once, again, GRAPHS[name][1].values(), strict=True):
        assert list(one.shape) == shape
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)


def test_the_face_mesh_of_a_blank_image_is_no_face() -> None:
    """The presence logit must be able to say no: a covered camera must not be tracked."""
    session = vendored.session("face_mesh_attention.onnx")
    _, presence = session.run(None, {"input_1": np.zeros((1, 192, 192, 3), np.float32)})
    assert float(presence.item()) < 0


def test_the_canonical_mesh_is_a_surface() -> None:
    """468 points in 898 triangles with no point unused, no degenerate triangle and no edge shared by three."""
    mesh = vendored.arrays("canonical.npz")
    assert mesh["xyz"].shape == (468, 3)
    assert mesh["uv"].shape == (468, 2)
    assert 0 <= mesh["uv"].min() <= mesh["uv"].max() <= 1
    triangles = mesh["tri"]
    assert triangles.shape == (898, 3)
    assert set(triangles.ravel().tolist()) == set(range(468))
    assert all(len(set(triangle)) == 3 for triangle in triangles.tolist())
    edges = [tuple(sorted(edge)) for a, b, c in triangles.tolist() for edge in pairwise((a, b, c, a))]
    assert max(edges.count(edge) for edge in set(edges)) == 2
    assert mesh["basis_w"].shape == mesh["basis_id"].shape == (33,)


def test_a_pickled_array_is_refused(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a file the manifest agrees to may not run code."""
    path = copied / "pickled.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(vendored, "_manifest", lambda: {"pickled.npy": {"sha256": digest}})
    with pytest.raises(ValueError, match="allow_pickle"):
        vendored.arrays("pickled.npy")


def _partials(session: ort.InferenceSession, name: str) -> NDArray[np.float32]:
    """Return the embeddings (n, 256) of the first 12 s of a 16 kHz recording, one for each 1.6 s."""
    with wave.open(str(ROOT / "ops" / "media" / name)) as file:
        assert file.getframerate() == 16_000
        pcm = np.frombuffer(file.readframes(12 * 16_000), np.int16).astype(np.float32) / 32768
    frames = np.lib.stride_tricks.sliding_window_view(pcm, 400)[::160] * np.hanning(401)[:-1].astype(np.float32)
    power = (np.abs(np.fft.rfft(frames, axis=1)) ** 2).astype(np.float32)
    mel = power @ vendored.arrays("ge2e_mel.npy")["array"].T
    whole = len(mel) // 160
    embeddings: NDArray[np.float32] = session.run(None, {"mel": mel[: whole * 160].reshape(whole, 160, 40)})[0]
    return embeddings


def test_the_speaker_encoder_tells_two_speakers_apart() -> None:
    """Embeddings have unit length; halves of one recording are nearer to each other than to another speaker."""
    session = vendored.session("ge2e.onnx")
    a, b = (_partials(session, f"speaker_{who}.wav") for who in "ab")
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([a, b]), axis=1), 1, atol=1e-5)

    def voice(partials: NDArray[np.float32]) -> NDArray[np.float32]:
        mean = partials.mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    half = len(a) // 2
    same = min(float(voice(who[:half]) @ voice(who[half:])) for who in (a, b))
    different = max(float(voice(a[part]) @ voice(b[part])) for part in (slice(half), slice(half, None)))
    assert same > different + 0.2
