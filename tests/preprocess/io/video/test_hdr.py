"""Tone mapping against pictures whose light is known."""

from __future__ import annotations

import numpy as np
import pytest

from preprocess.io.video.hdr import from_hdr, from_hdr_bytes
from tests.preprocess.io.video.light import TO_2020, to_hlg, to_light, to_pq
from tests.preprocess.media import small_photo


@pytest.mark.parametrize(("name", "encode"), [("PQ", to_pq), ("HLG", to_hlg)])
def test_hdr_of_what_is_no_brighter_than_white_gives_the_picture_back(astronaut, name, encode):
    darker = (small_photo(astronaut) * 0.7).astype(np.uint8)
    signal = encode(203 * to_light(darker) @ TO_2020.T).astype(np.float32)
    assert np.abs(from_hdr(signal, name).astype(int) - darker).mean() < 3


def test_highlights_stay_below_white_and_in_order():
    nits = np.geomspace(1, 1000, 200)
    grey = np.repeat(to_pq(nits)[None, :, None], 3, 2).astype(np.float32)
    shown = from_hdr(grey, "PQ")[0, :, 0].astype(int)
    assert (np.diff(shown) >= 0).all() and shown[-1] >= 250
    assert len(np.unique(shown[nits > 300])) > 5  # they can be told apart


def test_bytes_are_mapped_as_signals_are_in_more_than_one_strip():
    pixels = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    assert pixels.size > 2**20
    for name in ("PQ", "HLG"):
        expected = from_hdr(pixels.astype(np.float32) / 255, name)
        np.testing.assert_allclose(from_hdr_bytes(pixels, name), expected, atol=1)
