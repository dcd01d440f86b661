"""Images as ``data:`` URLs."""

from __future__ import annotations

import base64
import io

from PIL import Image as Pillow

from pipeline.ports import Image


def jpeg_data_url(image: Image, quality: int) -> str:
    """Returns an RGB image [H, W, 3] as the ``data:`` URL of its JPEG.

    Args:
        quality: of the JPEG, 1 to 95.
    """
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
