"""benchmarks.limits: faces are damaged as it says, and the table is written."""

from __future__ import annotations

import json

import cv2
import numpy as np

from benchmarks.limits import choose, damages, main, shrink
from ffdetect.scoring.quality import block_effect, blur_effect
from preprocess.cache.reader import CacheReader
from preprocess.faces.crop import crop_face
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import CropSettings


def test_a_shrunk_face_is_the_one_the_face_path_finds(astronaut):
    settings = CropSettings(native=1.0)
    face = FaceDetector(settings).detect(astronaut)[0]
    side = max(face.box[2:] - face.box[:2])
    few = cv2.resize(astronaut, None, fx=64 / side, fy=64 / side, interpolation=cv2.INTER_AREA)
    expected = crop_face(few, FaceDetector(settings).detect(few)[0], settings)
    native = CropSettings()
    crop = crop_face(astronaut, face, native)
    found = shrink(crop, side, 64, native.margin)
    assert blur_effect(grey(found)) > blur_effect(grey(crop)) + 0.1
    assert abs(blur_effect(grey(found)) - blur_effect(grey(expected))) < 0.05
    size = round(side * 1.3)
    middle = (256 - size) // 2
    inner = cv2.resize(crop[middle:-middle, middle:-middle], (256, 256))
    assert np.abs(found.astype(float) - inner).mean() < 8  # the same framing


def grey(crop):
    return cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)


def test_damage_grows(astronaut):
    crop = np.ascontiguousarray(astronaut[0:256, 100:356])
    ways = damages(CropSettings())
    assert np.array_equal(ways["none"](crop, 160), crop)
    for kind, measure in (("face", blur_effect), ("blur", blur_effect), ("JPEG", block_effect)):
        values = [measure(grey(way(crop, 160))) for name, way in ways.items() if kind in name]
        assert len(values) == 5 and values == sorted(values)


def test_the_command_writes_one_row_a_damage(matched, tiny_weights, tmp_path, capsys):
    out = tmp_path / "limits.json"
    given = [str(matched), "--weights", str(tiny_weights), "--most", "2", "--out", str(out)]
    assert main([*given, "--leave-out", "dfdc", "dfdc_swap"]) == 0
    values = json.loads(out.read_text("utf-8"))
    assert values["faces"] == 4 and values["command"].startswith("python -m benchmarks.limits")
    assert [row["damage"] for row in values["results"]] == list(damages(CropSettings()))
    assert all(0 <= row["auc"] <= 1 and 0 <= row["flagged"] <= 1 for row in values["results"])
    assert values["results"][0]["flagged"] == 0  # two reals: none above both
    assert "| JPEG 10 |" in capsys.readouterr().out
    names = CacheReader(matched).metadata["generator"].to_numpy()
    rows = choose(CacheReader(matched), 2, ["dfdc", "dfdc_swap"])
    assert sorted(names[rows]) == ["ffhq", "ffhq", "gan", "gan"]
