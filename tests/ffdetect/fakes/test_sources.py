"""Pseudo-fakes by name: what each is made of, and that a mix draws each by its share."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from ffdetect.fakes import sources
from ffdetect.fakes.faces import RealFaces
from ffdetect.fakes.regions import replace_region
from ffdetect.fakes.sources import SOURCES
from ffdetect.fakes.swap import swap
from ffdetect.training.data import Mix, PairDataset
from preprocess.cache.reader import CacheReader
from preprocess.faces.crop import TEMPLATE
from tests.ffdetect.helpers import random_crops, write_cache


def landmarks(number: int) -> np.ndarray:
    """Of a face that lies a little elsewhere than the one before, in crops of 128 px."""
    return (TEMPLATE * 128 + [number / 4, number / 8]).astype(np.float32)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> CacheReader:
    """Textured faces: 12 of six people in "ffhq", 4 of two in "dfdc", 3 of one in "album"."""
    crops = random_crops(19).permute(0, 2, 3, 1).numpy()
    rows = [
        {
            "crop": crop,
            "landmarks": landmarks(i),
            "generator": "ffhq" if i < 12 else "dfdc" if i < 16 else "album",
            "group": f"person {min(i, 16) // 2}",
        }
        for i, crop in enumerate(crops)
    ]
    return write_cache(tmp_path_factory.mktemp("data") / "people", rows)


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory) -> CacheReader:
    """Pairs of flat greys: 100 and 101, 102 and 103, ..."""
    rows = [
        {
            "target": i % 2,
            "path": f"{i // 2}",
            "group": f"{i // 2}",
            "landmarks": landmarks(10 + i // 2),
            "crop": np.full((128, 128, 3), 100 + i, np.uint8),
        }
        for i in range(12)
    ]
    return write_cache(tmp_path_factory.mktemp("data") / "pairs", rows)


@pytest.fixture
def faces(people, regenerated) -> RealFaces:
    return RealFaces(people, np.arange(19), regenerated=regenerated)


def made(faces: RealFaces, name: str, count: int) -> list[sources.Made]:
    return [SOURCES[name].make(faces, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("name", SOURCES)
def test_a_fake_is_made_of_a_real_face_by_the_random_numbers_alone(faces, name):
    reals = {face.tobytes() for face in map(faces.reader.crop, faces.rows)}
    reals |= {faces.regenerated.crop(real).tobytes() for real, _ in faces.pairs}
    pairs = made(faces, name, 12)
    for real, fake in pairs:
        assert real.tobytes() in reals
        assert real.shape == fake.shape == (128, 128, 3) and fake.dtype == np.uint8
    # A flat face stays what it is under another flat one in its colours.
    assert sum((real != fake).any() for real, fake in pairs) >= 6
    again = made(faces, name, 12)
    assert all(
        np.array_equal(a, b)
        for one, two in zip(pairs, again, strict=True)
        for a, b in zip(one, two, strict=True)
    )
    assert len({fake.tobytes() for _, fake in pairs}) > 3


@pytest.mark.parametrize("name", SOURCES)
def test_without_what_it_needs_it_is_refused_by_name(people, name):
    one_person = np.arange(16, 19)
    alone = RealFaces(people, one_person)
    missing = SOURCES[name].missing(alone)
    assert bool(missing) == (name != "blends")
    if missing:
        with pytest.raises(ValueError, match=f"expected {missing} for a share of {name}"):
            PairDataset(people, one_person, mix=Mix({name: 1.0}))


def test_every_kind_of_pair_is_drawn_by_its_share(people, regenerated, monkeypatch):
    shares = {name: 0.12 + 0.02 * number for number, name in enumerate(SOURCES)}
    drawn: Counter[str] = Counter()
    flat = np.zeros((128, 128, 3), np.uint8)
    for name, source in SOURCES.items():
        counted = replace(source, make=lambda *_, name=name: drawn.update([name]) or (flat, flat))
        monkeypatch.setitem(SOURCES, name, counted)
    labels = {"target": [0] * 14 + [1] * 5, "generator": ["ffhq"] * 14 + ["gan"] * 5}
    monkeypatch.setattr(people, "metadata", people.metadata.assign(**labels))
    dataset = PairDataset(people, np.arange(19), mix=Mix(shares), regenerated=regenerated)
    dataset.transform = nn.Identity()
    for index in range(500):
        drawn["collected"] += int(dataset[index][1].any())
    expected = {**shares, "collected": 1 - sum(shares.values())}
    assert {kind: count / 500 for kind, count in drawn.items()} == pytest.approx(expected, abs=0.04)


def test_an_unknown_pseudo_fake_is_refused():
    with pytest.raises(ValueError, match=r"expected pseudo-fakes among .*'blends'.* \['melt'\]"):
        Mix({"melt": 0.1})


def test_pairs_come_from_the_allowed_rows_only(people, regenerated):
    rows = np.array([0, 1, 6, 7, 8])  # row 8 is a real face whose pair is not allowed
    faces = RealFaces(people, np.arange(19), regenerated=regenerated, regenerated_rows=rows)
    drawn = {
        (int(real[0, 0, 0]), int(fake[0, 0, 0])) for real, fake in made(faces, "regenerated", 40)
    }
    assert drawn == {(100, 101), (106, 107)}


def test_blends_get_the_landmarks_of_their_face_and_some_a_regenerated_copy(faces, monkeypatch):
    seen = []
    rows = {faces.reader.crop(row).tobytes(): row for row in range(19)}

    def spy(crop, own, rng, copy):
        grey = int(crop[0, 0, 0])
        pair = (grey - 100) // 2
        row = 10 + pair if not np.ptp(crop) else rows[crop.tobytes()]
        np.testing.assert_allclose(own, landmarks(row), atol=1e-4)
        seen.append((grey, copy is not None and int(copy[0, 0, 0])))
        return crop

    monkeypatch.setattr(sources, "self_blend", spy)
    made(faces, "blends", 200)
    copies = [(real, copy) for real, copy in seen if copy is not False]
    assert 30 < len(copies) < 90
    assert all(real % 2 == 0 and copy == real + 1 for real, copy in copies)


def test_a_real_blend_differs_from_its_real_face(faces_cache):
    faces = RealFaces(CacheReader(faces_cache), np.arange(6))
    for real, fake in made(faces, "blends", 5):
        assert 0 < np.abs(real.astype(float) - fake).mean() < 40


def test_made_swaps_paste_a_face_of_another_group_of_the_same_source(people, monkeypatch):
    rows = {crop.tobytes(): row for row, crop in enumerate(map(people.crop, range(19)))}
    pasted = []

    def spy(crop, own, donor, donors_own, rng):
        row, other = rows[crop.tobytes()], rows[donor.tobytes()]
        pasted.append((row, other))
        np.testing.assert_allclose(own, landmarks(row), atol=1e-4)
        np.testing.assert_allclose(donors_own, landmarks(other), atol=1e-4)
        return swap(crop, own, donor, donors_own, rng)

    monkeypatch.setattr(sources, "swap", spy)
    pairs = made(RealFaces(people, np.arange(1, 19)), "made_swaps", 60)
    for (real, fake), (row, _) in zip(pairs, pasted, strict=True):
        assert np.array_equal(real, people.crop(row)) and (real != fake).any()
    names, groups = people.metadata["generator"], people.metadata["group"]
    assert all(names[a] == names[b] and groups[a] != groups[b] for a, b in pasted)
    assert {names[a] for a, _ in pasted} == {"ffhq", "dfdc"}  # no one to take from in "album"
    assert 0 not in {row for rows in pasted for row in rows}  # not among the rows given


def test_some_made_swaps_paste_a_regenerated_face(faces, monkeypatch):
    pasted = []

    def spy(crop, landmarks, donor, *_):
        pasted.append((crop, donor))
        return crop

    monkeypatch.setattr(sources, "swap", spy)
    made(faces, "made_swaps", 200)
    flat = [(int(a[0, 0, 0]), int(b[0, 0, 0])) for a, b in pasted if not np.ptp(a)]
    assert 35 < len(flat) < 85
    # The face that it goes over stays real, what is pasted is another's regenerated version.
    assert all(real % 2 == 0 and donor % 2 == 1 and donor - real != 1 for real, donor in flat)


def test_a_single_regenerated_face_is_nobodys_donor(people, regenerated):
    one = RealFaces(people, np.arange(19), regenerated=regenerated, regenerated_rows=np.arange(2))
    assert all(np.ptp(real) for real, _ in made(one, "made_swaps", 12))


def test_regions_come_from_the_regenerated_version_of_the_same_face(faces, monkeypatch):
    def spy(real, copy, own, rng):
        np.testing.assert_allclose(own, landmarks(10 + (int(real[0, 0, 0]) - 100) // 2), atol=1e-4)
        return replace_region(real, copy, own, rng)

    monkeypatch.setattr(sources, "replace_region", spy)
    for real, fake in made(faces, "regions", 30):
        (grey,) = np.unique(real)
        assert grey % 2 == 0 and np.unique(fake).tolist() == [grey, grey + 1]


@pytest.mark.parametrize(("balance", "expected"), [("equal", 1 / 2), ("size", 9 / 10)])
@pytest.mark.parametrize("name", ["blends", "made_swaps"])
def test_faces_are_drawn_from_sources_by_the_balance(tmp_path, name, balance, expected):
    rows = [{"generator": name} for name in ["few"] * 2 + ["many"] * 18]
    faces = RealFaces(write_cache(tmp_path / "c", rows), np.arange(20), balance=balance)
    drawn = [int(real[0, 0, 0]) for real, _ in made(faces, name, 100)]
    assert np.mean([row >= 2 for row in drawn]) == pytest.approx(expected, abs=0.12)
