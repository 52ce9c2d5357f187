"""TIFF files as tifffile writes them: what Pillow reads wrongly is set right or refused."""

from __future__ import annotations

import io

import numpy as np
import pytest

from preprocess.io.decode import decode_image
from tests.preprocess.io.test_decode import assert_refused

tifffile = pytest.importorskip("tifffile", reason="writes the test's files")


def written(pixels: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


@pytest.fixture
def grey(picture) -> np.ndarray:
    return picture[..., 1]


@pytest.mark.parametrize("scale", ["uint8", "uint16", "float of 1", "float of 255"])
def test_white_may_be_at_either_end(grey, scale):
    white, values = {
        "uint8": (255, grey),
        "uint16": (65535, grey.astype(np.uint16) * 257),
        "float of 1": (1, (grey / 255).astype(np.float32)),
        "float of 255": (255, grey.astype(np.float32)),
    }[scale]
    for photometric, pixels in (("minisblack", values), ("miniswhite", white - values)):
        found = decode_image(written(pixels, photometric=photometric)).pixels
        assert np.abs(found[..., 0].astype(int) - grey).max() <= 1


def test_a_preview_is_not_the_picture(picture):
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        file.write(picture[::4, ::4], subfiletype=1, photometric="rgb")
        file.write(picture, photometric="rgb")
    assert np.array_equal(decode_image(stream.getvalue()).pixels, picture)


def test_a_preview_alone_is_the_picture(picture):
    assert decode_image(written(picture, subfiletype=1, photometric="rgb")).width == 160


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_planes_one_after_the_other(picture, dtype):
    planes = np.moveaxis(picture, 2, 0).astype(dtype) * (257 if dtype == np.uint16 else 1)
    tiff = written(planes, photometric="rgb", planarconfig="separate")
    if dtype == np.uint16:
        assert_refused(tiff, "16 bits", "one plane of each")
    else:
        assert np.array_equal(decode_image(tiff).pixels, picture)
