"""CodeFormer: our network computes what the reference computed, and so does the graph that is made of it."""

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import ModelRefused
from tests.workers.models.codeformer import recipe

pytestmark = [pytest.mark.neural_peers, pytest.mark.timeout(600)]

FIRST, LAST = 0, 5  # w = 0 without AdaIN, w = 1 with it: together they use every weight


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(value) for name, value in recipe.weights().items()}


@pytest.fixture(scope="module")
def checkpoint(state: dict[str, Any]) -> bytes:
    return saved({"params_ema": state})


def saved(what: Any) -> bytes:
    import torch

    sink = io.BytesIO()
    torch.save(what, sink)
    return sink.getvalue()


def test_the_recipe_gives_the_tensors_that_the_vectors_were_made_with() -> None:
    sums = recipe.checksums()
    for name, value in recipe.weights().items():
        assert hashlib.sha256(value.astype("<f4").tobytes()).hexdigest()[:16] == sums["tensors"][name], name
    picture = hashlib.sha256(recipe.picture().astype("<f4").tobytes()).hexdigest()[:16]
    assert picture == sums["image_float32_1x3x512x512"]


def test_the_parameters_are_those_of_the_published_checkpoint_in_its_order() -> None:
    from workers.models.codeformer import CodeFormer

    ours = [(name, list(value.shape)) for name, value in CodeFormer().state_dict().items()]
    assert ours == [(entry["name"], entry["shape"]) for entry in recipe.table()]


@pytest.mark.parametrize("case", [FIRST, LAST])
def test_outputs_codes_and_logits_are_the_references(state: dict[str, Any], case: int) -> None:
    import torch

    from workers.models.codeformer import CodeFormer

    stored = recipe.vectors()
    network = CodeFormer().eval()
    network.load_state_dict(state, strict=True)
    traced: dict[str, Any] = {}
    trace = "trace_w0_adain0" if case == FIRST else "trace_w1_adain1"
    wanted = [str(name) for name in stored[f"{trace}_names"]]
    for name, module in network.named_modules():
        if name in wanted:
            module.register_forward_hook(_keep(traced, name))
    with torch.no_grad():
        made = network(
            torch.from_numpy(recipe.picture()),
            torch.tensor(float(stored["case_w"][case])),
            adain=bool(stored["case_adain"][case]),
        )
    image, logits = made.image[0].numpy(), made.logits[0].numpy()
    grid = image[:, stored["grid_y"]][:, :, stored["grid_x"]]
    assert np.abs(grid - stored["out_grid"][case]).max() <= 1e-5
    blocks = image.reshape(3, 16, 32, 16, 32).mean((2, 4))
    assert np.abs(blocks - stored["out_blockmean"][case]).max() <= 1e-5
    assert np.array_equal(logits.argmax(1), stored["code_idx"][case])
    assert np.abs(logits[stored["token_idx"]] - stored["logits_sample"]).max() <= 1e-4
    compared = 0
    for row, name in enumerate(wanted):
        if name not in traced:
            continue  # `quantized` is no module: the generator's first block sees it
        flat = traced[name].ravel()
        places = np.arange(32) * (flat.size - 1) // 31
        error = np.abs(flat[places] - stored[f"{trace}_sample"][row]).max()
        assert error <= 1e-4 * stored[f"{trace}_std_f64"][row], name
        compared += 1
    assert compared == len(wanted) - 1


def _keep(traced: dict[str, Any], name: str) -> Callable[..., None]:
    def hook(module: Any, inputs: Any, output: Any) -> None:
        del module, inputs
        traced[name] = output.detach().numpy()

    return hook


def test_in_double_precision_the_network_is_the_reference_to_ten_digits(state: dict[str, Any]) -> None:
    """Float32 cannot tell apart two values of a norm's epsilon, or the two variances of AdaIN."""
    import torch

    from workers.models.codeformer import CodeFormer

    stored = recipe.vectors()
    network = CodeFormer().double().eval()
    network.load_state_dict(state, strict=True)
    with torch.no_grad():
        made = network(torch.from_numpy(recipe.picture()).double(), torch.tensor(1.0, dtype=torch.float64))
    grid = made.image[0].numpy()[:, stored["grid_y"]][:, :, stored["grid_x"]]
    assert np.abs(grid - stored["out_grid_f64"][LAST]).max() <= 1e-10
    assert np.abs(made.logits[0].numpy()[stored["token_idx"]] - stored["logits_sample_f64"]).max() <= 1e-10


def test_the_converted_graph_computes_the_same_for_any_number_of_faces(checkpoint: bytes, tmp_path: Path) -> None:
    import onnxruntime

    from workers.models.codeformer_convert import convert

    out = tmp_path / "codeformer.onnx"
    assert convert(checkpoint, out) <= 3e-4
    assert [path.name for path in tmp_path.iterdir()] == ["codeformer.onnx"]
    session = onnxruntime.InferenceSession(out.read_bytes(), providers=["CPUExecutionProvider"])
    stored, picture = recipe.vectors(), recipe.picture()
    (made,) = session.run(None, {"image": np.concatenate([picture, -picture]), "w": np.array(1, np.float32)})
    grid = made[0][:, stored["grid_y"]][:, :, stored["grid_x"]]
    assert np.abs(grid - stored["out_grid"][LAST]).max() <= 3e-4


class Hostile:
    """What a malicious checkpoint would hold."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:  # noqa: D105
        return (Path.touch, (self.marker,))


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(state: dict[str, Any], tmp_path: Path) -> None:
    from workers.models.codeformer_convert import load

    marker = tmp_path / "was-here"
    hostile = Hostile(marker)
    for data in (saved({"params_ema": state, "extra": hostile}), pickle.dumps(hostile, protocol=2)):
        with pytest.raises(ModelRefused):
            load(data)
    assert not marker.exists()


def test_other_files_are_refused_by_what_is_wrong_with_them(state: dict[str, Any], checkpoint: bytes) -> None:
    import torch

    from workers.models.codeformer_convert import load

    renamed = {("other" if name == "position_emb" else name): value for name, value in state.items()}
    reshaped = state | {"position_emb": torch.zeros(256, 256)}
    poisoned = state | {"position_emb": torch.full((256, 512), float("nan"))}
    cases = [
        (b"not a checkpoint", "not a torch checkpoint"),
        (checkpoint[: len(checkpoint) // 2], "not a torch checkpoint"),
        (saved({"params": state}), "params_ema"),
        (saved({"params_ema": renamed}), r"missing \(position_emb\), 1 are unknown \(other\)"),
        (saved({"params_ema": reshaped}), r"position_emb is torch.float32 \(256, 256\)"),
        (saved({"params_ema": poisoned}), "position_emb is not finite"),
    ]
    for data, said in cases:
        with pytest.raises(ModelRefused, match=said):
            load(data)
