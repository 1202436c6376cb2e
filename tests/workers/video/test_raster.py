"""The mesh rasteriser against what geometry says."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.video.pixels import Float, f32
from workers.video.raster import OUTSIDE, inverse_map
from workers.video.topology import Index, canonical


def square(low: float, high: float) -> tuple[Float, Index]:
    corners = np.array([[low, low], [high, low], [high, high], [low, high]], np.float32)
    return corners, np.array([[0, 2, 1], [0, 3, 2]], np.int64)  # front faces: negative area with y down


def test_a_mesh_onto_itself_maps_every_pixel_to_itself() -> None:
    points, triangles = square(0, 31)
    mapped = inverse_map(points, points, triangles, 32, 32)
    rows, columns = np.mgrid[0:32, 0:32]
    np.testing.assert_allclose(mapped, np.stack([columns, rows], axis=2), atol=1e-3)


@given(st.floats(0.3, 3), st.floats(-1, 1), st.floats(-20, 20), st.floats(-20, 20))
def test_an_affine_warp_is_exact(scale: float, shear: float, dx: float, dy: float) -> None:
    points, triangles = square(4, 40)
    matrix = np.array([[scale, shear], [0, scale]], np.float32)
    source = (points @ matrix.T + np.array([dx, dy], np.float32)).astype(np.float32) + 1000
    mapped = inverse_map(points, source, triangles, 48, 48)
    rows, columns = np.mgrid[4:41, 4:41]
    expected = np.stack([columns, rows], axis=2) @ matrix.T + np.array([dx, dy]) + 1000
    np.testing.assert_allclose(mapped[4:41, 4:41], expected, atol=0.01)


def test_outside_the_mesh_is_marked() -> None:
    points, triangles = square(8, 16)
    mapped = inverse_map(points, points, triangles, 32, 32)
    inside = (mapped != OUTSIDE).all(axis=2)
    assert inside.sum() == 81
    assert inside[8:17, 8:17].all()


def test_faces_turned_away_are_left_out() -> None:
    points, triangles = square(0, 31)
    assert (inverse_map(points, points, triangles[:, ::-1], 32, 32) == OUTSIDE).all()


@given(st.floats(-200, 200), st.floats(-200, 200), st.floats(0.1, 8))
def test_a_face_anywhere_around_the_picture_has_no_pinholes(dx: float, dy: float, scale: float) -> None:
    """Wherever the mesh lies, what is drawn of it inside the picture is one piece, and nothing is written outside."""
    mesh = canonical()
    points = (mesh.xyz[:, :2] * f32([scale, -scale]) + f32([dx, dy])).astype(np.float32)
    mapped = inverse_map(points, mesh.uv * 100, mesh.triangles, 60, 80)
    drawn = mapped[..., 0] != OUTSIDE
    for row in drawn:
        columns = np.flatnonzero(row)
        assert len(columns) == 0 or columns[-1] - columns[0] + 1 - len(columns) <= 0.12 * len(columns) + 2
    assert (mapped[drawn] >= -1).all()
    assert (mapped[drawn] <= 101).all()
