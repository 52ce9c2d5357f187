"""What decides the pixels of a crop."""

from __future__ import annotations

import pytest

from preprocess.faces.face import CropSettings


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("size", 127, "expected a crop size of 128 to 2048 px but got 127"),
        ("size", 2049, "but got 2049"),
        ("margin", -0.1, "expected a margin of 0 to 2 but got -0.1"),
        ("margin", 2.5, "but got 2.5"),
        ("margin", float("nan"), "but got nan"),
        ("align", "eyes", "expected align to be one of .* but got 'eyes'"),
        ("native", 0.9, "expected native to be a factor of 1 to 2 but got 0.9"),
        ("native", 2.1, "but got 2.1"),
        ("detail", 63, "expected detail of 0 or 64 px to the crop's 256 but got 63"),
        ("detail", 257, "but got 257"),
        ("detail", 100.0, "but got 100.0"),
        ("min_face", 11, "expected min_face of at least 12 px but got 11"),
        ("min_probability", 1.1, "expected min_probability in 0..1 but got 1.1"),
    ],
)
def test_settings_are_checked(setting, value, message):
    with pytest.raises(ValueError, match=message):
        CropSettings(**{setting: value})


def test_settings_survive_a_dictionary():
    settings = CropSettings(size=224, margin=0.3, align="similarity", native=1.1)
    assert CropSettings(**settings.to_dict()) == settings
