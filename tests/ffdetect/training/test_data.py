"""Training pairs and validation faces."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

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


def rows_drawn(dataset: PairDataset, count: int = 300) -> list[tuple[int, int]]:
    """The greys of both faces of pairs as they are before augmentation."""
    dataset.transform = nn.Identity()
    pairs = (dataset[i] for i in range(count))
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
    share = np.mean([fake == 1 for _, fake in rows_drawn(dataset)])
    assert share == pytest.approx(1 / 4, abs=0.07)


@pytest.mark.parametrize(("balance", "expected"), [("equal", 1 / 2), ("size", 9 / 10)])
def test_generators_are_drawn_by_the_balance_asked_for(tmp_path, balance, expected):
    rows = [{"target": t, "generator": n} for t, n in ((0, "few"), (1, "little"))]
    rows += [{"target": t, "generator": n} for t, n in ((0, "many"), (1, "lots"))] * 9
    reader = write_cache(tmp_path / "c", rows)
    drawn = rows_drawn(PairDataset(reader, np.arange(20), mix=Mix(balance=balance)), 300)
    assert np.mean([real != 0 for real, _ in drawn]) == pytest.approx(expected, abs=0.08)
    assert np.mean([fake != 1 for _, fake in drawn]) == pytest.approx(expected, abs=0.08)


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
        real, fake, other_real, other_fake = both[i]
        assert torch.equal(torch.stack([real, fake]), once[i])
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
    expected = [first[i] for i in range(6)]
    torch.manual_seed(2)
    second = PairDataset(reader, rows, window=128, seed=3)
    for i in reversed(range(6)):
        assert torch.equal(second[i], expected[i])
    other = PairDataset(reader, rows, window=128, seed=4)
    assert sum(torch.equal(other[i], expected[i]) for i in range(6)) < 3


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
    pairs = [dataset[i] for i in range(8)]
    assert {(pair.shape, pair.dtype) for pair in pairs} == {((2, 3, 144, 144), torch.uint8)}
    assert all(pair.is_contiguous() for pair in pairs)
    assert len({pair.float().mean().item() for pair in pairs}) == 8


def test_pairs_travel_to_worker_processes(reader):
    dataset = PairDataset(reader, np.arange(20), window=128)
    loader = torch.utils.data.DataLoader(dataset, 2, sampler=EpochSampler(4), num_workers=1)
    got = torch.cat(list(loader))
    assert torch.equal(got, torch.stack([dataset[i] for i in range(4)]))


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (range(10), {}, r"expected real and fake .* generators \[\]"),
        (range(10, 20), {}, r"expected real and fake .* sources \[\]"),
        (range(10, 20), {"mix": Mix({"blends": 1})}, "expected real and fake"),
        (range(0), {}, "expected real and fake"),
        (
            range(20),
            {"mix": Mix({"regenerated": 0.5})},
            "expected a cache of regenerated pairs .* regenerated",
        ),
        (
            range(20),
            {"mix": Mix({"regions": 0.5})},
            "expected a cache of regenerated pairs .* regions",
        ),
        ([0, 10], {"mix": Mix({"made_swaps": 0.5})}, "expected real faces of two groups or more"),
        (range(20), {"mix": Mix(matches={"gan": ("unsplash",)})}, "unsplash.* for gan but found"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(reader, rows, options, message):
    with pytest.raises(ValueError, match=message):
        PairDataset(reader, np.array(rows, int), **options)


def test_made_swaps_and_blends_need_no_fakes(reader):
    mix = Mix({"blends": 0.5, "made_swaps": 0.5})
    assert len(rows_drawn(PairDataset(reader, np.arange(10), mix=mix), 5)) == 5


def test_blends_alone_need_no_fakes(reader):
    drawn = rows_drawn(PairDataset(reader, np.arange(10), mix=Mix({"blends": 1.0})), 20)
    assert all(real < 10 for real, _ in drawn)


@pytest.mark.parametrize(
    "shares",
    [
        {"regenerated": -0.1},
        {"blends": -0.1},
        {"regenerated": 0.6, "blends": 0.5},
        {"regions": -0.1},
        {"blends": 0.6, "made_swaps": 0.5},
    ],
)
def test_shares_beyond_one_are_refused(shares):
    with pytest.raises(ValueError, match="expected shares of at least 0 and at most 1"):
        Mix(shares)


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
