"""A drawn-up face for masks and a real one for pictures."""

from __future__ import annotations

import numpy as np
import pytest

from preprocess.faces.crop import TEMPLATE
from preprocess.faces.detect import FaceDetector

SIZE = 200
LANDMARKS = TEMPLATE * 120 + 40  # a face of 120 px in the middle


@pytest.fixture(scope="session")
def portrait(astronaut):
    """A crop and its landmarks as MTCNN finds them."""
    pixels = astronaut[0:256, 100:356]
    return pixels, FaceDetector().detect(np.ascontiguousarray(pixels))[0].landmarks
