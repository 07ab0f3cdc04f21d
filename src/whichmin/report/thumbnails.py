"""Small pictures of inputs that are images, as data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

from whichmin.inputs import AnyInputs, only_tensor

_FLAT = {64: (1, 8, 8), 784: (1, 28, 28), 3072: (3, 32, 32)}
_LARGEST = 64


def thumbnail(x: AnyInputs) -> str | None:
    """A PNG data URI of one input, stretched to its own range; None where it is not the shape of a small image."""
    tensor = only_tensor(x)
    pixels = None if tensor is None else _pixels(tensor.detach().double().cpu().numpy())
    if pixels is None:
        return None
    from PIL import Image

    low, high = pixels.min(), pixels.max()
    scaled = np.uint8(np.rint(255 * (pixels - low) / ((high - low) or 1.0)))
    buffer = io.BytesIO()
    Image.fromarray(scaled).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _pixels(x: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The image as (H, W) or (H, W, 3)."""
    if x.ndim == 1:
        if x.size not in _FLAT:
            return None
        x = x.reshape(_FLAT[x.size])
    if x.ndim == 2:
        x = x[None]
    if x.ndim != 3 or x.shape[0] not in (1, 3) or x.shape[1] != x.shape[2] or not 4 <= x.shape[1] <= _LARGEST:
        return None
    return x[0] if x.shape[0] == 1 else np.moveaxis(x, 0, -1)
