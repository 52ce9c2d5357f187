"""Whose face to swap in: another person's of like pose and skin, from the same source."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from preprocess.cache.reader import CacheReader
from preprocess.faces.crop import TEMPLATE, crop_landmarks, fit_similarity
from preprocess.faces.face import Face

MOST = 1000  # faces of one source that are compared, of as many people as can be
_BEST = 20  # of them one is taken at random, in a small source of fewer
_SHARE = 1 / 40
# How much a difference in each of `pose` and `skin` counts, in deviations of the source.
_WEIGHTS = np.array([3.0, 1.5, 0.7, 1.0, 0.7, 0.7])


class Donors:
    """For a face the faces of its source that would make a plausible swap.

    Another `group` counts as another person. Pose and skin of a source are read when its first
    donor is asked for, and are kept in memory.

    Args:
        reader: the faces.
        rows: which of them may be used.
    """

    def __init__(self, reader: CacheReader, rows: np.ndarray) -> None:
        self.reader = reader
        metadata = reader.metadata
        # Without a group each file is a person; the paths of regenerated ones go on behind a "#".
        files = metadata["path"].str.split("#").str[0]
        self._people = metadata["group"].where(metadata["group"] != "", files).to_numpy()
        self._sources = metadata["generator"].to_numpy()
        self._rows = {
            source: rows[places]
            for source, places in metadata.iloc[rows].groupby("generator").indices.items()
            if len(np.unique(self._people[rows[places]])) > 1
        }
        self._pools: dict[str, _Pool] = {}

    @property
    def rows(self) -> dict[str, np.ndarray]:
        """The faces that have a donor, by source; a source of a single group has none."""
        return self._rows

    def pick(self, row: int, rng: np.random.Generator) -> int:
        """The row of a face to paste over that of `row`: one of the best 20.

        Raises:
            ValueError: the source of `row` has no other group.
        """
        source = self._sources[row]
        if source not in self._rows:
            raise ValueError(f"expected a source with two groups or more but got {source!r}")
        if source not in self._pools:
            self._pools[source] = self._read(source)
        pool = self._pools[source]
        distance = np.linalg.norm(pool.features - _features(self.reader, row) / pool.scale, axis=1)
        distance[self._people[pool.rows] == self._people[row]] = np.inf
        count = int(np.clip(len(distance) * _SHARE, 3, _BEST))
        best = np.argsort(distance, kind="stable")[:count]
        return int(rng.choice(pool.rows[best[np.isfinite(distance[best])]]))

    def _read(self, source: str) -> _Pool:
        rows = self._rows[source]
        if len(rows) > MOST:  # many people rather than many frames of a few
            rows = np.random.default_rng(0).permutation(rows)
            turn = pd.Series(rows).groupby(self._people[rows]).cumcount()
            rows = rows[np.argsort(turn.to_numpy(), kind="stable")[:MOST]]
        features = np.stack([_features(self.reader, int(row)) for row in rows])
        scale = np.maximum(features.std(0), 1e-3) / _WEIGHTS
        return _Pool(rows, features / scale, scale)


@dataclass(frozen=True)
class _Pool:
    """The faces of one source: rows N, features N x 6 in units of `scale` (6)."""

    rows: np.ndarray
    features: np.ndarray
    scale: np.ndarray


def _features(reader: CacheReader, row: int) -> np.ndarray:
    landmarks = read_landmarks(reader, row)
    return np.concatenate([pose(landmarks), skin(reader.crop(row), landmarks)])


def read_landmarks(reader: CacheReader, row: int) -> np.ndarray:
    """The landmarks of a cached face in pixels of its crop: float64 5 x 2."""
    record = reader.metadata.iloc[row]
    face = Face(record["box"], np.reshape(record["landmarks"], (5, 2)), 1.0)
    return crop_landmarks(face, reader.settings.crop)


def pose(landmarks: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll of a face by its landmarks 5 x 2: float64[3].

    Turned upright and scaled as `TEMPLATE`, a face that looks straight ahead has its nose in the
    middle. Yaw and pitch are how far it lies to the right and below, in sides of the face box;
    roll is the turn in radians.
    """
    matrix = fit_similarity(np.asarray(landmarks, np.float64), TEMPLATE)
    upright = landmarks @ matrix[:, :2].T + matrix[:, 2]
    offset = upright[2] - upright[[0, 1, 3, 4]].mean(0)
    middle = TEMPLATE[2] - TEMPLATE[[0, 1, 3, 4]].mean(0)
    return np.array([*(offset - middle), np.arctan2(matrix[0, 1], matrix[0, 0])])


def skin(crop: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Mean Lab colour between eyes and mouth of a uint8 H x W x 3 RGB crop: float64[3]."""
    height, width = crop.shape[:2]
    left, top = np.clip(np.floor(landmarks.min(0)), 0, [width - 2, height - 2]).astype(int)
    right, bottom = np.clip(np.ceil(landmarks.max(0)), [left + 1, top + 1], [width, height])
    patch = crop[top : int(bottom) : 2, left : int(right) : 2]
    lab = cv2.cvtColor(np.float32(patch) / 255, cv2.COLOR_RGB2LAB)
    return lab.mean((0, 1)).astype(np.float64)
