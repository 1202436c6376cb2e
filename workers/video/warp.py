"""Drawing the worn face onto a performer's mesh: one coarse inverse map, one remap."""

from dataclasses import dataclass

import cv2
import numpy as np

from workers.video.engine import Frame
from workers.video.pixels import Float, Mask, f32, remap, u8
from workers.video.raster import OUTSIDE, inverse_map
from workers.video.roi import Roi
from workers.video.source import SourceFace
from workers.video.topology import MESH_VERTICES, canonical


@dataclass(frozen=True, slots=True, eq=False)
class Warped:
    """The worn face in a performer's pose."""

    pixels: Frame  # (H, W, 3) BGR of the whole rectangle, meaningless outside the mesh
    skin: Mask  # (H, W) 0..255 skin likelihood
    visible: Mask  # (H / step, W / step) 255 where the mesh faces the viewer


def warp(source: SourceFace, landmarks: Float, roi: Roi) -> Warped:
    """Draw `source` onto the mesh `landmarks` (478, 2 or more) frame px, within `roi`.

    The map is made at `roi.step` px and interpolated: it is affine inside each triangle, so that little is lost, and
    rasterising costs by the pixel.
    """
    level = source.level_for(roi.face_px)
    columns, rows = roi.width // roi.step, roi.height // roi.step
    mesh = roi.local(landmarks[:MESH_VERTICES], roi.step)
    coarse = inverse_map(mesh, level.points, canonical().triangles, rows, columns)
    visible = (coarse[..., 0] >= 0).astype(np.uint8)
    full = cv2.resize(_grow(coarse, visible), (roi.width, roi.height), interpolation=cv2.INTER_LINEAR)
    drawn = remap(level.texture, f32(full))
    pixels = cv2.cvtColor(drawn, cv2.COLOR_BGRA2BGR)
    return Warped(u8(pixels), u8(cv2.extractChannel(drawn, 3)), visible * np.uint8(255))


def _grow(coarse: Float, visible: Mask) -> Float:
    """Fill two map px around the mesh with their neighbours' mean: interpolation at the rim then stays in the face."""
    near = f32(cv2.blur(visible.astype(np.float32), (5, 5))).reshape(-1)  # share of neighbours that lie in the mesh
    rim = np.flatnonzero((near > 1e-3) & (visible.reshape(-1) == 0))
    share = np.take(near, rim)[:, None]
    mean = np.take(f32(cv2.blur(coarse, (5, 5))).reshape(-1, 2), rim, axis=0)
    coarse.reshape(-1, 2)[rim] = (mean - np.float32(OUTSIDE) * (1 - share)) / share  # the other neighbours are OUTSIDE
    return coarse
