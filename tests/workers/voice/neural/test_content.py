"""Content features: frame counts, and glue that gives every 10 ms of sound its feature."""

import numpy as np
import pytest

from schemas.errors import ModelRefused
from tests.workers.voice.neural.standins import FLOAT, constant, encoder, graph, node
from workers.models.runtime import Runtime
from workers.voice.neural import content
from workers.voice.neural.content import ContentEncoder, closed, frame_count, stretch

NOISE = np.random.default_rng(1).standard_normal(32_000).astype(np.float32)


def open_encoder() -> ContentEncoder:
    return ContentEncoder(Runtime("cpu").open(encoder(), content.CONTRACT, label="encoder"))


@pytest.mark.parametrize(
    ("samples", "frames"), [(399, 0), (400, 1), (719, 1), (720, 2), (3072, 9), (8000, 24), (16000, 49)]
)
def test_frames_of_the_convolution_stack(samples: int, frames: int) -> None:
    assert frame_count(samples) == frames


def test_the_encoder_gives_a_frame_per_320_samples() -> None:
    assert open_encoder()(NOISE[:8000]).shape == (24, 768)


@pytest.mark.parametrize("samples", [640, 3200, 9920])
def test_a_window_on_the_grid_gets_one_feature_per_10_ms(samples: int) -> None:
    features = np.arange(frame_count(samples) * 768, dtype=np.float32).reshape(-1, 768)
    stretched = stretch(closed(features), samples)
    assert stretched.shape == (samples // 160, 768)
    np.testing.assert_array_equal(stretched[0], stretched[1])
    np.testing.assert_array_equal(stretched[-1], features[-1])


def test_windows_give_the_features_of_the_whole_file() -> None:
    """At every position on the grid a window's features are those of the file; only its last, closing ones differ."""
    encode = open_encoder()
    whole = stretch(closed(encode(NOISE)), len(NOISE))
    for start in range(0, len(NOISE) - 9600, 1600):
        window = stretch(closed(encode(NOISE[start : start + 9600])), 9600)
        np.testing.assert_allclose(window[:-2], whole[start // 160 :][: len(window) - 2], atol=1e-5)


def test_another_number_of_frames_is_an_error() -> None:
    """Features beside the wrong pitch would be heard, and nobody would know why."""
    short = graph(
        [
            node("Conv", ["source", "w"], "c", kernel_shape=[400], strides=[640]),
            node("Transpose", ["c"], "embed", perm=[0, 2, 1]),
        ],
        [("source", FLOAT, [1, 1, "n"])],
        [("embed", FLOAT, [1, "t", 768])],
        [constant("w", np.zeros((768, 1, 400), np.float32))],
    )
    encode = ContentEncoder(Runtime("cpu").open(short, content.CONTRACT, label="short"))
    with pytest.raises(ValueError, match=r"\(1, 24, 768\) is needed"):
        encode(NOISE[:8000])


def test_an_encoder_of_256_channels_is_refused() -> None:
    narrow = graph(
        [
            node("Conv", ["source", "w"], "c", kernel_shape=[400], strides=[320]),
            node("Transpose", ["c"], "embed", perm=[0, 2, 1]),
        ],
        [("source", FLOAT, [1, 1, "n"])],
        [("embed", FLOAT, [1, "t", 256])],
        [constant("w", np.zeros((256, 1, 400), np.float32))],
    )
    with pytest.raises(ModelRefused, match="768 expected, 256 found"):
        Runtime("cpu").open(narrow, content.CONTRACT, label="narrow")
