"""TFLite to ONNX with tf2onnx. Operators it does not know are left in place for `attention` to replace."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import tensorflow as tf  # type: ignore[import-untyped, import-not-found, unused-ignore]  # build environment only
from onnx import helper
from tf2onnx import convert

from workers.models.build.graph import OPSET

# MediaPipe's own operators, kept by name in a domain of their own.
CUSTOM_DOMAIN = "mediapipe"
CUSTOM_OPS = ("TFL_Landmarks2TransformMatrix", "TFL_TransformTensorBilinear", "TFL_TransformLandmarks")


def to_onnx(flatbuffer: bytes) -> onnx.ModelProto:
    """Return the ONNX form of a `.tflite` file; image input stays (1, H, W, 3), convolutions become NCHW."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(flatbuffer)
        model: onnx.ModelProto
        model, _ = convert.from_tflite(
            str(path),
            opset=OPSET,
            custom_ops=dict.fromkeys(CUSTOM_OPS, CUSTOM_DOMAIN),
            extra_opset=[helper.make_opsetid(CUSTOM_DOMAIN, 1)],
        )
    return model


def reference(flatbuffer: bytes, image: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of TensorFlow Lite itself: what a converted graph must equal. Custom operators cannot run."""
    interpreter = tf.lite.Interpreter(model_content=flatbuffer, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]
