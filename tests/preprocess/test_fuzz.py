"""Hostile pictures, clips, caches and label files: the documented errors and nothing else."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from preprocess.cache.check import check_cache, repair
from preprocess.cache.errors import CacheError
from preprocess.cache.log import read_failures
from preprocess.cache.parts import fetch_small_columns, write_index
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.io.clips import decode_video
from preprocess.io.decode import DecodeError, decode_image, read_encoding
from preprocess.io.labels import LabelError
from preprocess.io.sound import SoundReader
from preprocess.io.sources import find_items
from tests.fuzz import changed, damage, files_in, fuzz, little_memory
from tests.preprocess.io.test_clips import write_clip
from tests.preprocess.io.test_colour import SPACES, cmyk_profile, rgb_profile
from tests.preprocess.io.test_decode import encode
from tests.preprocess.rows import SMALL, write_cache
from tests.preprocess.sounds import buzz, write_sound

WIDE, INKS = {"icc_profile": rgb_profile(*SPACES["Display P3"])}, {"icc_profile": cmyk_profile()}
FORMATS = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("BMP", {}),
    ("AVIF", {}),
    ("JPEG2000", {}),
    ("PPM", {}),
    ("QOI", {}),
    ("HEIF", {}),
    ("JPEG", WIDE),
    ("TIFF", WIDE),
    ("AVIF", WIDE),
    ("JPEG CMYK", INKS),
    ("TIFF CMYK", INKS),
    ("TIFF L F", {}),
    ("TIFF L I I;16", {}),
    ("TIFF LAB", {}),
    ("TIFF P PA", {}),
    ("TIFF 1", {}),
]
"""Format and the modes that a picture is converted to, one after another; options."""
CLIPS = [
    ("mp4", "libx264"),
    ("mov", "mpeg4"),
    ("avi", "mpeg4"),
    ("avi", "mjpeg"),
    ("mkv", "libx264"),
    ("webm", "libvpx"),
    ("ts", "libx264"),
    ("mpg", "mpeg2video"),
    ("flv", "flv"),
    ("wmv", "wmv2"),
]
SOUNDS = "wav flac mp3 m4a ogg mkv".split()


@pytest.fixture(scope="module")
def pictures(astronaut) -> list[bytes]:
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    made = []
    for text, options in FORMATS:
        kind, *modes = text.split()
        if kind in Image.SAVE and (kind != "AVIF" or features.check("avif")):
            image = Image.fromarray(astronaut[60:156, 150:310])
            for mode in modes:
                image = image.convert(mode)
            made.append(encode(image, kind, **options))
    return made


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder / f"clip.{kind}", codec, frames=12) for kind, codec in CLIPS]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sounds")
    return [write_sound(folder / f"a.{suffix}", buzz(0.6)) for suffix in SOUNDS]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return write_cache(tmp_path_factory.mktemp("caches") / "c", range(3))


@fuzz(400)
@given(which=st.integers(0, len(FORMATS) - 1), change=damage())
def test_pictures(pictures, tmp_path, which, change):
    file = tmp_path / "picture"
    file.write_bytes(change(pictures[which % len(pictures)]))
    with little_memory(100):
        try:
            read_encoding(file)
            pixels = decode_image(file, max_megapixels=1).pixels
            assert pixels.dtype == np.uint8 and 0 < pixels.size <= 3e6
        except DecodeError as error:
            assert str(file) in str(error)


@fuzz(80)
@given(which=st.integers(0, len(CLIPS) - 1), change=damage())
def test_clips(clips, tmp_path, which, change):
    file = tmp_path / f"damaged{clips[which].suffix}"
    file.write_bytes(change(clips[which].read_bytes()))
    with little_memory(300):
        try:
            for picture in decode_video(file, frames=3, max_megapixels=1):
                assert picture.pixels.ndim == 3 and picture.pixels.size <= 3e6
        except DecodeError as error:
            assert str(file) in str(error)


@fuzz(60)
@given(which=st.integers(0, len(SOUNDS) - 1), change=damage())
def test_sounds(sounds, tmp_path, which, change):
    file = tmp_path / f"damaged{sounds[which].suffix}"
    file.write_bytes(change(sounds[which].read_bytes()))
    with little_memory(300):
        try:
            with SoundReader(file) as reader:
                for block in reader.blocks(0.5):
                    assert block.dtype == np.float32 and np.isfinite(block).all()
        except DecodeError as error:
            assert str(file) in str(error)


def read_everything(cache: Path) -> None:
    reader = CacheReader(cache)
    for index in range(len(reader)):
        reader.crop(index), reader.spectrum(index), reader.residual(index)


@fuzz(300)
@given(change=damage())
def test_parts(cache, tmp_path_factory, change):
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(cache, folder, dirs_exist_ok=True)
    (folder / "part-00000.arrow").write_bytes(change((cache / "part-00000.arrow").read_bytes()))
    with little_memory(100):
        try:
            read_everything(folder)
        except CacheError as error:
            assert "part-00000.arrow" in str(error) or "expected a lossless" in str(error)
    shutil.rmtree(folder)


@fuzz(150)
@given(change=damage())
def test_parts_at_a_url(cache, change):
    upath = pytest.importorskip("upath", reason="URLs need the [cloud] extra")
    part = upath.UPath("memory://damaged/part-00000.arrow")
    part.write_bytes(change((cache / "part-00000.arrow").read_bytes()))
    with little_memory(100):
        try:
            fetch_small_columns(part, SMALL)
        except CacheError as error:
            assert "part-00000.arrow" in str(error)


@fuzz(30)
@given(data=st.data())
def test_indices(cache, tmp_path_factory, data):
    outside = tmp_path_factory.mktemp("index")
    folder = outside / "c"
    shutil.copytree(cache, folder)
    text = (cache / "cache.json").read_bytes()
    if data.draw(st.booleans()):
        text = json.dumps(data.draw(changed(json.loads(text)))).encode()
    else:
        text = data.draw(damage())(text)
    (folder / "cache.json").write_bytes(text)
    for use in (read_everything, check_cache, repair, lambda path: CacheWriter(path, SMALL)):
        try:
            made = use(folder)
            if isinstance(made, CacheWriter):
                made.__exit__(None)
        except CacheError as error:
            assert str(folder) in str(error)
    assert {name.split("/")[0] for name in files_in(outside)} == {"c"}
    shutil.rmtree(outside)


@fuzz(100)
@given(change=damage())
def test_failure_lists(tmp_path, change):
    write_index(tmp_path, SMALL, 0, 0, {})
    listed = b'path,kind,reason\r\na.jpg,no_face,"none, found"\r\n../b.jpg,timeout,\r\n'
    (tmp_path / "failures.csv").write_bytes(change(listed))
    try:
        read_failures(tmp_path)
    except CacheError as error:
        assert "failures.csv" in str(error)


NAMES = st.one_of(
    st.sampled_from(
        [
            "a.png",
            "b/c.png",
            "../secret.png",
            "/etc/passwd",
            "b/../../secret.png",
            "..",
            ".",
            "",
            "link.png",
            "loop/loop/a.png",
            "C:\\x.png",
            "b\\c.png",
            "~",
            "http://h/x.png",
            "\0",
        ]
    ),
    st.text(max_size=12),
)


TARGETS = st.sampled_from(["0", "1", "2", "", "x", "1.0", "fake", "nan", "1e999", " real "])
SPLITS = st.sampled_from(["", "train", " Val", "nan", "'test'", "fold 1"])


@fuzz(150)
@given(
    rows=st.lists(st.tuples(NAMES, TARGETS, SPLITS | st.text(max_size=8)), max_size=6),
    header=st.sampled_from(["img_path,target,split", "Path,Label,x", "path,target,target", "x"]),
    delimiter=st.sampled_from(",;\t| "),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-7"]),
    change=st.none() | damage(),
)
def test_label_files(tmp_path_factory, rows, header, delimiter, encoding, change):
    outside = tmp_path_factory.mktemp("labels")
    root = outside / "data"
    (root / "b").mkdir(parents=True)
    for file in ("a.png", "b/c.png"):
        (root / file).write_bytes(b"pixels")
    (outside / "secret.png").write_bytes(b"secret")
    (root / "loop").symlink_to(root)
    (root / "up").symlink_to(outside)
    text = "\n".join([header.replace(",", delimiter), *(delimiter.join(row) for row in rows)])
    labels = text.encode(encoding, "surrogatepass" if encoding != "utf-7" else "ignore")
    (root / "manifest.csv").write_bytes(change(labels) if change else labels)
    before = files_in(outside)
    try:
        found = {item.path: item.file for item in find_items(root).items}
        assert found == {"a.png": root / "a.png", "b/c.png": root / "b/c.png"}
    except LabelError as error:
        assert "manifest.csv" in str(error)
    assert files_in(outside) == before
    for link in ("loop", "up"):
        os.unlink(root / link)  # noqa: PTH108
    shutil.rmtree(outside)
