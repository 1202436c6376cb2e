"""A fixed picture and identity to try a swapper on, before the first frame."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.video.neural.contracts import CROP, EMBEDDING
from workers.video.pixels import f32


def swapper_feeds() -> dict[str, NDArray[Any]]:
    """Return inputs for one face of the contract `SWAPPER`: light from the left, a disc, texture; any unit latent."""
    rows, columns = np.mgrid[0:CROP, 0:CROP] / CROP
    disc = np.hypot(rows - 0.5, columns - 0.5) < 0.35
    levels = 0.25 + 0.5 * columns + 0.15 * disc + 0.03 * np.sin(40 * rows) * np.cos(30 * columns)
    target = f32(np.stack([levels, levels * 0.9, levels * 0.8]))
    latent = np.sin(np.arange(EMBEDDING) * 1.7 + 0.3)
    return {"target": target[None], "source": f32(latent / np.linalg.norm(latent))[None]}
