"""Whose face is swapped in: another person's, of like pose and skin."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from ffdetect.fakes.donors import Donors, pose, read_landmarks, skin
from preprocess.cache.reader import CacheReader
from preprocess.faces.crop import TEMPLATE
from tests.ffdetect.helpers import write_cache

GROUPS = 60


def turned(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Landmarks in 0..1 of a face whose nose is off by (yaw, pitch), turned by `roll` radians."""
    points = TEMPLATE.copy()
    points[2] += [yaw, pitch]
    matrix = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return (points - 0.5) @ matrix.T + 0.5


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> CacheReader:
    """Two faces each of 60 people in "ffhq", which differ in yaw and grey; others apart."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(2 * GROUPS):
        grey = rng.integers(40, 220)
        rows.append(
            {
                "generator": "ffhq",
                "group": f"person {number // 2}",
                "landmarks": (turned(*rng.normal(0, [0.08, 0.03, 0.1])) * 128).astype(np.float32),
                "crop": np.full((128, 128, 3), grey, np.uint8),
            }
        )
    rows += [{"generator": "album", "group": "all of them"}] * 3
    rows += [{"generator": "loose", "group": "", "path": f"{n % 2}.png#{n}"} for n in range(4)]
    return write_cache(tmp_path_factory.mktemp("donors") / "faces", rows)


@pytest.fixture(scope="module")
def donors(reader) -> Donors:
    return Donors(reader, np.arange(len(reader)))


def test_a_donor_is_of_another_group_of_the_same_source(reader, donors):
    groups, rng = reader.metadata["group"], np.random.default_rng(0)
    for row in range(2 * GROUPS):
        picked = {donors.pick(row, rng) for _ in range(10)}
        assert all(other < 2 * GROUPS and groups[other] != groups[row] for other in picked)


def test_only_the_rows_given_are_donors(reader):
    rows = np.arange(10, 40)
    donors, rng = Donors(reader, rows), np.random.default_rng(0)
    assert {donors.pick(row, rng) for row in range(10, 40)} <= set(rows.tolist())


def test_a_source_of_one_group_has_no_donor(reader, donors):
    assert sorted(donors.rows) == ["ffhq", "loose"]
    assert donors.rows["ffhq"].tolist() == list(range(2 * GROUPS))
    with pytest.raises(ValueError, match=r"two groups or more but got 'album'"):
        donors.pick(2 * GROUPS, np.random.default_rng(0))


def test_without_groups_the_twins_of_one_file_are_one_person(reader, donors):
    rng = np.random.default_rng(0)
    first = 2 * GROUPS + 3  # rows of 0.png, 1.png, 0.png, 1.png
    assert {donors.pick(first, rng) for _ in range(20)} == {first + 1, first + 3}


def test_donors_are_near_in_pose_and_skin(reader, donors):
    """Among the nearest tenth, as scikit-learn finds them over the same features."""
    rows = np.arange(2 * GROUPS)
    faces = [(read_landmarks(reader, row), reader.crop(row)) for row in rows]
    features = np.stack([[*pose(points), *skin(crop, points)] for points, crop in faces])
    spread = np.maximum(features.std(0), 1e-3)
    scaled = features / spread * [3, 1.5, 0.7, 1, 0.7, 0.7]
    near = NearestNeighbors(n_neighbors=12).fit(scaled).kneighbors(scaled, return_distance=False)
    rng, picked = np.random.default_rng(0), []
    for row in rows:
        for _ in range(5):
            picked.append((row, donors.pick(row, rng)))
            assert picked[-1][1] in near[row]
    ends = np.array(picked)
    for feature, least in ((0, 0.9), (3, 0.7)):  # yaw and lightness
        assert (
            np.corrcoef(features[ends[:, 0], feature], features[ends[:, 1], feature])[0, 1] > least
        )


def test_the_random_state_decides(donors):
    picked = [donors.pick(5, np.random.default_rng(seed)) for seed in range(30)]
    assert picked == [donors.pick(5, np.random.default_rng(seed)) for seed in range(30)]
    assert len(set(picked)) == 3


def test_each_face_of_a_source_is_read_once(reader, monkeypatch):
    donors, seen, rng = Donors(reader, np.arange(2 * GROUPS)), [], np.random.default_rng(0)
    monkeypatch.setattr(
        "ffdetect.fakes.donors.skin", lambda crop, _: seen.append(crop) or np.zeros(3)
    )
    assert seen == []  # nothing before it is needed
    for row in range(5):
        donors.pick(row, rng)
    assert len(seen) == 2 * GROUPS + 5


def test_a_large_source_is_compared_by_a_sample_of_many_people(reader, monkeypatch):
    monkeypatch.setattr("ffdetect.fakes.donors.MOST", GROUPS)
    donors, rng = Donors(reader, np.arange(2 * GROUPS)), np.random.default_rng(0)
    picked = {donors.pick(row, rng) for row in range(2 * GROUPS) for _ in range(8)}
    people = reader.metadata["group"].iloc[list(picked)]
    assert GROUPS / 2 < len(picked) <= GROUPS and people.is_unique


def test_pose_is_nought_straight_ahead_whatever_the_place_and_size():
    for size, shift in ((1, 0), (87.5, 31)):
        assert pose(TEMPLATE * size + shift) == pytest.approx([0, 0, 0], abs=1e-9)


def test_pose_tells_yaw_pitch_and_roll():
    for feature, amount in ((0, 0.1), (0, -0.1), (1, 0.06), (1, -0.06), (2, 0.3), (2, -0.3)):
        found = pose(turned(*np.eye(3)[feature] * amount) * 90 + 20)
        assert found[feature] == pytest.approx(amount, rel=0.15)
        assert np.abs(np.delete(found, feature)).max() < abs(amount) / 4
    assert pose(turned(0, 0, 0.3))[2] == pytest.approx(0.3, abs=1e-6)


def test_skin_is_the_mean_lab_colour_between_eyes_and_mouth():
    color = pytest.importorskip("skimage.color", reason="scikit-image checks the colours")
    crop = np.zeros((100, 100, 3), np.uint8)
    points = TEMPLATE * 100
    crop[39:75, 32:68] = 200, 150, 120
    assert skin(crop, points) == pytest.approx(
        color.rgb2lab([[[200, 150, 120]]] / np.array(255))[0, 0], abs=0.5
    )
    assert np.isfinite(skin(crop, points + 300)).all()  # landmarks outside of the crop
