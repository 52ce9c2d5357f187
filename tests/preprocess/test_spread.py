"""Some of many, evenly spread."""

from __future__ import annotations

import numpy as np

from preprocess.spread import evenly


def test_each_row_that_is_kept_is_the_one_nearest_to_its_even_place():
    for count in range(1, 25):
        rows = 100 + np.arange(count)
        for most in range(1, count + 1):
            kept = evenly(rows, most)
            assert len(set(kept)) == most
            assert np.abs(kept - np.linspace(rows[0], rows[-1], most)).max() <= 0.5
        assert evenly(rows, count + 7).tolist() == rows.tolist()
