"""Half precision and the sine source: a phase that is summed or kept in float16 ends as a buzz, or as silence.

After one second of a 220 Hz voice the phase is 220 cycles, where float16 counts in eighths of a cycle. So a voice may
be half precision anywhere but between the cumulative sum and the sine.
"""

from schemas.errors import Misconfigured, ModelRefused

_OF_PHASE = ("CumSum", "Sin")


def check_sine_source(graph: bytes, *, label: str) -> None:
    """Raise `ModelRefused` when `graph` sums or reads a phase in float16, `Misconfigured` without the onnx package."""
    try:
        import onnx  # noqa: PLC0415 - an extra: only who loads a voice needs it
    except ImportError as error:
        raise Misconfigured("a neural voice needs the onnx package: pip install -e '.[neural]'") from error
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph)).graph
    half = {
        value.name
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    }
    found = [f"{node.op_type} ({node.input[0]})" for node in inferred.node if node.op_type in _OF_PHASE]
    bad = [text for text in found if text.split("(")[1][:-1] in half]
    if bad:
        raise ModelRefused(
            f"{label} has its sine source in half precision: {', '.join(bad)}. "
            "Convert it again with CumSum, Sin and pitchf kept in float32"
        )
