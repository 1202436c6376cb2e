"""Which engine runs, and why: on stand-in models, put into a store as a user's own files are."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from ops import engines
from ops.engines import choose_face, choose_voice, face_engine, face_enrollers, voice_engine, voice_enrollers
from ops.enrolment import decode_image, decode_wav
from ops.settings import Settings, read
from ops.shipped_media import media_file
from schemas.errors import Misconfigured, ModelMissing, ModelRefused
from tests.workers.video.neural.standins import detector_graph, recogniser_graph, segmenter_graph, swapper_graph
from tests.workers.voice.neural.standins import encoder, pitch_finder, times
from tests.workers.voice.neural.standins import voice as synthesiser
from workers.models import manifest
from workers.models.runtime import Runtime
from workers.models.store import ModelStore
from workers.video.engine import FaceSettings, Frame

ROOT = Path(__file__).parents[2]


def put(store: ModelStore, **graphs: bytes) -> None:
    for name, graph in graphs.items():
        store.put(name, graph, origin="built by the tests", at="2026-01-01T00:00:00+00:00")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, provider="cpu")


@pytest.fixture
def faces(settings: Settings) -> Settings:
    graphs = {
        manifest.DETECTOR: detector_graph(),
        manifest.RECOGNISER: recogniser_graph(),
        manifest.SWAPPER: swapper_graph(fixed=True),
    }
    put(engines.model_store(settings), **graphs)
    return settings


@pytest.fixture
def voices(settings: Settings) -> Settings:
    put(
        engines.model_store(settings),
        **{manifest.CONTENT_ENCODER: encoder(), manifest.PITCH: pitch_finder(), "voices/anna.onnx": synthesiser()},
    )
    return settings


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this machine's provider pass for a GPU: the choice asks nothing else of it."""
    monkeypatch.setattr(Runtime, "accelerated", property(lambda _: True))


def test_without_models_auto_is_embedded_and_says_what_to_pull(settings: Settings) -> None:
    face, voice = choose_face(settings), choose_voice(settings)
    assert (face.engine, voice.engine) == ("embedded", "embedded")
    assert "`mirage models pull face`" in face.reason
    assert "`mirage models pull voice`" in voice.reason
    assert not engines.models_folder(settings).exists()


def test_neural_without_models_is_an_error_that_says_what_to_pull(settings: Settings) -> None:
    with pytest.raises(ModelMissing, match=r"MIRAGE_ENGINE=neural cannot run: det_10g\.onnx, .*models pull face"):
        choose_face(replace(settings, engine="neural"))
    with pytest.raises(ModelMissing, match=r"MIRAGE_VOICE_ENGINE=neural cannot run: vec-768.*models pull voice"):
        choose_voice(replace(settings, voice_engine="neural"))
    with pytest.raises(ModelMissing, match=r"inswapper_128\.onnx not in .*pull .*inswapper_128\.onnx"):
        choose_face(replace(settings, engine="neural", inswapper="fp32"))


def test_on_a_cpu_auto_stays_embedded_and_says_why(faces: Settings) -> None:
    choice = choose_face(faces)
    assert choice.engine == "embedded"
    assert "no GPU" in choice.reason
    assert "MIRAGE_ENGINE=neural" in choice.reason


@pytest.mark.usefixtures("on_gpu")
def test_on_a_gpu_auto_is_neural_where_every_model_verifies(faces: Settings) -> None:
    assert choose_face(faces).engine == "neural"
    flip(engines.model_store(faces).path(manifest.DETECTOR))
    choice = choose_face(faces)
    assert choice.engine == "embedded"
    assert "det_10g.onnx" in choice.reason
    assert "sha256" in choice.reason


def test_embedded_is_embedded_whatever_is_there(faces: Settings) -> None:
    choice = choose_face(replace(faces, engine="embedded"))
    assert (choice.engine, choice.reason) == ("embedded", "MIRAGE_ENGINE=embedded")


def test_a_damaged_model_is_an_error_where_neural_is_asked_for(faces: Settings) -> None:
    flip(engines.model_store(faces).path(manifest.SWAPPER))
    with pytest.raises(ModelRefused, match=r"inswapper_128_fp16\.onnx .* expected"):
        choose_face(replace(faces, engine="neural"))


def test_neural_where_it_can_run_swaps_a_face_that_was_enrolled_without_its_swapper(faces: Settings) -> None:
    """The template of the edge, which opens no swapper, is the one that the worker's engine would make."""
    neural = replace(faces, engine="neural")
    assert choose_face(neural).reason.endswith("on cpu, far from real time")
    engine = face_engine(neural)
    assert engine.name == "neural"
    portrait = decode_image(media_file("portrait.png").read_bytes())
    templates = {maker.name: maker.enrol(portrait) for maker in face_enrollers(neural)}
    assert set(templates) == {"embedded", "neural"}
    assert templates["neural"] == engine.enrol(portrait)
    session = engine.open(FaceSettings(), [templates["neural"]])
    assert engine.process([(session, np.ascontiguousarray(portrait), 0)])[0].faces == 1


def test_a_swapper_that_gives_black_is_refused_when_it_is_loaded(faces: Settings) -> None:
    put(engines.model_store(faces), **{manifest.SWAPPER: swapper_graph(kind="black")})
    with pytest.raises(ModelRefused, match=r"inswapper_128_fp16\.onnx: .*black"):
        face_engine(replace(faces, engine="neural"))


def swapped(settings: Settings) -> Frame:
    engine = face_engine(settings)
    portrait = np.ascontiguousarray(decode_image(media_file("portrait.png").read_bytes()))
    (result,) = engine.process([(engine.open(FaceSettings(), [engine.enrol(portrait)]), portrait, 0)])
    assert result.faces == 1
    return result.frame


@pytest.mark.usefixtures("on_gpu")
def test_a_recogniser_that_knows_nobody_here_is_refused_when_it_is_loaded(faces: Settings) -> None:
    put(engines.model_store(faces), **{manifest.RECOGNISER: times(recogniser_graph(), 0.0)})
    with pytest.raises(ModelRefused, match=r"on cpu .* do not know the shipped portrait: .*MIRAGE_PROVIDER"):
        face_engine(replace(faces, engine="neural"))
    with capture_logs() as lines:
        assert face_engine(faces).name == "embedded"
    assert (
        "do not know the shipped portrait" in next(line for line in lines if line["event"] == "face engine")["reason"]
    )


@pytest.mark.parametrize("variable", ["MIRAGE_SWAP_LIGHT", "MIRAGE_SWAP_KEEP_MOUTH"])
def test_what_a_swap_leaves_to_taste_is_set_by_the_environment(faces: Settings, variable: str) -> None:
    given = {"MIRAGE_ENGINE": "neural", "MIRAGE_PROVIDER": "cpu", "MIRAGE_DATA_DIR": str(faces.data_dir)}
    plain, tuned = swapped(read(given)), swapped(read(given | {variable: "1"}))
    assert np.abs(plain.astype(int) - tuned).max() > 20


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the models that are read from here on."""
    names, read_model = [], ModelStore.read

    def counted(store: ModelStore, name: str) -> bytes:
        names.append(name)
        return read_model(store, name)

    monkeypatch.setattr(ModelStore, "read", counted)
    return names


@pytest.mark.parametrize("asked", ["neural", "auto"])
@pytest.mark.usefixtures("on_gpu")
def test_an_engine_that_starts_reads_each_model_once(
    faces: Settings, voices: Settings, reads: list[str], asked: str
) -> None:
    assert face_engine(replace(faces, engine=asked)).name == "neural"
    assert sorted(reads) == sorted([manifest.DETECTOR, manifest.RECOGNISER, manifest.SWAPPER])
    reads.clear()
    assert voice_engine(replace(voices, voice_engine=asked)).name == "neural"
    assert sorted(reads) == sorted([manifest.CONTENT_ENCODER, manifest.PITCH, "voices/anna.onnx"])


@pytest.mark.usefixtures("on_gpu")
def test_auto_starts_the_embedded_engine_and_logs_why_where_a_model_does_not_verify(
    faces: Settings, voices: Settings
) -> None:
    flip(engines.model_store(faces).path(manifest.DETECTOR))
    flip(engines.model_store(voices).path(manifest.PITCH))
    with capture_logs() as lines:
        assert face_engine(faces).name == "embedded"
        assert voice_engine(voices).name == "embedded"
    reasons = [line["reason"] for line in lines if line["event"] in ("face engine", "voice engine")]
    assert [name in reason for name, reason in zip(("det_10g.onnx", "rmvpe.onnx"), reasons, strict=True)] == [True] * 2
    with pytest.raises(ModelRefused, match=r"MIRAGE_ENGINE=neural cannot run: .*det_10g.* expected"):
        face_engine(replace(faces, engine="neural"))
    with pytest.raises(ModelRefused, match=r"MIRAGE_VOICE_ENGINE=neural cannot run: .*rmvpe.* expected"):
        voice_engine(replace(voices, voice_engine="neural"))


def test_a_neural_voice_speaks_and_enrols(voices: Settings) -> None:
    neural = replace(voices, voice_engine="neural")
    engine = voice_engine(neural)
    assert engine.name == "neural"
    speech = decode_wav(media_file("speaker_b.wav").read_bytes())
    templates = {maker.name: maker.enrol(speech) for maker in voice_enrollers(neural)}
    assert set(templates) == {"embedded", "neural"}
    assert engine.open(templates["neural"]).process(speech[:3072]).pcm.shape == (3072,)


def test_one_of_several_voices_is_chosen_by_name(voices: Settings) -> None:
    neural = replace(voices, voice_engine="neural")
    put(engines.model_store(voices), **{"voices/zoe.onnx": synthesiser()})
    with pytest.raises(Misconfigured, match=r"several voices .*anna\.onnx, voices/zoe\.onnx; set MIRAGE_VOICE_MODEL"):
        choose_voice(neural)
    assert choose_voice(replace(neural, voice_model="zoe")).engine == "neural"
    with pytest.raises(ModelMissing, match=r"MIRAGE_VOICE_MODEL=eva is not in .*; there: anna, zoe"):
        choose_voice(replace(neural, voice_model="eva"))


def test_without_a_voice_there_is_no_neural_engine(voices: Settings) -> None:
    engines.model_store(voices).path("voices/anna.onnx").unlink()
    assert "add-voice" in choose_voice(voices).reason
    with pytest.raises(ModelMissing, match=r"there is no voice .*mirage models add-voice FILE"):
        choose_voice(replace(voices, voice_engine="neural"))


def test_another_f0_needs_no_rmvpe(voices: Settings) -> None:
    engines.model_store(voices).path(manifest.PITCH).unlink()
    neural = replace(voices, voice_engine="neural")
    with pytest.raises(ModelMissing, match=r"rmvpe\.onnx not in"):
        choose_voice(neural)
    assert choose_voice(replace(neural, voice_f0="embedded")).engine == "neural"


def test_portraits_are_enrolled_for_the_embedded_engine_alone_without_models(settings: Settings) -> None:
    assert [maker.name for maker in face_enrollers(settings)] == ["embedded"]
    assert [maker.name for maker in voice_enrollers(settings)] == ["embedded"]
    with pytest.raises(ModelMissing):
        face_enrollers(replace(settings, engine="neural"))


def mirage(folder: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        env=kept | {"MIRAGE_DATA_DIR": str(folder), "COLUMNS": "300"} | more,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_doctor_says_which_engine_runs_and_why(tmp_path: Path) -> None:
    code, out, _ = mirage(tmp_path, "doctor")
    assert code == 0
    assert "embedded: the neural engine cannot run: det_10g.onnx" in out
    code, out, _ = mirage(tmp_path, "doctor", MIRAGE_ENGINE="neural")
    assert code == 1
    assert "MIRAGE_ENGINE=neural cannot run" in out


def test_a_segmenter_that_is_asked_for_and_missing_is_said_and_can_be_pulled(faces: Settings) -> None:
    asked = replace(faces, engine="neural", occlusion=1)
    with pytest.raises(ModelMissing, match=r"selfie_multiclass_256x256\.onnx not in .*`mirage models pull occlusion`"):
        choose_face(asked)
    assert "`mirage models pull occlusion`" in engines.occlusion(asked)
    assert manifest.GROUPS["occlusion"] == (manifest.SEGMENTER,)
    assert {maker.name for maker in face_enrollers(asked)} == {"embedded", "neural"}  # enrolment needs none
    assert choose_face(replace(asked, occlusion=0)).engine == "neural"
    assert engines.occlusion(faces) == "none: MIRAGE_OCCLUSION is 0"


def test_an_engine_with_a_segmenter_swaps_and_one_that_is_another_graph_is_refused(faces: Settings) -> None:
    asked, store = replace(faces, engine="neural", occlusion=1), engines.model_store(faces)
    put(store, **{manifest.SEGMENTER: segmenter_graph()})
    assert "stay before it" in engines.occlusion(asked)
    engine = face_engine(asked)
    portrait = decode_image(media_file("portrait.png").read_bytes())
    (result,) = engine.process([(engine.open(FaceSettings(), [engine.enrol(portrait)]), portrait, 0)])
    assert (result.faces, "enhance" in result.stages_us) == (1, True)
    put(store, **{manifest.SEGMENTER: segmenter_graph(side=144)})
    with pytest.raises(ModelRefused, match=r"selfie_multiclass_256x256\.onnx is not MediaPipe's multiclass selfie"):
        face_engine(asked)


def test_what_doctor_says_of_the_enhancer_can_be_pulled(settings: Settings) -> None:
    (name,) = re.findall(r"`mirage models pull (\S+)`", engines.enhancement(settings))
    assert manifest.GROUPS[name] == (manifest.CODEFORMER_WEIGHTS,)


def test_a_neural_system_without_models_says_what_to_pull_and_starts_nothing(tmp_path: Path) -> None:
    code, _, err = mirage(tmp_path, "up", MIRAGE_VOICE_ENGINE="neural", MIRAGE_PORT="0")
    assert code == 2
    assert "`mirage models pull voice`" in err
    assert not (tmp_path / "run.json").exists()


def test_a_neural_demo_without_models_says_what_to_pull_and_starts_nothing(tmp_path: Path) -> None:
    code, _, err = mirage(tmp_path, "demo", "--engine", "neural", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "`mirage models pull face`" in err
    assert not (tmp_path / "out").exists()


def test_a_demo_with_neural_faces_runs_to_its_end_and_leaks_nothing(faces: Settings) -> None:
    """Models of the user's own folder, in the workers of the demo's own system."""
    out = faces.data_dir / "out"
    code, shown, err = mirage(
        faces.data_dir,
        *("demo", "--seconds", "3", "--out", str(out), "--json"),
        MIRAGE_ENGINE="neural",
        MIRAGE_VOICE_ENGINE="embedded",
        MIRAGE_PROVIDER="cpu",
    )
    assert code == 0, err
    assert "face: neural engine" in err
    found = json.loads(shown)
    assert found["frames_out"] > 0
    assert found["raw_frames_leaked"] == 0


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
