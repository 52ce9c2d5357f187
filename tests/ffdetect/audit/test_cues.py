"""Each cue measures what its name says."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from ffdetect.audit.cues import CUES, LABELS, face_cues, measure_cache, measure_items, pixel_cues
from preprocess.cache.errors import Failure
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import CropSettings
from preprocess.io.decode import DecodeError, read_encoding
from preprocess.io.sources import find_items
from tests.preprocess.rows import SMALL, make_row
from tests.real import needs


def test_how_a_jpeg_was_written_is_read_from_its_header(tmp_path, astronaut):
    file = tmp_path / "a.jpg"
    image = Image.fromarray(astronaut)
    for subsampling, share in ((0, 1.0), (1, 0.5), (2, 0.25)):
        image.save(file, quality=71, subsampling=subsampling, progressive=subsampling == 1)
        found = read_encoding(file)
        assert (found.format, found.mode, found.quality) == ("jpeg", "RGB", 71)
        assert found.subsampling == share and found.progressive == (subsampling == 1)
        with Image.open(file) as written:
            assert list(found.luma) == list(written.quantization[0])
            assert list(found.chroma) == list(written.quantization[1])
        assert not found.exif and not found.icc
    exif = Image.Exif()
    exif[271] = "camera"
    image.convert("L").save(file, exif=exif, icc_profile=b"profile")
    found = read_encoding(file)
    assert found.exif and found.icc and found.mode == "L"
    assert found.chroma == () and found.subsampling == 0


def test_how_other_files_were_written(tmp_path, astronaut):
    Image.fromarray(astronaut).convert("RGBA").save(tmp_path / "named.jpg", "PNG")
    found = read_encoding(tmp_path / "named.jpg")
    assert (found.format, found.mode, found.quality) == ("png", "RGBA", -1)
    assert found.luma == found.chroma == ()
    (tmp_path / "text.jpg").write_text("no picture")
    for name in ("text.jpg", "absent.jpg"):
        with pytest.raises(DecodeError, match=f"{name}: expected"):
            read_encoding(tmp_path / name)


def test_blur_and_noise_move_the_sharpness_cues(astronaut):
    sharp = pixel_cues(astronaut)
    soft = pixel_cues(cv2.GaussianBlur(astronaut, (0, 0), 4))
    grain = np.random.default_rng(0).normal(0, 12, astronaut.shape)
    noisy = pixel_cues((astronaut + grain).clip(0, 255).astype(np.uint8))
    for name in CUES["sharpness"]:
        assert soft[name] < sharp[name] < noisy[name], name


def test_the_noise_that_was_added_comes_back():
    rng = np.random.default_rng(0)
    for sigma in (3, 8):
        grey = (128 + rng.normal(0, sigma, (224, 224))).clip(0, 255).astype(np.uint8)
        assert pixel_cues(np.repeat(grey[..., None], 3, 2))["noise"] == pytest.approx(
            sigma, rel=0.05
        )


def test_the_spectral_slope_is_the_exponent_of_the_power():
    rng = np.random.default_rng(0)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(224), np.fft.fftfreq(224)))
    radius[0, 0] = 1
    for exponent in (-1.0, -2.0):
        field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(224, 224))) * radius ** (exponent / 2))
        field = field.real / field.real.std()
        pixels = (128 + 35 * field).clip(0, 255).astype(np.uint8)
        slope = pixel_cues(np.repeat(pixels[..., None], 3, 2))["spectral_slope"]
        assert slope == pytest.approx(exponent, abs=0.15)


def test_colour_cues():
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:] = (200, 100, 50)
    found = pixel_cues(pixels)
    assert found["saturation"] == pytest.approx(0.75)
    assert found["red_green"] == pytest.approx(100)
    assert found["yellow_blue"] == pytest.approx(100)
    assert found["brightness"] == pytest.approx(0.299 * 200 + 0.587 * 100 + 0.114 * 50, abs=1)
    assert found["contrast"] == pytest.approx(0)
    assert all(np.isfinite(value) for value in found.values())


def test_face_cues():
    found = face_cues(np.array([10, 20, 40, 60], np.float32), 100, 200)
    assert found == {"face_pixels": 40, "face_share": pytest.approx(30 * 40 / 20000)}


def test_a_folder_with_clips_and_damaged_files(tmp_path, astronaut_folder):
    folder = astronaut_folder(real=2, fake=1)
    (folder / "fake" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    found = measure_items(find_items(folder).items)
    assert [path for path, _ in found.unreadable] == ["fake/broken.jpg"]
    assert found.table["path"].tolist() == ["fake/0.jpg", "real/0.png", "real/1.png"]
    row = found.table.iloc[0]
    assert (row["width"], row["height"], row["aspect"], row["jpeg_quality"]) == (512, 512, 1, 90)
    size = (folder / "fake" / "0.jpg").stat().st_size
    assert row["bytes_per_pixel"] == pytest.approx(size / 512**2)
    assert np.isnan(found.table["jpeg_quality"].iloc[1])
    assert row["format"] != found.table["format"].iloc[1] == found.table["format"].iloc[2]
    assert "face size" not in found.cues() and len(found.cues()) == len(CUES) - 1
    assert found.hashes.shape == (3, 255)


def test_face_size_with_a_detector(astronaut_folder):
    detector = FaceDetector(CropSettings(min_face=64))
    found = measure_items(find_items(astronaut_folder(real=1, fake=0)).items, detector)
    assert 80 < found.table["face_pixels"].iloc[0] < 200
    assert found.cues()["face size"] == list(CUES["face size"])


def test_of_a_clip_its_middle_is_measured(shared):
    items = [i for i in find_items(needs(shared / "av" / "video")).items if i.is_video][:2]
    found = measure_items(items)
    assert len(found.table) == 2 and not found.unreadable
    assert "bytes per pixel" not in found.cues() and "sharpness" in found.cues()


def test_a_cache_gives_its_columns(tmp_path, astronaut):
    box = np.array([10, 20, 74, 60], np.float32)
    with CacheWriter(tmp_path / "cache", replace(SMALL, maps=())) as writer:
        for number in range(4):
            quality = -1 if number == 0 else 80 + number
            row = make_row(number, writer.settings, box=box, jpeg_quality=quality)
            row.crop[:] = astronaut[:128, :128] // (number + 1)
            writer.add([row])
        writer.fail(Failure("bad.jpg", "unreadable", "bad.jpg: damaged"))
        writer.fail(Failure("empty.jpg", "no_face", "no face was found"))
    reader = CacheReader(tmp_path / "cache")
    found = measure_cache(reader)
    assert found.unreadable == [("bad.jpg", "bad.jpg: damaged")]
    for name in LABELS:
        assert found.table[name].tolist() == reader.metadata[name].tolist()
    np.testing.assert_array_equal(found.table["jpeg_quality"], [np.nan, 81, 82, 83])
    assert found.table["width"].tolist() == [640, 641, 642, 643]
    assert found.table["face_pixels"].tolist() == [64] * 4
    assert found.table["face_share"].iloc[0] == pytest.approx(64 * 40 / (640 * 480))
    assert found.table["brightness"].iloc[0] == pytest.approx(
        pixel_cues(reader.crop(0))["brightness"]
    )
    assert set(found.cues()) == set(CUES) - {"bytes per pixel"}
