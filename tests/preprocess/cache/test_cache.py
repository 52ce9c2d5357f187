"""The cache gives back what was put in, survives what befalls disks, and says what is wrong."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from preprocess.cache import writer as cache_module
from preprocess.cache.errors import CacheError, Failure
from preprocess.cache.faces import CacheSettings
from preprocess.cache.log import read_failures
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.faces.face import CropSettings
from preprocess.faces.maps import residual, spectrum
from tests.preprocess.rows import SMALL, SMALL_COLUMNS, assert_rows, make_row, write_cache

# Round trips


@pytest.mark.parametrize("codec", ["ppm", "png"])
@pytest.mark.parametrize("maps", [("spectrum", "residual"), ("spectrum",), ("residual",), ()])
def test_every_column_comes_back(tmp_path, codec, maps):
    settings = replace(SMALL, codec=codec, maps=maps)
    reader = CacheReader(write_cache(tmp_path / "c", settings=settings))
    assert reader.settings == settings
    assert [part.name for part in reader.parts] == [f"part-0000{i}.arrow" for i in range(3)]
    assert list(reader.metadata.columns) == SMALL_COLUMNS
    assert_rows(reader, [make_row(number, settings) for number in range(5)])


@pytest.mark.parametrize("kind", ["npr", "srm"])
def test_maps_that_are_not_cached_are_computed(tmp_path, kind):
    kept = CacheReader(write_cache(tmp_path / "kept", settings=replace(SMALL, residual=kind)))
    bare = replace(SMALL, residual=kind, maps=())
    computed = CacheReader(write_cache(tmp_path / "bare", settings=bare))
    for row in range(len(kept)):  # which were computed by PyTorch, and may be rounded otherwise
        difference = computed.residual(row).astype(float) - kept.residual(row)
        assert np.abs(difference).max() <= 1 and np.abs(difference).mean() < 1e-3
        difference = computed.spectrum(row).astype(float) - kept.spectrum(row)
        assert np.abs(difference).max() <= 2 / 256


def test_unusual_values_come_back(tmp_path):
    rows = [
        make_row(0, path='Größe, "quoted"\nnext line/😀.png', target=-1, generator="", group=""),
        make_row(1, frame=2**31 - 1, face=2**15 - 1, source_width=1, jpeg_quality=-1),
        make_row(2, box=np.array([-1e6, -0.125, 1e6, 0.375], np.float32)),
    ]
    with CacheWriter(tmp_path / "c", SMALL) as writer:
        writer.add(rows)
    assert_rows(CacheReader(tmp_path / "c"), rows)


def test_dtypes_of_what_is_read(tmp_path):
    reader = CacheReader(write_cache(tmp_path / "c"))
    assert reader.crop(0).dtype == np.uint8 and reader.crop(0).shape == (128, 128, 3)
    assert reader.spectrum(0).dtype == np.float16 and reader.spectrum(0).shape == (128, 65)
    assert reader.residual(0).dtype == np.int8 and reader.residual(0).shape == (3, 128, 128)
    batch = reader.crops([4, 0])
    assert batch.dtype == torch.uint8 and batch.shape == (2, 3, 128, 128)
    np.testing.assert_array_equal(batch[0].permute(1, 2, 0).numpy(), make_row(4).crop)


def test_indices_out_of_range(tmp_path):
    reader = CacheReader(write_cache(tmp_path / "c"))
    for index in (-1, 5):
        with pytest.raises(IndexError, match=f"expected an index of 0 to 4 but got {index}"):
            reader.crop(index)


@pytest.mark.parametrize("kind", ["npr", "median", "srm"])
@pytest.mark.parametrize("codec", ["ppm", "png"])
def test_cached_maps_equal_computed_ones(tmp_path, kind, codec):
    settings = replace(SMALL, residual=kind, codec=codec)
    reader = CacheReader(write_cache(tmp_path / "c", settings=settings))
    crops = reader.crops(range(5))
    computed = residual(crops, kind).numpy()
    for index in range(5):
        np.testing.assert_array_equal(reader.residual(index), computed[index])
        difference = np.abs(
            reader.spectrum(index).astype(float) - spectrum(crops)[index].float().numpy()
        )
        assert difference.max() <= 2 / 256  # batches may differ by one step


@pytest.mark.parametrize("codec", ["ppm", "png"])
def test_other_tools_can_read_a_part(tmp_path, codec):
    folder = write_cache(tmp_path / "c", [7], replace(SMALL, codec=codec))
    row = make_row(7)
    table = pa.ipc.open_file(str(folder / "part-00000.arrow")).read_all()
    np.testing.assert_array_equal(
        table.column("spectrum").combine_chunks().to_numpy_ndarray()[0], row.spectrum
    )
    np.testing.assert_array_equal(
        table.column("residual").combine_chunks().to_numpy_ndarray()[0], row.residual
    )
    frame = pd.read_feather(folder / "part-00000.arrow")
    assert frame["path"][0] == row.path and frame["target"][0] == row.target
    np.testing.assert_array_equal(frame["landmarks"][0].reshape(5, 2), row.landmarks)
    np.testing.assert_array_equal(Image.open(io.BytesIO(frame["crop"][0])), row.crop)


def test_index_tells_format_settings_and_counts(tmp_path):
    with CacheWriter(tmp_path / "c", SMALL) as writer:
        writer.add([make_row(0)])
        writer.fail(Failure("b.jpg", "no_face", "none"))
    index = json.loads((tmp_path / "c" / "cache.json").read_text())
    assert index["format"] == 1
    assert CacheSettings.from_dict(index["settings"]) == SMALL
    assert index["counts"] == {"faces": 1, "failures": 1}


def test_failures_come_back_whatever_they_say(tmp_path):
    failures = [
        Failure("a, b.jpg", "no_face", "no face was found"),
        Failure('line\nbreak "x".jpg', "unreadable", "expected a,\r\nbut got\tb 😀"),
    ]
    with CacheWriter(tmp_path / "c", SMALL) as writer:
        for failure in failures:
            writer.fail(failure)
    assert read_failures(tmp_path / "c") == failures
    assert list(pd.read_csv(tmp_path / "c" / "failures.csv").columns) == ["path", "kind", "reason"]


def test_names_that_are_no_text_are_written_escaped(tmp_path):
    with CacheWriter(tmp_path / "c", SMALL) as writer:
        writer.fail(Failure("a.jpg", "unreadable", os.fsdecode(b"caf\xe9.jpg is damaged")))
    assert read_failures(tmp_path / "c")[0].reason == r"caf\udce9.jpg is damaged"


def test_an_empty_cache_can_be_read(tmp_path):
    with CacheWriter(tmp_path / "new" / "c", SMALL):
        pass
    reader = CacheReader(tmp_path / "new" / "c")
    assert len(reader) == 0 and list(reader.metadata.columns) == SMALL_COLUMNS
    assert reader.parts == [] and read_failures(tmp_path / "new" / "c") == []


def test_many_rows_are_split_into_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "ROWS_PER_PART", 3)
    with CacheWriter(tmp_path / "c", SMALL) as writer:
        for number in range(4):  # a clip's faces always stay in one part
            writer.add([make_row(number), make_row(number, frame=5)])
        assert len(list((tmp_path / "c").glob("part-*.arrow"))) == 2
    parts = [pa.ipc.open_file(str(part)) for part in CacheReader(tmp_path / "c").parts]
    assert [len(part.read_all()) for part in parts] == [4, 4]


# Going on, starting afresh, and not clobbering


def test_a_second_writer_goes_on(tmp_path):
    folder = tmp_path / "c"
    with CacheWriter(folder, SMALL) as writer:
        writer.add([make_row(0)])
        writer.fail(Failure("broken.jpg", "unreadable", "damaged"))
    first = (folder / "part-00000.arrow").stat().st_mtime_ns
    with CacheWriter(folder, SMALL) as writer:
        assert writer.done == {make_row(0).path: 0, "broken.jpg": None}
        assert writer.faces == 1
        writer.add([make_row(1)])
    reader = CacheReader(folder)
    assert_rows(reader, [make_row(0), make_row(1)])
    assert (folder / "part-00000.arrow").stat().st_mtime_ns == first
    assert [failure.path for failure in read_failures(folder)] == ["broken.jpg"]


def test_retry_forgets_the_failures(tmp_path):
    with CacheWriter(tmp_path / "c", SMALL) as writer:
        writer.add([make_row(0)])
        writer.fail(Failure("broken.jpg", "unreadable", "damaged"))
    with CacheWriter(tmp_path / "c", SMALL, retry=True) as writer:
        assert list(writer.done) == [make_row(0).path]
    assert read_failures(tmp_path / "c") == []
    assert len(CacheReader(tmp_path / "c")) == 1


OTHER_SETTINGS = [
    (replace(SMALL, crop=CropSettings(size=160)), "crop.size: 160, not 128"),
    (replace(SMALL, crop=CropSettings(size=128, margin=0.3)), "crop.margin: 0.3, not 0.15"),
    (replace(SMALL, residual="srm"), "residual: 'srm', not 'npr'"),
    (replace(SMALL, maps=("spectrum",)), "maps: ['spectrum'], not ['spectrum', 'residual']"),
]


@pytest.mark.parametrize(("other", "difference"), OTHER_SETTINGS)
def test_other_settings_are_refused_by_name(tmp_path, other, difference):
    folder = write_cache(tmp_path / "c")
    with pytest.raises(CacheError, match="holds a cache with other settings") as caught:
        CacheWriter(folder, other)
    assert difference in str(caught.value) and str(folder) in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert_rows(CacheReader(folder), [make_row(number) for number in range(5)])


def test_overwrite_starts_afresh(tmp_path):
    folder = write_cache(tmp_path / "c")
    (folder / "notes.txt").write_text("mine")
    other = replace(SMALL, maps=())
    with CacheWriter(folder, other, overwrite=True) as writer:
        assert writer.done == {} and writer.faces == 0
        writer.add([make_row(9, other)])
    assert_rows(CacheReader(folder), [make_row(9, other)])
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["cache.json", "cache.lock", "failures.csv", "notes.txt", "part-00000.arrow"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_cache_is_left_alone(tmp_path, overwrite):
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "part-00000.arrow").write_text("dear to me")
    with pytest.raises(CacheError, match="holiday: expected a cache or a new folder but got other"):
        CacheWriter(folder, SMALL, overwrite=overwrite)
    assert (folder / "part-00000.arrow").read_text() == "dear to me"
    assert len(list(folder.iterdir())) == 1
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(CacheError, match="expected a cache or a new folder"):
        CacheWriter(file, SMALL, overwrite=overwrite)
    assert file.read_text() == "x"


# Several caches as one


def test_several_caches_are_read_as_one(tmp_path):
    first = write_cache(tmp_path / "shard-0", [0, 1, 2])
    second = write_cache(tmp_path / "shard-1", [3])
    rows = [make_row(number) for number in range(4)]
    for paths in ([first, second], str(tmp_path / "shard-*"), [str(first), second]):
        assert_rows(CacheReader(paths), rows)
    assert_rows(CacheReader([second, first]), [rows[3], *rows[:3]])


def test_caches_with_other_settings_are_not_mixed(tmp_path):
    first = write_cache(tmp_path / "a")
    second = write_cache(tmp_path / "b", settings=replace(SMALL, residual="median"))
    with pytest.raises(CacheError, match="residual: 'npr', not 'median'") as caught:
        CacheReader([first, second])
    assert str(first) in str(caught.value) and str(second) in str(caught.value)


def test_a_folder_with_brackets_in_its_name_is_no_glob(tmp_path):
    assert len(CacheReader(write_cache(tmp_path / "c [1]"))) == 5


# Readers in other processes


def test_a_reader_can_be_pickled(tmp_path):
    reader = CacheReader(write_cache(tmp_path / "c"))
    data = pickle.dumps(reader)
    assert len(data) < 2000  # where it lies, not what it holds
    assert_rows(pickle.loads(data), [make_row(number) for number in range(5)])


def test_a_reader_works_in_other_processes(tmp_path):
    reader = CacheReader(write_cache(tmp_path / "c"))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        crops = pool.map(reader.crop, range(5))
    np.testing.assert_array_equal(crops, [make_row(number).crop for number in range(5)])
