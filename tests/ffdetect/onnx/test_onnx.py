"""What ONNX Runtime makes of exported networks, beside PyTorch, and without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime", reason="needs the [onnx] extra")
pytest.importorskip("onnxscript", reason="needs the [onnx] extra")

from ffdetect import Detector, NoFaceError, OnnxDetector
from ffdetect.onnx import export
from ffdetect.onnx.settings import SETTINGS
from preprocess.faces.mtcnn_networks import Networks
from preprocess.faces.mtcnn_onnx import OnnxNetworks


@pytest.fixture(scope="module")
def fast() -> Detector:
    return Detector.load("fast", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "fast"
    assert export.main(["fast", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def exported(folder: Path) -> OnnxDetector:
    return OnnxDetector.load(folder, threads=1)


@pytest.fixture(scope="module")
def pictures(astronaut: np.ndarray) -> list[np.ndarray]:
    """The face in several sizes, and two of them in one picture."""
    image = Image.fromarray(astronaut)
    sizes = [image.resize((side, side), Image.Resampling.LANCZOS) for side in (200, 333, 700)]
    two = np.concatenate([astronaut, np.roll(astronaut[:, ::-1], 40, 0)], 1)
    return [*map(np.asarray, sizes), two]


def test_faces_are_the_same_within_a_pixel(exported, fast, pictures):
    for picture in pictures:
        found, wanted = (d.face_detector.detect(picture) for d in (exported, fast))
        assert len(found) == len(wanted) > 0
        for one, other in zip(found, wanted, strict=True):
            assert np.abs(one.box - other.box).max() < 1
            assert np.abs(one.landmarks - other.landmarks).max() < 1
            assert one.probability == pytest.approx(other.probability, abs=1e-3)
    near = fast.face_detector.detect(pictures[2])
    assert len(exported.face_detector.detect(pictures[2], near)) == len(near)
    assert exported.face_detector.detect(np.zeros((90, 120, 3), np.uint8)) == []


def test_proposals_of_a_level_of_several_strips_are_the_same(folder, astronaut):
    level = astronaut.astype(np.float32)
    places, scores, shifts = OnnxNetworks(folder, 1).propose(level)
    wanted, wanted_scores, wanted_shifts = Networks("cpu").propose(level)
    assert len(places) and places[:, 1].max() > 100  # rows past the first strip
    np.testing.assert_array_equal(places, wanted)
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-4)
    np.testing.assert_allclose(shifts, wanted_shifts, atol=1e-4)


def test_scores_of_any_number_of_crops_are_the_same(exported, fast):
    crops = np.random.default_rng(0).integers(0, 256, (3, 320, 320, 3), np.uint8)
    for tta in ("none", "flip"):
        scores = exported.score_crops(crops, batch_size=2, tta=tta)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, fast.score_crops(crops, tta=tta), atol=1e-3)
    assert exported.score_crops(crops[:0]).shape == (0,)


def test_pictures_are_scored_and_analysed_as_by_the_detector(exported, fast, pictures, noise):
    scores = exported.score_batch([*pictures, noise])
    np.testing.assert_allclose(scores, fast.score_batch([*pictures, noise]), atol=1e-3)
    assert np.isnan(scores[-1])
    assert exported.thresholds == fast.thresholds
    assert exported.score(noise, no_face="whole") == pytest.approx(
        fast.score(noise, no_face="whole"), abs=1e-3
    )
    seen, wanted = exported.analyze(pictures[-1]), fast.analyze(pictures[-1])
    for one, other in zip(seen.faces, wanted.faces, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-3) and one.verdict
        assert one.quality.side == pytest.approx(other.quality.side, abs=1)


def test_nothing_of_it_imports_torch(folder, tmp_path, astronaut):
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    code = f"""
import sys
from ffdetect import OnnxDetector
found = OnnxDetector.load({str(folder)!r}, threads=1).analyze({str(tmp_path / "a.png")!r})
assert len(found.faces) == 1 and found.provenance is not None
for name in ("torch", "torchvision", "timm", "facenet_pytorch", "pandas"):
    assert name not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_what_cannot_be_done_is_said(exported, folder, noise, tmp_path):
    with pytest.raises(NoFaceError, match="expected a face but found none"):
        exported.score(noise)
    with pytest.raises(ValueError, match=r"crops of 320 px only, but got 'flip\+crops'"):
        exported.score(noise, tta="flip+crops")
    with pytest.raises(ValueError, match="expected uint8 crops of 320 x 320 px but got"):
        exported.score_crops(np.zeros((1, 64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="expected a folder written by ffdetect export"):
        OnnxDetector.load(tmp_path)
    settings = json.loads((folder / SETTINGS).read_text())
    (tmp_path / SETTINGS).write_text(json.dumps({**settings, "version": 99}))
    with pytest.raises(ValueError, match="expected ffdetect-onnx 1 but got ffdetect-onnx 99"):
        OnnxDetector.load(tmp_path)
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    (tmp_path / "network.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"network\.onnx: expected an exported network but got"):
        OnnxDetector.load(tmp_path)


def test_wrong_arguments_of_the_command(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        export.main([str(tmp_path / "nothing.safetensors"), "--out", str(tmp_path / "out")])
    assert exit.value.code == 2 and "nothing.safetensors" in capsys.readouterr().err
