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


@pytest.fixture
def faces(tmp_path, astronaut) -> CacheReader:
    """A face at the left of a picture and its mirror image, cropped."""
    (tmp_path / "pictures").mkdir()
    for name, pixels in (("a", astronaut), ("b", astronaut[:, ::-1])):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{name}.png")
    arguments = [str(tmp_path / "pictures"), "--out", str(tmp_path / "cache"), "--workers", "0"]
    assert crop.main(arguments) == 0
    reader = CacheReader(tmp_path / "cache")
    assert len(reader.metadata) == 2
    return reader


def snippet(first: str) -> str:
    """The one of the page that begins so."""
    (found,) = re.findall(rf"```python\n({first}.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    return found


def test_a_data_set_of_hugging_face(tmp_path, faces, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="Hugging Face's data sets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "made"))
    names = {"faces": faces}
    exec(snippet("from datasets"), names)
    assert len(names["made"]) == 2
    for number, row in enumerate(names["made"]):
        np.testing.assert_array_equal(np.asarray(row["image"]), faces.crop(number))
        assert row["path"] == faces.metadata.path[number]
        np.testing.assert_allclose(row["box"], faces.metadata.box[number])


def test_pictures_in_fiftyone(tmp_path, faces):
    pytest.importorskip("fiftyone", reason="FiftyOne")
    names, pictures = {"faces": faces}, str(tmp_path / "pictures")
    *lines, last = snippet("import fiftyone").replace("examples/portraits", pictures).splitlines()
    assert last.startswith("fo.Dataset")  # which needs a database
    exec("\n".join(lines), names)
    samples = names["samples"]
    assert [Path(sample.filepath).name for sample in samples] == ["a.png", "b.png"]
    for sample, box in zip(samples, faces.metadata.box, strict=True):
        (found,) = sample.faces.detections
        left, top, width, height = found.bounding_box
        picture = np.array(Image.open(sample.filepath).size * 2)
        corners = np.array([left, top, left + width, top + height]) * picture
        np.testing.assert_allclose(corners, box, atol=1e-3)
        assert found.label == "unknown" and found.confidence > 0.9
