from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from stages.common.data_urls import jpeg_data_url


def test_jpeg_data_url_decodes_to_the_image() -> None:
    url = jpeg_data_url(np.full((6, 4, 3), 128, np.uint8), 90)
    kind, _, data = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (4, 6)
