"""Training pairs and validation faces."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ffdetect.fakes.swap import swap
from ffdetect.training.augment import recode
from ffdetect.training.data import EpochSampler, FaceDataset, Mix, PairDataset
from preprocess.cache.reader import CacheReader
from tests.ffdetect.helpers import random_crops, write_cache

SOURCES = ["ffhq"] * 6 + ["dfdc"] * 4 + ["gan"] * 6 + ["dfdc_swap"] * 4


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> CacheReader:
    """Flat grey faces whose value is their row: 0-9 real, 10-19 fake."""
    rows = [{"target": int(i >= 10), "generator": name} for i, name in enumerate(SOURCES)]
    return write_cache(tmp_path_factory.mktemp("data") / "faces", rows)


@pytest.fixture(scope="module")
def twins(tmp_path_factory) -> CacheReader:
    """Pairs of flat greys: 100 and 101, 102 and 103, ..."""
    rows = [
        {
            "target": i % 2,
            "path": f"{i // 2}",
            "group": f"{i // 2}",
            "crop": np.full((128, 128, 3), 100 + i, np.uint8),
        }
        for i in range(12)
    ]
    return write_cache(tmp_path_factory.mktemp("data") / "twins", rows)


def rows_drawn(dataset: PairDataset, count: int = 300) -> list[tuple[int, int]]:
    """The greys of both faces of pairs as they are before augmentation."""
    dataset.transform = nn.Identity()
    pairs = (dataset[i].crops for i in range(count))
    return [(int(pair[0, 0, 64, 64]), int(pair[1, 0, 64, 64])) for pair in pairs]


def test_pairs_are_real_first_and_fake_second(reader):
    drawn = rows_drawn(PairDataset(reader, np.arange(20)))
    assert all(real < 10 <= fake < 20 for real, fake in drawn)
    assert {real for real, _ in drawn} == set(range(10))
    assert {fake for _, fake in drawn} == set(range(10, 20))


def test_only_the_rows_given_are_used(reader):
    rows = np.array([1, 2, 7, 11, 18])
    drawn = rows_drawn(PairDataset(reader, rows))
    assert {row for pair in drawn for row in pair} == set(rows.tolist())


def test_generators_are_drawn_by_the_square_root_of_their_size(tmp_path):
    rows = [{"target": 0}] + [{"target": 1, "generator": "few"}] * 1
    rows += [{"target": 1, "generator": "many"}] * 9
    dataset = PairDataset(write_cache(tmp_path / "c", rows), np.arange(11))
    share = np.mean([fake == 1 for _, fake in rows_drawn(dataset, 600)])
    assert share == pytest.approx(1 / 4, abs=0.06)


@pytest.mark.parametrize(("balance", "expected"), [("equal", 1 / 2), ("size", 9 / 10)])
def test_generators_are_drawn_by_the_balance_asked_for(tmp_path, balance, expected):
    rows = [{"target": t, "generator": n} for t, n in ((0, "few"), (1, "little"))]
    rows += [{"target": t, "generator": n} for t, n in ((0, "many"), (1, "lots"))] * 9
    reader = write_cache(tmp_path / "c", rows)
    drawn = rows_drawn(PairDataset(reader, np.arange(20), mix=Mix(balance=balance)), 400)
    assert np.mean([real != 0 for real, _ in drawn]) == pytest.approx(expected, abs=0.06)
    assert np.mean([fake != 1 for _, fake in drawn]) == pytest.approx(expected, abs=0.06)
    blends = Mix(blends=1.0, balance=balance)
    drawn = rows_drawn(PairDataset(reader, np.arange(20), mix=blends), 100)
    assert np.mean([real != 0 for real, _ in drawn]) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize(("balance", "expected"), [("equal", 1 / 2), ("size", 9 / 10)])
def test_made_swaps_take_both_faces_of_a_source_drawn_by_the_balance(tmp_path, balance, expected):
    rows = [{"generator": name} for name in ["few"] * 2 + ["many"] * 18]
    mix = Mix(made_swaps=1.0, balance=balance)
    dataset = PairDataset(write_cache(tmp_path / "c", rows), np.arange(20), mix=mix)
    drawn = rows_drawn(dataset, 60)
    assert np.mean([real >= 2 for real, _ in drawn]) == pytest.approx(expected, abs=0.15)
    assert {(pair.kind, pair.swapped) for pair in map(dataset.__getitem__, range(9))} == {
        ("swap", True)
    }


def test_an_unknown_balance_is_refused():
    with pytest.raises(ValueError, match=r"expected a balance among .*'equal'.* but got 'cube'"):
        Mix(balance="cube")


def test_views_of_a_pair_are_augmented_each_in_its_own_way(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "randn", lambda shape: torch.full(shape, 0.7))  # noise may differ
    crop = random_crops(1)[0].permute(1, 2, 0).numpy()
    reader = write_cache(tmp_path / "c", [{"target": t, "crop": crop} for t in (0, 1)])
    once, both = (PairDataset(reader, np.arange(2), window=128, views=v) for v in (1, 2))
    differ = 0
    for i in range(8):
        real, fake, other_real, other_fake = both[i].crops
        assert torch.equal(torch.stack([real, fake]), once[i].crops)
        assert torch.equal(real, fake) and torch.equal(other_real, other_fake)
        differ += not torch.equal(real, other_real)
    assert differ >= 7


def test_matches_keep_fakes_with_their_own_reals(reader):
    mix = Mix(matches={"dfdc_swap": ("dfdc",)})
    drawn = rows_drawn(PairDataset(reader, np.arange(20), mix=mix))
    assert {SOURCES[real] for real, fake in drawn if SOURCES[fake] == "dfdc_swap"} == {"dfdc"}
    assert {SOURCES[real] for real, fake in drawn if SOURCES[fake] == "gan"} == {"ffhq"}


def test_a_match_of_several_sources_uses_those_that_are_there(reader):
    mix = Mix(matches={"dfdc_swap": ("dfdc", "celeb_df")})
    drawn = rows_drawn(PairDataset(reader, np.arange(20), mix=mix))
    assert {SOURCES[real] for real, fake in drawn if SOURCES[fake] == "dfdc_swap"} == {"dfdc"}


def test_pairs_depend_on_seed_and_number_alone(reader):
    torch.manual_seed(1)
    rows = np.arange(20)
    first = PairDataset(reader, rows, window=128, seed=3)
    expected = [first[i].crops for i in range(6)]
    torch.manual_seed(2)
    second = PairDataset(reader, rows, window=128, seed=3)
    for i in reversed(range(6)):
        assert torch.equal(second[i].crops, expected[i])
    other = PairDataset(reader, rows, window=128, seed=4)
    assert sum(torch.equal(other[i].crops, expected[i]) for i in range(6)) < 3


def test_drawing_a_pair_leaves_the_global_random_state(reader):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    PairDataset(reader, np.arange(20), window=128)[0]
    assert torch.equal(torch.rand(3), expected)


def test_pairs_are_augmented_windows(tmp_path):
    crops = random_crops(2, 160).permute(0, 2, 3, 1).numpy()
    rows = [{"target": i, "crop": crop} for i, crop in enumerate(crops)]
    dataset = PairDataset(write_cache(tmp_path / "c", rows, size=160), np.arange(2), window=144)
    pairs = [dataset[i].crops for i in range(8)]
    assert {(pair.shape, pair.dtype) for pair in pairs} == {((2, 3, 144, 144), torch.uint8)}
    assert all(pair.is_contiguous() for pair in pairs)
    assert len({pair.float().mean().item() for pair in pairs}) == 8


def kind_of(pair: tuple[int, int]) -> str:
    real, fake = pair
    if real >= 100:
        return "twins" if fake - real == 1 and real % 2 == 0 else "blends"
    return "collected" if fake >= 10 else "blends"


def test_shares_of_pseudo_fakes(reader, twins, monkeypatch):
    # A blend that can be told from the rest: black.
    monkeypatch.setattr("ffdetect.training.data.self_blend", lambda crop, *_: np.zeros_like(crop))
    mix = Mix(twins=0.25, blends=0.4)
    dataset = PairDataset(reader, np.arange(20), mix=mix, twins=twins)
    counts = Counter(kind_of(pair) for pair in rows_drawn(dataset, 800))
    assert counts["twins"] / 800 == pytest.approx(0.25, abs=0.05)
    assert counts["blends"] / 800 == pytest.approx(0.4, abs=0.05)
    assert counts["collected"] / 800 == pytest.approx(0.35, abs=0.05)


def test_blends_get_the_landmarks_of_their_face_and_some_a_twin(reader, twins, monkeypatch):
    seen = []

    def spy(crop, landmarks, rng, twin):
        seen.append((int(crop[0, 0, 0]), twin is not None and int(twin[0, 0, 0]), landmarks))
        return crop

    monkeypatch.setattr("ffdetect.training.data.self_blend", spy)
    dataset = PairDataset(reader, np.arange(20), mix=Mix(blends=1.0), twins=twins)
    rows_drawn(dataset, 200)
    with_twin = [(real, twin) for real, twin, _ in seen if twin is not False]
    assert 30 < len(with_twin) < 90
    assert all(real % 2 == 0 and twin == real + 1 for real, twin in with_twin)
    assert all(real < 10 for real, twin, _ in seen if twin is False)
    for _, _, landmarks in seen:
        assert landmarks.shape == (5, 2)
        assert landmarks[0, 0] < landmarks[1, 0] and landmarks[0, 1] < landmarks[3, 1]
        assert (landmarks > 0).all() and (landmarks < 128).all()


def test_a_real_blend_differs_from_its_real_face(astronaut, faces_cache):
    dataset = PairDataset(CacheReader(faces_cache), np.arange(12), mix=Mix(blends=1.0))
    dataset.transform = nn.Identity()
    for i in range(5):
        real, fake = dataset[i].crops.float()
        assert 0 < (real - fake).abs().mean() < 40


def test_twins_come_from_the_allowed_rows_only(reader, twins):
    dataset = PairDataset(
        reader, np.arange(20), mix=Mix(twins=1.0), twins=twins, twin_rows=np.array([0, 1, 6, 7, 8])
    )
    # Row 8 is a real face whose twin is not allowed.
    assert set(rows_drawn(dataset, 40)) == {(100, 101), (106, 107)}


def test_swaps_are_drawn_by_their_share_and_marked(reader, twins):
    mix = Mix(twins=0.2, swaps=0.4, swapped=("dfdc_swap",), matches={"dfdc_swap": ("dfdc",)})
    dataset = PairDataset(reader, np.arange(20), mix=mix, twins=twins)
    dataset.transform = nn.Identity()
    drawn = [dataset[i] for i in range(600)]
    whole = [p for p in drawn if not p.swapped]
    fakes = [int(p.crops[1, 0, 64, 64]) for p in whole]
    assert len(whole) == pytest.approx(360, abs=40)  # twins and whole-face generators
    assert all(fake >= 100 or SOURCES[fake] == "gan" for fake in fakes)
    assert sum(fake >= 100 for fake in fakes) == pytest.approx(120, abs=30)
    swaps = [p for p in drawn if p.swapped]
    assert {int(p.crops[1, 0, 64, 64]) for p in swaps} == set(range(16, 20))
    assert len(swaps) == pytest.approx(240, abs=40)
    assert {SOURCES[int(p.crops[0, 0, 64, 64])] for p in swaps} == {"dfdc"}
    assert {p.kind for p in swaps} == {"dfdc_swap"}
    for pair, fake in zip(whole, fakes, strict=True):
        expected = twins.metadata["generator"].iat[fake - 100] if fake >= 100 else SOURCES[fake]
        assert pair.kind == expected


def test_blends_count_as_swaps(reader):
    dataset = PairDataset(reader, np.arange(20), mix=Mix(blends=1.0), window=128)
    assert all(dataset[i].swapped and dataset[i].kind == "blend" for i in range(5))


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> CacheReader:
    """Textured faces: 12 of six people in "ffhq", 4 of two in "dfdc", 3 of one in "album"."""
    crops = random_crops(19).permute(0, 2, 3, 1).numpy()
    rows = [
        {
            "crop": crop,
            "generator": "ffhq" if i < 12 else "dfdc" if i < 16 else "album",
            "group": f"person {min(i, 16) // 2}",
        }
        for i, crop in enumerate(crops)
    ]
    return write_cache(tmp_path_factory.mktemp("data") / "people", rows)


def test_made_swaps_paste_a_face_of_another_group_of_the_same_source(people, monkeypatch):
    rows = {crop.tobytes(): row for row, crop in enumerate(map(people.crop, range(19)))}
    pasted = []

    def spy(crop, landmarks, donor, donor_landmarks, rng):
        pasted.append((rows[crop.tobytes()], rows[donor.tobytes()]))
        assert np.allclose(landmarks, donor_landmarks) and landmarks.shape == (5, 2)
        return swap(crop, landmarks, donor, donor_landmarks, rng)

    monkeypatch.setattr("ffdetect.training.data.swap", spy)
    dataset = PairDataset(people, np.arange(1, 19), mix=Mix(made_swaps=1.0))
    dataset.transform = nn.Identity()
    for i in range(60):
        pair = dataset[i]
        assert pair.swapped
        assert np.array_equal(pair.crops[0].permute(1, 2, 0), people.crop(pasted[i][0]))
        assert (pair.crops[0] != pair.crops[1]).any()
    sources, groups = people.metadata["generator"], people.metadata["group"]
    assert all(sources[a] == sources[b] and groups[a] != groups[b] for a, b in pasted)
    assert {sources[a] for a, _ in pasted} == {"ffhq", "dfdc"}  # no one to take from in "album"
    assert 0 not in {row for rows in pasted for row in rows}  # not among the rows given


def test_some_made_swaps_paste_a_re_generated_face(people, twins, monkeypatch):
    pasted = []

    def spy(crop, landmarks, donor, *_):
        pasted.append((int(crop[0, 0, 0]), int(donor[0, 0, 0])))
        return crop

    monkeypatch.setattr("ffdetect.training.data.swap", spy)
    dataset = PairDataset(people, np.arange(19), mix=Mix(made_swaps=1.0), twins=twins)
    monkeypatch.setattr(people, "crop", lambda row: np.zeros((128, 128, 3), np.uint8))
    for i in range(200):
        dataset[i]
    regenerated = [(real, donor) for real, donor in pasted if real >= 100]
    assert 35 < len(regenerated) < 85
    # The target stays real, the donor is the twin of another face.
    assert all(
        real % 2 == 0 and donor % 2 == 1 and donor - real != 1 for real, donor in regenerated
    )


def test_regions_come_from_the_twin_of_the_same_face(reader, twins):
    dataset = PairDataset(reader, np.arange(20), mix=Mix(regions=1.0), twins=twins)
    dataset.transform = nn.Identity()
    for i in range(30):
        pair = dataset[i]
        real = pair.crops[0].unique().tolist()
        assert pair.swapped and len(real) == 1 and real[0] % 2 == 0
        assert pair.crops[1].unique().tolist() == [real[0], real[0] + 1]


def test_every_kind_of_pair_is_drawn_by_its_share(people, twins, monkeypatch):
    shares = {"twins": 0.1, "blends": 0.15, "swaps": 0.2, "made_swaps": 0.25, "regions": 0.2}
    made = {
        "_twin_pair": "twins",
        "_blended_pair": "blends",
        "_swapped_pair": "made_swaps",
        "_region_pair": "regions",
    }
    drawn = Counter()
    flat = np.zeros((128, 128, 3), np.uint8)
    for method, kind in made.items():
        monkeypatch.setattr(
            PairDataset,
            method,
            lambda self, rng, kind=kind: drawn.update([kind]) or ("", flat, flat),
        )
    monkeypatch.setattr(
        people,
        "metadata",
        people.metadata.assign(
            target=[0] * 14 + [1] * 5,
            generator=["ffhq"] * 14 + ["faceswap"] * 2 + ["gan"] * 3,
        ),
    )
    mix = Mix(**shares, swapped=("faceswap",))
    dataset = PairDataset(people, np.arange(19), mix=mix, twins=twins)
    dataset.transform = nn.Identity()
    monkeypatch.setattr(
        dataset,
        "_collected_pair",
        lambda fakes, rng: (
            drawn.update(["swaps" if "faceswap" in fakes else "whole"]) or ("", flat, flat)
        ),
    )
    swapped = sum(dataset[i].swapped for i in range(1000))
    assert {kind: count / 1000 for kind, count in drawn.items()} == pytest.approx(
        {**shares, "whole": 0.1}, abs=0.04
    )
    assert swapped == 1000 - drawn["twins"] - drawn["whole"]


def test_mild_pairs_keep_their_scale(tmp_path):
    rng = np.random.default_rng(0)
    rows = [{"target": i, "crop": rng.integers(0, 256, (128, 128, 3), np.uint8)} for i in (0, 1)]
    reader = write_cache(tmp_path / "c", rows)

    def detail(mild: float) -> list[float]:
        dataset = PairDataset(reader, np.arange(2), window=128, mild=mild)
        crops = [dataset[i].crops.float() for i in range(40)]
        return [float((c - F.avg_pool2d(c, 3, 1, 1)).std()) for c in crops]

    assert min(detail(1.0)) > 35 > min(detail(0.0))


def test_pairs_travel_to_worker_processes(reader):
    dataset = PairDataset(reader, np.arange(20), window=128)
    loader = torch.utils.data.DataLoader(dataset, 2, sampler=EpochSampler(4), num_workers=1)
    got = torch.cat([batch.crops for batch in loader])
    assert torch.equal(got, torch.stack([dataset[i].crops for i in range(4)]))


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (range(10), {}, r"expected real and fake .* generators \[\]"),
        (range(10, 20), {}, r"expected real and fake .* sources \[\]"),
        (range(10, 20), {"mix": Mix(blends=1)}, "expected real and fake"),
        (range(0), {}, "expected real and fake"),
        (range(20), {"mix": Mix(twins=0.5)}, "expected a cache of re-generated pairs .* twins"),
        (range(20), {"mix": Mix(regions=0.5)}, "expected a cache of re-generated pairs .* regions"),
        ([0, 10], {"mix": Mix(made_swaps=0.5)}, "expected real faces of two groups or more"),
        (range(20), {"mix": Mix(swaps=0.5, swapped=("f2f",))}, "expected fakes by .*f2f"),
        (range(20), {"mix": Mix(matches={"gan": ("unsplash",)})}, "unsplash.* for gan but found"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(reader, rows, options, message):
    with pytest.raises(ValueError, match=message):
        PairDataset(reader, np.array(rows, int), **options)


def test_made_swaps_and_blends_need_no_fakes(reader):
    mix = Mix(blends=0.5, made_swaps=0.5)
    assert len(rows_drawn(PairDataset(reader, np.arange(10), mix=mix), 5)) == 5


def test_blends_alone_need_no_fakes(reader):
    drawn = rows_drawn(PairDataset(reader, np.arange(10), mix=Mix(blends=1.0)), 20)
    assert all(real < 10 for real, _ in drawn)


@pytest.mark.parametrize(
    "shares",
    [
        {"twins": -0.1},
        {"blends": -0.1},
        {"twins": 0.6, "blends": 0.5},
        {"regions": -0.1},
        {"blends": 0.6, "made_swaps": 0.5},
    ],
)
def test_shares_beyond_one_are_refused(shares):
    with pytest.raises(ValueError, match="expected shares of at least 0 and at most 1"):
        Mix(**shares)


def test_the_sampler_goes_on_from_epoch_to_epoch():
    sampler = EpochSampler(3)
    assert len(sampler) == 3
    seen = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen += list(sampler)
    assert seen == list(range(9))
    sampler.set_epoch(1)
    assert list(islice(sampler, 2)) == [3, 4]


def test_validation_faces_bring_the_cached_maps(faces_cache):
    reader = CacheReader(faces_cache)
    dataset = FaceDataset(reader, [7, 2])
    assert len(dataset) == 2
    item = dataset[0]
    assert torch.equal(item["crop"], reader.crops([7])[0])
    assert item["row"] == 7 and item["target"] == reader.metadata["target"].iat[7]
    assert np.array_equal(item["spectrum"].numpy(), reader.spectrum(7))
    assert np.array_equal(item["residual"].numpy(), reader.residual(7))
    assert dataset[1]["row"] == 2


def test_recompressed_validation_faces_leave_the_stale_maps(faces_cache):
    reader = CacheReader(faces_cache)
    item = FaceDataset(reader, [7], jpeg=60)[0]
    assert set(item) == {"crop", "target", "row"}
    assert torch.equal(item["crop"], recode(reader.crops([7]), "JPEG", quality=60)[0])
    assert not torch.equal(item["crop"], reader.crops([7])[0])


def test_a_cache_without_maps_gives_none(reader):
    assert set(FaceDataset(reader, [0])[0]) == {"crop", "target", "row"}


def test_a_cached_residual_of_another_kind_is_left_out(faces_cache):
    reader = CacheReader(faces_cache)
    assert "residual" in FaceDataset(reader, [0], residual="npr")[0]
    item = FaceDataset(reader, [0], residual="srm")[0]
    assert "residual" not in item and "spectrum" in item
