"""Some of many, evenly spread."""

from __future__ import annotations

import numpy as np


def evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, evenly spread from the first to the last."""
    places = np.linspace(0, len(rows) - 1, min(most, len(rows)))
    return rows[places.round().astype(int)]
