"""The cache gives back what was put in, survives what befalls disks, and says what is wrong."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from preprocess import cache as cache_module
from preprocess.cache import CacheReader, CacheWriter, read_failures
from preprocess.faces import CropSettings
from preprocess.maps import SPECTRUM_TOLERANCE, residual, spectrum
from preprocess.schema import (
    CachedFace,
    CacheError,
    CacheSettings,
    Failure,
    decode_crop,
    encode_crop,
    schema,
    settings_difference,
)
from tests.preprocess.rows import SMALL, make_row

SMALL_COLUMNS = [n for n in schema(SMALL).names if n not in ("crop", "spectrum", "residual")]


def write_cache(path: Path, numbers=range(5), settings=SMALL, per_part: int = 2) -> Path:
    with CacheWriter(path, settings) as writer:
        for position, number in enumerate(numbers):
            writer.add([make_row(number, settings)])
            if position % per_part == per_part - 1:
                writer.flush()
    return path


def assert_rows(reader: CacheReader, rows: list[CachedFace]) -> None:
    assert len(reader) == len(rows)
    for index, row in enumerate(rows):
        stored = reader.metadata.iloc[index]
        for name in SMALL_COLUMNS:
            expected = np.ravel(getattr(row, name))
            np.testing.assert_array_equal(np.ravel(stored[name]), expected, err_msg=name)
        np.testing.assert_array_equal(reader.crop(index), row.crop)
        if row.spectrum is not None:
            np.testing.assert_array_equal(reader.spectrum(index), row.spectrum)
        if row.residual is not None:
            np.testing.assert_array_equal(reader.residual(index), row.residual)


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
    for name in {"spectrum", "residual"} - set(maps):
        with pytest.raises(CacheError, match=f"expected a cached {name} but it has none"):
            getattr(reader, name)(0)


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
        assert difference.max() <= 2 * SPECTRUM_TOLERANCE  # batches may differ by one step


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


def test_columns_are_those_of_the_contract():
    types = {field.name: str(field.type) for field in schema(SMALL)}
    assert types["frame"] == "int32" and types["face"] == "int16" and types["target"] == "int8"
    assert types["box"] == "fixed_size_list<item: float>[4]"
    assert types["landmarks"] == "fixed_size_list<item: float>[10]"
    assert types["crop"] == "binary"
    assert "half_float" in types["spectrum"] or "halffloat" in types["spectrum"]
    assert "int8" in types["residual"] and "[3,128,128]" in types["residual"]


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
    monkeypatch.setattr(cache_module, "_ROWS_PER_PART", 3)
    with CacheWriter(tmp_path / "c", SMALL) as writer:
        for number in range(4):  # a clip's faces always stay in one part
            writer.add([make_row(number), make_row(number, frame=5)])
        assert len(list((tmp_path / "c").glob("part-*.arrow"))) == 2
    parts = [pa.ipc.open_file(str(part)) for part in CacheReader(tmp_path / "c").parts]
    assert [len(part.read_all()) for part in parts] == [4, 4]


def test_crop_codecs_refuse_anything_else():
    crop = make_row(1).crop
    for codec in ("ppm", "png"):
        data = encode_crop(crop, codec)
        np.testing.assert_array_equal(decode_crop(data, 128), crop)
        for bad in (data[:-7], data[7:], b"", data + b"\0" if codec == "ppm" else b"\x89PNG"):
            with pytest.raises(CacheError, match="expected a lossless 128 x 128 crop but got"):
                decode_crop(bad, 128)
        with pytest.raises(CacheError, match="expected a lossless 130 x 130 crop"):
            decode_crop(data, 130)


def test_png_takes_less_space_than_ppm(astronaut):
    crop = astronaut[:128, :128]
    assert len(encode_crop(crop, "png")) < 0.8 * len(encode_crop(crop, "ppm"))


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
    assert names == ["cache.json", "failures.csv", "notes.txt", "part-00000.arrow"]


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


# Damage


@pytest.mark.parametrize("keep", [0, 6, 100, 0.5, 0.99])
def test_a_truncated_part_is_named(tmp_path, keep):
    folder = write_cache(tmp_path / "c")
    part = folder / "part-00001.arrow"
    data = part.read_bytes()
    part.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    for open_cache in (CacheReader, lambda path: CacheWriter(path, SMALL)):
        with pytest.raises(CacheError, match=r"part-00001\.arrow: expected an Arrow part but"):
            open_cache(folder)


def test_a_part_with_other_columns_is_named(tmp_path):
    folder = write_cache(tmp_path / "c")
    other = write_cache(tmp_path / "other", settings=replace(SMALL, maps=()))
    (folder / "part-00001.arrow").write_bytes((other / "part-00001.arrow").read_bytes())
    with pytest.raises(CacheError, match=r"part-00001\.arrow: expected the columns of cache"):
        CacheReader(folder)


def test_a_damaged_crop_is_named_by_its_key(tmp_path):
    folder = write_cache(tmp_path / "c", [3])
    part = folder / "part-00000.arrow"
    part.write_bytes(part.read_bytes().replace(b"P6\n128 128", b"P6\n129 128"))
    with pytest.raises(CacheError, match=r"fake/picture 3\.jpg#-1#0: expected a lossless"):
        CacheReader(folder).crop(0)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"format": 1}', '{"format": 1, "settings": {}}', "\0\0", "\xff"],
)
def test_a_damaged_index_is_named(tmp_path, text):
    folder = write_cache(tmp_path / "c")
    (folder / "cache.json").write_bytes(text.encode("latin-1"))
    for open_cache in (CacheReader, lambda path: CacheWriter(path, SMALL)):
        with pytest.raises(CacheError, match=r"cache\.json: expected a cache's index but it is"):
            open_cache(folder)
    CacheWriter(folder, SMALL, overwrite=True)
    assert len(CacheReader(folder)) == 0


def test_an_index_with_impossible_settings_is_named(tmp_path):
    folder = write_cache(tmp_path / "c")
    index = folder / "cache.json"
    for old, new in (('"size": 128', '"size": 5'), ('"codec"', '"codek"')):
        text = index.read_text()
        index.write_text(text.replace(old, new))
        with pytest.raises(CacheError, match=r"cache\.json: expected a cache's index"):
            CacheReader(folder)
        index.write_text(text)


def test_other_format_versions_are_refused(tmp_path):
    folder = write_cache(tmp_path / "c")
    index = folder / "cache.json"
    index.write_text(index.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(CacheError, match="expected cache format 1 but got 2"):
        CacheReader(folder)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a,b\n1,2\n", b"path,kind,reason\nx\n"])
def test_a_damaged_failure_list_is_named(tmp_path, content):
    folder = write_cache(tmp_path / "c")
    (folder / "failures.csv").write_bytes(content)
    with pytest.raises(CacheError, match=r"failures\.csv: expected .* but"):
        CacheWriter(folder, SMALL)


def test_what_is_no_cache_is_refused(tmp_path):
    with pytest.raises(CacheError, match=r"expected a cache but there is no cache\.json"):
        CacheReader(tmp_path)
    with pytest.raises(CacheError, match=r"expected a cache but there is no cache\.json"):
        CacheReader(tmp_path / "missing")
    with pytest.raises(CacheError, match="expected at least one cache but got"):
        CacheReader(str(tmp_path / "none-*"))
    with pytest.raises(CacheError, match="expected at least one cache but got"):
        CacheReader([])


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


# Interrupted and failing writes


def test_what_a_killed_run_left_over_is_cleaned(tmp_path):
    folder = write_cache(tmp_path / "c", range(2))
    (folder / "part-00001.arrow.tmp").write_bytes(b"half a part")
    assert len(CacheReader(folder)) == 2
    with CacheWriter(folder, SMALL) as writer:
        assert not list(folder.glob("*.tmp"))
        writer.add([make_row(2)])
    assert_rows(CacheReader(folder), [make_row(number) for number in range(3)])


def test_an_interruption_keeps_what_is_done(tmp_path):
    with pytest.raises(KeyboardInterrupt), CacheWriter(tmp_path / "c", SMALL) as writer:
        writer.add([make_row(0)])
        raise KeyboardInterrupt
    assert_rows(CacheReader(tmp_path / "c"), [make_row(0)])


@pytest.mark.parametrize(
    ("failing", "kept"), [("part-00001.arrow", 2), ("failures.csv", 3), ("cache.json", 3)]
)
def test_a_full_disk(tmp_path, monkeypatch, failing, kept):
    folder = write_cache(tmp_path / "c", range(2))
    rows = [make_row(number) for number in range(3)]

    def full(path: Path, write) -> None:
        def write_half(temporary: Path) -> None:
            temporary.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        whole(path, write_half if path.name == failing else write)

    whole = cache_module._write_whole
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "_write_whole", full)
        with (
            pytest.raises(CacheError, match=f"{failing}: cannot be written .No space left on"),
            CacheWriter(folder, SMALL) as writer,
        ):
            writer.add([rows[2]])
            writer.flush()
    assert not list(folder.glob("*.tmp"))
    assert_rows(CacheReader(folder), rows[:kept])
    with CacheWriter(folder, SMALL) as writer:  # the next run goes on
        if rows[2].path not in writer.done:
            writer.add([rows[2]])
    assert_rows(CacheReader(folder), rows)


def test_a_part_has_its_name_only_when_it_is_on_the_disk(tmp_path, monkeypatch):
    folder = write_cache(tmp_path / "c", range(2))
    seen = []

    def look(_descriptor: int) -> None:
        seen.append(sorted(file.name for file in folder.glob("part-*")))

    monkeypatch.setattr(cache_module.os, "fsync", look)
    with CacheWriter(folder, SMALL) as writer:
        writer.add([make_row(2)])
    assert seen[0] == ["part-00000.arrow", "part-00001.arrow.tmp"]
    assert seen[-1] == ["part-00000.arrow", "part-00001.arrow"]


def test_output_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="cannot write there"):
        CacheWriter(tmp_path / "file" / "c", SMALL)

    def refuse(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(CacheError, match=r"new: cannot write there: Permission denied"):
        CacheWriter(tmp_path / "new", SMALL)


# Settings


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("maps", ("wavelet",), "expected maps among .* but got .'wavelet'"),
        ("residual", "laplace", r"expected a residual among \['median', 'npr', 'srm'\] but got"),
        ("codec", "jpeg", "expected a codec among .* but got 'jpeg'"),
        ("faces", "two", "expected faces to be 'largest' or 'all' but got 'two'"),
        ("frames", 0, "expected at least 1 frame per clip but got 0"),
    ],
)
def test_settings_are_checked(setting, value, message):
    with pytest.raises(ValueError, match=message):
        CacheSettings(**{setting: value})


def test_settings_survive_json():
    settings = CacheSettings(
        CropSettings(size=200, align="similarity"), ("residual",), "srm", "png", "all", 3
    )
    assert CacheSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_settings_difference_names_nested_and_missing_settings():
    left, right = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4, "d": 3}, "e": 5}
    assert settings_difference(left, right) == ["b.c: 2, not 4", "e: None, not 5"]
    assert settings_difference(left, left) == []
