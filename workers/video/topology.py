"""Which mesh vertices are what: index sets of the 478-point face mesh and its triangles.

Vertices 0..467 are the canonical mesh; 468..477 are the irises, which only the attention model adds. Left and right
are the person's own. The sets follow the canonical face model's published drawing.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from workers.models import vendored

Float = NDArray[np.float32]
Index = NDArray[np.int64]

MESH_VERTICES = 468


def _index(*vertices: int) -> Index:
    indices = np.array(vertices, np.int64)
    indices.setflags(write=False)
    return indices


# fmt: off
OVAL = _index(
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
"""The outline of the mesh, clockwise on the image from the middle of the forehead."""

BROWS_DOWN = _index(
    70, 63, 105, 66, 107, 9, 336, 296, 334, 293, 300, 383, 372, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 143, 156,
)
"""The outline from the brows downwards: what hair over a forehead cannot reach."""

RIGHT_EYE = _index(33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = _index(263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
INNER_LIPS = _index(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
OUTER_LIPS = _index(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
RIGHT_CHEEK = _index(117, 118, 101, 36, 205, 187, 123)
LEFT_CHEEK = _index(346, 347, 330, 266, 425, 411, 352)
NOSE = _index(6, 122, 196, 3, 51, 45, 4, 275, 281, 248, 419, 351)
RIGHT_FOLD = _index(129, 203, 206, 216, 212)
"""From the wing of the nose past the corner of the mouth: where smiling folds the cheek."""
LEFT_FOLD = _index(358, 423, 426, 436, 432)
NOSE_BOTTOM = _index(129, 98, 97, 2, 326, 327, 358, 279, 331, 294, 460, 4, 240, 64, 102, 49)
# fmt: on

RIGHT_EYE_CORNER, LEFT_EYE_CORNER = 33, 263
RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER = 61, 291
RIGHT_SIDE, LEFT_SIDE = 234, 454
FOREHEAD_TOP, CHIN = 10, 152
NOSE_TIP = 1


@dataclass(frozen=True, slots=True)
class Canonical:
    """The mesh that every face shares."""

    triangles: Index  # (898, 3) vertex numbers, counter-clockwise seen from the front with y up
    uv: Float  # (468, 2) in 0..1, v down
    xyz: Float  # (468, 3) cm, x to the person's left, y up, z towards the viewer


@cache
def canonical() -> Canonical:
    """Read the vendored canonical mesh, once."""
    arrays = vendored.arrays("canonical.npz")
    return Canonical(
        triangles=arrays["tri"].astype(np.int64),
        uv=arrays["uv"].astype(np.float32),
        xyz=arrays["xyz"].astype(np.float32),
    )
