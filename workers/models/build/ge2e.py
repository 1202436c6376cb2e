"""Resemblyzer's GE2E speaker encoder as an ONNX graph, written by hand from its weights.

Three LSTM layers, the last hidden state through a linear layer and ReLU, scaled to unit length (Wan et al. 2018,
"Generalized End-to-End Loss for Speaker Verification"). PyTorch is used for one thing: to read the checkpoint, as
weights only, so that no pickled code runs.
"""

import io

import numpy as np
import onnx
import torch  # type: ignore[import-not-found, unused-ignore]  # build environment only
from onnx import helper

from workers.models.build.graph import IR_VERSION, OPSET, Builder

BANDS, HIDDEN, LAYERS = 40, 256, 3


def read_weights(checkpoint: bytes) -> dict[str, np.ndarray]:
    """Return the encoder's weights by PyTorch's names, without the optimiser's state and the loss's scalars."""
    state = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)["model_state"]
    return {name: value.numpy() for name, value in state.items() if name.startswith(("lstm.", "linear."))}


def onnx_gates(weight: np.ndarray) -> np.ndarray:
    """Reorder the gates of an LSTM weight from PyTorch's input, forget, cell, output to ONNX's i, o, f, c."""
    entry, forget, cell, out = np.split(weight, 4)
    return np.concatenate([entry, out, forget, cell])


def build(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Return the encoder: `mel` (n, t, 40) power, not log, to `emb` (n, 256) of unit length."""
    graph = Builder("ge2e")
    one, last = graph.indices(1), ""
    sequence = graph.op("Transpose", "mel", perm=[1, 0, 2])  # ONNX puts time first
    for layer in range(LAYERS):

        def gates(kind: str, layer: int = layer) -> np.ndarray:
            return onnx_gates(weights[f"lstm.{kind}_l{layer}"])

        biases = np.concatenate([gates("bias_ih"), gates("bias_hh")])
        given = [graph.constant(value[None]) for value in (gates("weight_ih"), gates("weight_hh"), biases)]
        every, last = f"every_{layer}", f"last_{layer}"
        graph.nodes.append(helper.make_node("LSTM", [sequence, *given], [every, last], hidden_size=HIDDEN))
        sequence = graph.op("Squeeze", every, one)  # (t, 1 direction, n, 256)
    state = graph.op("Squeeze", last, graph.indices(0))
    linear = [graph.constant(weights[f"linear.{kind}"]) for kind in ("weight", "bias")]
    raw = graph.op("Relu", graph.op("Gemm", state, *linear, transB=1))
    graph.op("Div", raw, graph.op("ReduceL2", raw, axes=[1], keepdims=1), output="emb")

    def floats(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    return helper.make_model(
        helper.make_graph(
            graph.nodes, "ge2e", [floats("mel", ["n", "t", BANDS])], [floats("emb", ["n", HIDDEN])], graph.constants
        ),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )


def reference(weights: dict[str, np.ndarray], mel: np.ndarray) -> np.ndarray:
    """Return the embeddings (n, 256) that PyTorch's own LSTM gives for `mel` (n, t, 40): what the graph must equal."""
    lstm = torch.nn.LSTM(BANDS, HIDDEN, LAYERS, batch_first=True)
    lstm.load_state_dict(
        {name.removeprefix("lstm."): torch.from_numpy(w) for name, w in weights.items() if name.startswith("lstm.")}
    )
    with torch.no_grad():
        hidden = lstm(torch.from_numpy(mel))[1][0][-1].numpy()
    raw = np.maximum(0, hidden @ weights["linear.weight"].T + weights["linear.bias"])
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True))
