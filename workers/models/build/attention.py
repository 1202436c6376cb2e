"""MediaPipe's face mesh with attention: three custom operators in plain ONNX, six outputs as one mesh of 478 points.

The graph finds 468 points, crops the feature map around lips and eyes along each region's own axis, and refines the
points of that region in the crop. The operators, as MediaPipe's `util/tflite/operations` defines them:

* Landmarks2TransformMatrix: the affine map from crop pixels to feature-map pixels. With u the unit vector from the left
  to the right index, v = u turned by 90 degrees, and the region's extent s and centre c measured along (u, v):
  p = A q + t,  A = [u*k*s_u/width, v*k*s_v/height],  t = c - A (width/2, height/2),  k the margin (1.5).
* TransformTensorBilinear: samples the feature map at p for every crop pixel centre q; outside is zero.
* TransformLandmarks: takes refined points through the same map. Between the two the graph multiplies the matrix by a
  constant that scales only t, from feature-map pixels (48) to input pixels (192); refined points already are in those.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, shape_inference

from workers.models.build.graph import Builder, attributes, constants, producers
from workers.models.build.sources import RebuildError

NHWC_FROM_NCHW = [0, 2, 3, 1]
NCHW_FROM_NHWC = [0, 3, 1, 2]
MESH_POINTS, IRIS_POINTS = 468, 5
EYE_CONTOUR = 16  # of an eye's 71 refined points the first 16 are its lid contour; the irises get their mean depth
LIPS_FIRST, LEFT_EYE_FIRST, RIGHT_EYE_FIRST = 61, 33, 263  # first index of each region: tells the three apart


@dataclass(frozen=True, slots=True)
class Affine:
    """Tensor names of p = q @ linear + offset: linear (1, 2, 2), that is A transposed, and offset (1, 1, 2)."""

    linear: str
    offset: str


def flatten(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` in plain ONNX: input (1, 192, 192, 3) 0..1; `landmarks` (478, 3) input px and `conv_faceflag`."""
    return _Flattening(model).result()


class _Flattening:
    """One pass over the graph; nodes come in topological order, so an affine map is known before it is used."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._made = producers(model)
        self._constants = constants(model)
        self._shapes = {
            value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in shape_inference.infer_shapes(model).graph.value_info
        }
        self._affine: dict[str, Affine] = {}
        self._regions: dict[int, list[int]] = {}  # first index -> mesh indices, in the order of the refined points
        self._taken: set[str] = set()  # transposes whose output a GridSample now makes
        self._build = Builder("attention")

    def result(self) -> onnx.ModelProto:
        for node in self._model.graph.node:
            if node.op_type == "TFL_Landmarks2TransformMatrix":
                self._landmarks_to_affine(node)
            elif node.op_type == "TFL_TransformTensorBilinear":
                self._crop(node)
            elif node.op_type == "TFL_TransformLandmarks":
                self._transform_points(node)
            elif node.op_type == "Mul" and node.input[0] in self._affine:
                self._scale_offset(node)
            elif node.output[0] not in self._taken:
                self._build.nodes.append(node)
        self._refined_mesh()

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        flag = next(value for value in model.graph.output if value.name == "conv_faceflag")
        landmarks = helper.make_tensor_value_info(
            "landmarks", onnx.TensorProto.FLOAT, [MESH_POINTS + 2 * IRIS_POINTS, 3]
        )
        outputs = [landmarks, flag]
        del model.graph.node[:], model.graph.output[:], model.graph.value_info[:]
        model.graph.node.extend(self._build.nodes)
        model.graph.output.extend(outputs)
        model.graph.initializer.extend(self._build.constants)
        return model

    def _landmarks_to_affine(self, node: onnx.NodeProto) -> None:
        op, constant, indices = self._build.op, self._build.constant, self._build.indices
        given: dict[str, Any] = attributes(node)
        if given["target_rotation_radians"] != 0:
            raise RebuildError("Landmarks2TransformMatrix with a target rotation is not written")
        region = [int(index) for index in given["subset_idxs"]]
        self._regions[region[0]] = region
        size = np.array([given["output_width"], given["output_height"]], np.float32)
        margin = np.array([given["scale_x"], given["scale_y"]], np.float32)

        xy = op("Slice", node.input[0], indices(0), indices(2), indices(2))  # (1, 468, 2)
        left, right = (
            op("Gather", xy, constant(given[key], np.int64), axis=1)
            for key in ("left_rotation_idx", "right_rotation_idx")
        )
        line = op("Sub", right, left)  # (1, 2)
        u = op("Div", line, op("ReduceL2", line, axes=[1], keepdims=1))
        v = op("MatMul", u, constant([[0, 1], [-1, 0]]))
        columns = indices(2)
        basis = op(
            "Concat", op("Unsqueeze", u, columns), op("Unsqueeze", v, columns), axis=2
        )  # (1, 2, 2), columns u, v

        points = op("MatMul", op("Gather", xy, constant(region, np.int64), axis=1), basis)  # along u and v
        high = op("ReduceMax", points, axes=[1], keepdims=1)
        low = op("ReduceMin", points, axes=[1], keepdims=1)
        middle = op("Mul", op("Add", high, low), constant(0.5))
        centre = op("MatMul", middle, op("Transpose", basis, perm=[0, 2, 1]))  # back to feature-map pixels
        scale = op("Mul", op("Sub", high, low), constant(margin / size))
        linear = op("Transpose", op("Mul", basis, scale), perm=[0, 2, 1])
        offset = op("Sub", centre, op("MatMul", constant(size.reshape(1, 1, 2) / 2), linear))
        self._affine[node.output[0]] = Affine(linear, offset)

    def _scale_offset(self, node: onnx.NodeProto) -> None:
        factors = self._constants[node.input[1]][0]  # (4, 4); the translation is its last column
        if not (factors[:2, :2] == 1).all() or factors[0, 3] != factors[1, 3]:
            raise RebuildError("the crop matrix is scaled in an unknown way")
        before = self._affine[node.input[0]]
        offset = self._build.op("Mul", before.offset, self._build.constant(factors[0, 3]))
        self._affine[node.output[0]] = Affine(before.linear, offset)

    def _crop(self, node: onnx.NodeProto) -> None:
        """GridSample speaks NCHW: take the features from before the transpose, give the crop to after the next one."""
        op, constant = self._build.op, self._build.constant
        given = attributes(node)
        height, width = given["output_height"], given["output_width"]
        before = self._made[node.input[0]]
        after = next(user for user in self._model.graph.node if node.output[0] in user.input)
        if attributes(before).get("perm") != NHWC_FROM_NCHW or attributes(after).get("perm") != NCHW_FROM_NHWC:
            raise RebuildError("the cropped feature map is not between two layout transposes")
        features = before.input[0]
        side = self._shapes[features][3]
        self._taken.add(after.output[0])

        affine = self._affine[node.input[1]]
        row, column = np.mgrid[0:height, 0:width].astype(np.float32) + np.float32(0.5)  # pixel centres
        centres = np.stack([column, row], -1).reshape(1, -1, 2)
        sampled = op("Add", op("MatMul", constant(centres), affine.linear), affine.offset)
        # GridSample without align_corners: -1 and 1 are the outer edges of the feature map.
        signed = op("Sub", op("Mul", sampled, constant(2 / side)), constant(1))
        grid = op("Reshape", signed, self._build.indices(1, height, width, 2))
        sample: dict[str, Any] = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": 0}
        self._build.nodes.append(helper.make_node("GridSample", [features, grid], [after.output[0]], **sample))

    def _transform_points(self, node: onnx.NodeProto) -> None:
        affine = self._affine[node.input[1]]
        turned = self._build.op("MatMul", node.input[0], affine.linear)
        self._build.op("Add", turned, affine.offset, output=node.output[0])

    def _refined_mesh(self) -> None:
        """Put refined x, y into the mesh, whose z stays; append the irises at the mean depth of their eye's contour."""
        op, indices = self._build.op, self._build.indices
        regions = self._regions

        def points(output: str, count: int, axes: int) -> str:
            return op("Reshape", output, indices(count, axes))

        mesh = points("output_mesh_identity", MESH_POINTS, 3)
        xy = op("Slice", mesh, indices(0), indices(2), indices(1))
        z = op("Slice", mesh, indices(2), indices(3), indices(1))
        for output, first in (
            ("output_lips", LIPS_FIRST),
            ("output_left_eye", LEFT_EYE_FIRST),
            ("output_right_eye", RIGHT_EYE_FIRST),
        ):
            rows = self._build.constant(np.array(regions[first])[:, None], np.int64)
            xy = op("ScatterND", xy, rows, points(output, len(regions[first]), 2))
        depths = [z]
        for first in (LEFT_EYE_FIRST, RIGHT_EYE_FIRST):
            contour = op("Gather", z, indices(*regions[first][:EYE_CONTOUR]), axis=0)
            depths.append(op("Expand", op("ReduceMean", contour, axes=[0], keepdims=1), indices(IRIS_POINTS, 1)))
        irises = [points(f"output_{side}_iris", IRIS_POINTS, 2) for side in ("left", "right")]
        refined = op("Concat", xy, *irises, axis=0)
        op("Concat", refined, op("Concat", *depths, axis=0), output="landmarks", axis=1)
