"""A triangle mesh as an inverse map: for every pixel of the destination, where in the source it comes from.

All triangles are turned into horizontal spans at once, and all spans into pixels at once; no loop over triangles.
Inside a triangle the source coordinate is affine in the pixel's x and y, so a span needs one start and one step.

Arrays are laid out (values, items): numpy works along the last axis, and three values an item would leave it nothing to
work along (0.56 ms against 1.1 ms a face).
"""

import numpy as np
from numpy.typing import NDArray

from workers.video.pixels import Float, f32
from workers.video.topology import Index

OUTSIDE = -1.0
_EDGE_SLACK = 0.01  # px: neighbours share their edge pixels instead of leaving pinholes between them
_FAR = np.float32(1e6)  # px: a bound that never binds

Int32 = NDArray[np.int32]


def inverse_map(destination: Float, source: Float, triangles: Index, height: int, width: int) -> Float:
    """Return the (height, width, 2) source px of every destination pixel, `OUTSIDE` where no front face lies.

    `destination` and `source` are (V, 2) px; `triangles` (T, 3) turn counter-clockwise with y up, so that on an image
    (y down) a triangle facing the viewer has a negative signed area. Those facing away are left out.
    """
    corner = triangles.T
    x, y = destination[:, 0][corner], destination[:, 1][corner]  # (3, T)
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    low, high = y.min(axis=0), y.max(axis=0)
    front = np.flatnonzero((area < -1e-3) & (high >= 0) & (low <= height - 1))
    mapped = np.full((height * width, 2), OUTSIDE, np.float32)
    if not len(front):
        return mapped.reshape(height, width, 2)
    x, y, corner = x[:, front], y[:, front], corner[:, front]

    first = np.maximum(np.ceil(low[front] - _EDGE_SLACK), 0).astype(np.int32)
    last = np.minimum(np.floor(high[front] + _EDGE_SLACK), height - 1).astype(np.int32)
    owner, row = _expand(first, last)  # one entry a span: its triangle and its row
    down = row.astype(np.float32)
    left, right = _span_ends(np.take(_edges(x, y), owner, axis=1), down, width)
    span, column = _expand(left, right)  # one entry a pixel: its span and its column

    at, along = np.take(row * width, span) + column, column.astype(np.float32)
    for axis in (0, 1):
        origin, per_row, per_column = _plane(x, y, area[front], source[:, axis][corner])
        start = np.take(origin, owner) + np.take(per_row, owner) * down  # at column 0 of each span's row
        mapped[at, axis] = np.take(start, span) + np.take(np.take(per_column, owner), span) * along
    return mapped.reshape(height, width, 2)


def _plane(x: Float, y: Float, area: Float, value: Float) -> tuple[Float, Float, Float]:
    """Return per triangle (T,) the value at pixel (0, 0) and its change per row and per column; corners are (3, T)."""
    change1, change2 = value[1] - value[0], value[2] - value[0]
    per_column = (change1 * (y[2] - y[0]) - change2 * (y[1] - y[0])) / area
    per_row = (change2 * (x[1] - x[0]) - change1 * (x[2] - x[0])) / area
    return f32(value[0] - per_column * x[0] - per_row * y[0]), f32(per_row), f32(per_column)


def _edges(x: Float, y: Float) -> Float:
    """Return (12, T) where the three left bounds cross row 0, their slopes, and the same of the three right bounds.

    Seen with y down, the left side of a front face goes down and its right side goes up: each edge bounds one side, and
    has a bound that never binds on the other. A level edge bounds neither. Corners are (3, T).
    """
    next_x, next_y = x[[1, 2, 0]], y[[1, 2, 0]]
    rise = next_y - y
    level = np.abs(rise) < 1e-6
    slope = (next_x - x) / np.where(level, np.float32(1), rise)
    crossing = x - slope * y
    goes_down, goes_up = (rise > 0) & ~level, (rise < 0) & ~level
    left = np.where(goes_down, crossing, -_FAR), np.where(goes_down, slope, np.float32(0))
    right = np.where(goes_up, crossing, _FAR), np.where(goes_up, slope, np.float32(0))
    return f32(np.concatenate([*left, *right]))


def _span_ends(edges: Float, row: Float, width: int) -> tuple[Int32, Int32]:
    """Return first and last column of each span, the tightest of its bounds. `edges` (12, spans), `row` (spans,)."""
    left = (edges[0:3] + edges[3:6] * row).max(axis=0)
    right = (edges[6:9] + edges[9:12] * row).min(axis=0)
    first = np.maximum(np.ceil(left - _EDGE_SLACK), 0).astype(np.int32)
    last = np.minimum(np.floor(right + _EDGE_SLACK), width - 1).astype(np.int32)
    return first, last


def _expand(first: Int32, last: Int32) -> tuple[Index, Index]:
    """Return, for integer ranges first..last (inclusive, maybe empty), each element's range number and value."""
    counts = np.maximum(last - first + 1, 0)
    owner = np.repeat(np.arange(len(counts)), counts)
    offset = first - (np.cumsum(counts) - counts)
    return owner, np.arange(len(owner)) + np.take(offset, owner)
