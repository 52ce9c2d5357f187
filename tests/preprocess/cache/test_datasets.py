"""What others make of a cache, by the snippet of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocess import crop
from preprocess.cache import CacheReader

DOCS = Path(__file__).resolve().parents[3] / "docs" / "cache.md"


def test_a_data_set_of_hugging_face(tmp_path, astronaut, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="Hugging Face's data sets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "made"))
    for name, pixels in (("a", astronaut), ("b", astronaut[:, ::-1])):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{name}.png")
    arguments = [str(tmp_path / "pictures"), "--out", str(tmp_path / "cache"), "--workers", "0"]
    assert crop.main(arguments) == 0
    names = {"faces": CacheReader(tmp_path / "cache")}
    (snippet,) = re.findall(
        r"```python\n(from datasets .*?)```", DOCS.read_text("utf-8"), re.DOTALL
    )
    exec(snippet, names)
    made, faces = names["made"], names["faces"]
    assert len(made) == len(faces.metadata) == 2
    for number, row in enumerate(made):
        np.testing.assert_array_equal(np.asarray(row["image"]), faces.crop(number))
        assert row["path"] == faces.metadata.path[number]
        np.testing.assert_allclose(row["box"], faces.metadata.box[number])
