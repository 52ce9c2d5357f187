"""The columns of a cache, its settings, and the lossless coding of crops."""

from __future__ import annotations

import json

import numpy as np
import pytest

from preprocess.cache.errors import CacheError
from preprocess.cache.faces import CacheSettings, decode_crop, encode_crop
from preprocess.cache.kinds import settings_difference
from preprocess.cache.sound import SoundSettings
from preprocess.faces.face import CropSettings
from tests.preprocess.rows import SMALL, make_row


def test_columns_are_those_of_the_contract():
    types = {field.name: str(field.type) for field in SMALL.schema()}
    assert types["frame"] == "int32" and types["face"] == "int16" and types["target"] == "int8"
    assert types["box"] == "fixed_size_list<item: float>[4]"
    assert types["landmarks"] == "fixed_size_list<item: float>[10]"
    assert types["crop"] == "binary"
    assert "half_float" in types["spectrum"] or "halffloat" in types["spectrum"]
    assert "int8" in types["residual"] and "[3,128,128]" in types["residual"]


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


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("maps", ("wavelet",), "expected maps among .* but got .'wavelet'"),
        ("residual", "laplace", r"expected a residual among \['detail', 'median', 'npr', 'srm'\]"),
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


def test_settings_of_faces_and_of_sound_differ_in_that():
    faces, sound = CacheSettings().to_dict(), SoundSettings().to_dict()
    assert settings_difference(faces, sound) == ["rows: faces, not sound"]
    assert settings_difference(sound, sound) == []
