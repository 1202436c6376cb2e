"""A triangle mesh as an inverse map: for every pixel of the destination, where in the source it comes from.

All triangles are turned into horizontal spans at once, and all spans into pixels at once; no loop over triangles.
Inside a triangle the source coordinate is affine in the pixel's x and y, so a span needs one start and one step.

Arrays are laid out (values, items): numpy works along the last axis, and three values an item would leave it nothing to
work along (0.56 ms against 1.1 ms a face).
"""

import numpy as np
from numpy.typing import NDArray

from workers.video.pixels import Float
from workers.video.topology import Index

OUTSIDE = -1.0
_EDGE_SLACK = 0.01  # px: neighbours share their edge pixels instead of leaving pinholes between them
_FAR = np.float32(1e6)  # px: a bound that never binds
_LEVEL = np.float32(1e-6)  # px: an edge that rises less is level

Int32 = NDArray[np.int32]


def inverse_map(destination: Float, source: Float, triangles: Index, height: int, width: int) -> Float:
    """Return the (height, width, 2) source px of every destination pixel, `OUTSIDE` where no front face lies.

    `destination` and `source` are (V, 2) px; `triangles` (T, 3) turn counter-clockwise with y up, so that on an image
    (y down) a triangle facing the viewer has a negative signed area. Those facing away are left out.
    """
    corner = triangles.T
    xy = np.take(destination.T, corner, axis=1)  # (2, 3, T)
    (x0, x1, x2), (y0, y1, y2) = xy
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    low, high = np.minimum(np.minimum(y0, y1), y2), np.maximum(np.maximum(y0, y1), y2)
    front = np.flatnonzero((area < -1e-3) & (high >= 0) & (low <= height - 1))
    mapped = np.full((height * width, 2), OUTSIDE, np.float32)
    if not len(front):
        return mapped.reshape(height, width, 2)

    x, y = np.take(xy, front, axis=2)  # (3, T)
    table = np.empty((18, len(front)), np.float32)  # what a span needs of its triangle
    _edges(x, y, table[:12])
    _planes(x, y, area[front], np.take(source.T, np.take(corner, front, axis=1), axis=1), table[12:])
    first = np.ceil(low[front] - _EDGE_SLACK).astype(np.int32)
    last = np.floor(high[front] + _EDGE_SLACK).astype(np.int32)
    of_span, row = _expand(table, np.maximum(first, 0), np.minimum(last, height - 1))
    down = row.astype(np.float32)
    left, right = _span_ends(of_span[:12], down, width)

    of_span = of_span[12:]  # (6, spans), of which the first two become the value at column 0 of the span's row
    of_span[:2] += of_span[2:4] * down
    of_span[2] = row * width  # exact: a float32 counts to sixteen million
    of_pixel, column = _expand(of_span, left, right)
    at = of_pixel[2].astype(np.int32) + column
    mapped[at] = (of_pixel[:2] + of_pixel[4:] * column.astype(np.float32)).T
    return mapped.reshape(height, width, 2)


def _planes(x: Float, y: Float, area: Float, value: Float, planes: Float) -> None:
    """Write to `planes` (6, T) both values (2, 3, T) at pixel (0, 0), and their change per row and per column.

    Corners `x`, `y` are (3, T).
    """
    change1, change2 = value[:, 1] - value[:, 0], value[:, 2] - value[:, 0]
    planes[4:] = (change1 * (y[2] - y[0]) - change2 * (y[1] - y[0])) / area
    planes[2:4] = (change2 * (x[1] - x[0]) - change1 * (x[2] - x[0])) / area
    planes[:2] = value[:, 0] - planes[4:] * x[0] - planes[2:4] * y[0]


def _edges(x: Float, y: Float, edges: Float) -> None:
    """Write to `edges` (12, T) where the three left bounds cross row 0, their slopes, and the same of the right bounds.

    Seen with y down, the left side of a front face goes down and its right side goes up: each edge bounds one side, and
    has a bound that never binds on the other. A level edge bounds neither. Corners are (3, T).
    """
    rise = y[[1, 2, 0]] - y
    slope = (x[[1, 2, 0]] - x) / np.where(np.abs(rise) < _LEVEL, np.float32(1), rise)
    crossing = x - slope * y
    goes_down, goes_up = rise >= _LEVEL, rise <= -_LEVEL
    edges[:3] = np.where(goes_down, crossing, -_FAR)
    edges[3:6] = slope * goes_down
    edges[6:9] = np.where(goes_up, crossing, _FAR)
    edges[9:] = slope * goes_up


def _span_ends(edges: Float, row: Float, width: int) -> tuple[Int32, Int32]:
    """Return first and last column of each span, the tightest of its bounds. `edges` (12, spans), `row` (spans,)."""
    left = (edges[0:3] + edges[3:6] * row).max(axis=0)
    right = (edges[6:9] + edges[9:12] * row).min(axis=0)
    first = np.maximum(np.ceil(left - _EDGE_SLACK), 0).astype(np.int32)
    last = np.minimum(np.floor(right + _EDGE_SLACK), width - 1).astype(np.int32)
    return first, last


def _expand(table: Float, first: Int32, last: Int32) -> tuple[Float, Int32]:
    """Return, for integer ranges first..last (n,; inclusive, maybe empty), their elements, and each one's table column.

    `table` is (values, n); the first value returned is (values, elements).
    """
    counts = np.maximum(last - first + 1, 0)
    ends = np.cumsum(counts, dtype=np.int32)
    owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    element = np.arange(len(owner), dtype=np.int32) + np.take(first - (ends - counts), owner)
    return np.take(table, owner, axis=1), element
