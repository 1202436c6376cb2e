"""Rewrite PReLU as two depthwise 1x1 convolutions.

ONNX Runtime's CPU provider has no PReLU for its blocked NCHWc layout, so each one makes it reorder the whole feature
map twice. Convolution, Relu and Add stay in the layout: the face mesh went from 4.5 to 1.7 ms. With slope s a channel:

    prelu(x) = s * x + (1 - s) * relu(x)
"""

import numpy as np
import onnx

from workers.models.build.graph import Builder, constants


def as_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` (NCHW) without PReLU nodes. The slopes must be per channel."""
    slopes = constants(model)
    build = Builder("prelu")
    for node in model.graph.node:
        if node.op_type != "PRelu":
            build.nodes.append(node)
            continue
        x, slope_name = node.input
        slope = slopes[slope_name].reshape(-1, 1, 1, 1)  # (C, 1, 1, 1), a depthwise kernel
        channels = len(slope)
        straight = build.op("Conv", x, build.constant(slope), group=channels, kernel_shape=[1, 1])
        rest, positive = build.constant(np.float32(1) - slope), build.op("Relu", x)
        bent = build.op("Conv", positive, rest, group=channels, kernel_shape=[1, 1])
        build.op("Add", straight, bent, output=node.output[0])
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(build.nodes)
    result.graph.initializer.extend(build.constants)
    return result
