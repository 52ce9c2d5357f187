"""What ONNX Runtime makes of exported networks, beside PyTorch, and without it."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("onnxscript", reason="needs the [onnx] extra")

from onnxruntime import InferenceSession

from ffdetect import Detector, NoFaceError, OnnxDetector
from ffdetect.models.frozen.pooling import area_resize
from ffdetect.models.frozen.readers import create_readers
from ffdetect.models.weights import write_calibration
from ffdetect.scoring.onnx import export
from ffdetect.scoring.onnx.settings import SETTINGS, WINDOWS
from preprocess.faces.mtcnn_networks import open_networks, write_onnx
from preprocess.faces.mtcnn_onnx import open_networks as open_onnx_networks
from preprocess.faces.onnx_session import open_session
from tests.ffdetect.helpers import CALIBRATION

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def weights(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network of any crop size, calibrated."""
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    write_calibration(tiny_weights, file, CALIBRATION)
    return file


@pytest.fixture(scope="module")
def tiny(weights: Path) -> Detector:
    return Detector.load(weights, "cpu")


@pytest.fixture(scope="module")
def folder(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "tiny"
    assert export.main([str(weights), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def exported(folder: Path) -> OnnxDetector:
    return Detector.load(folder, runtime="onnx")


@pytest.fixture(scope="module")
def pictures(astronaut: np.ndarray) -> list[np.ndarray]:
    """The face in several sizes, and two of them in one picture."""
    image = Image.fromarray(astronaut)
    sizes = [image.resize((side, side), Image.Resampling.LANCZOS) for side in (200, 333, 700)]
    two = np.concatenate([astronaut, np.roll(astronaut[:, ::-1], 40, 0)], 1)
    return [*map(np.asarray, sizes), two]


def test_faces_are_the_same_within_a_pixel(exported, tiny, pictures):
    for picture in pictures:
        found, wanted = (d.face_detector.detect(picture) for d in (exported, tiny))
        assert len(found) == len(wanted) > 0
        for one, other in zip(found, wanted, strict=True):
            assert np.abs(one.box - other.box).max() < 1
            assert np.abs(one.landmarks - other.landmarks).max() < 1
            assert one.probability == pytest.approx(other.probability, abs=1e-3)
    near = tiny.face_detector.detect(pictures[2])
    assert len(exported.face_detector.detect(pictures[2], near)) == len(near)
    assert exported.face_detector.detect(np.zeros((90, 120, 3), np.uint8)) == []


def test_proposals_of_a_level_of_several_strips_are_the_same(folder, astronaut):
    level = astronaut.astype(np.float32)
    places, scores, shifts = open_onnx_networks(1, folder).propose(level)
    wanted, wanted_scores, wanted_shifts = open_networks("cpu").propose(level)
    assert len(places) and places[:, 1].max() > 100  # rows past the first strip
    np.testing.assert_array_equal(places, wanted)
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-4)
    np.testing.assert_allclose(shifts, wanted_shifts, atol=1e-4)


def test_scores_of_any_number_of_crops_are_the_same(exported, tiny):
    crops = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), np.uint8)
    for tta in ("none", "flip", "flip+crops"):
        scores = exported.score_crops(crops, batch_size=2, tta=tta)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, tiny.score_crops(crops, tta=tta), atol=1e-3)
    assert exported.score_crops(crops[:0]).shape == (0,)


@pytest.mark.parametrize(("threads", "batch_size", "expected"), [(1, 32, 2), (2, 32, 4), (2, 1, 1)])
def test_two_crops_a_thread_are_computed_at_once(
    folder, monkeypatch, threads, batch_size, expected
):
    detector, sizes = Detector.load(folder, runtime="onnx", threads=threads), []
    run = InferenceSession.run

    def look(session, outputs, inputs, *others):
        sizes.append(len(inputs["crops"]))
        return run(session, outputs, inputs, *others)

    monkeypatch.setattr(InferenceSession, "run", look)
    detector.score_crops(np.zeros((5, 256, 256, 3), np.uint8), batch_size=batch_size)
    assert max(sizes) == expected and sum(sizes) == 5


def test_pictures_are_scored_and_analysed_as_by_the_detector(exported, tiny, pictures, noise):
    scores = exported.score_batch([*pictures, noise])
    np.testing.assert_allclose(scores, tiny.score_batch([*pictures, noise]), atol=1e-3)
    assert np.isnan(scores[-1])
    assert exported.thresholds == tiny.thresholds
    assert exported.score(noise, no_face="whole") == pytest.approx(
        tiny.score(noise, no_face="whole"), abs=1e-3
    )
    seen, wanted = exported.analyze(pictures[-1]), tiny.analyze(pictures[-1])
    for one, other in zip(seen.faces, wanted.faces, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-3)
        assert one.verdict == other.verdict
        assert one.quality.side == pytest.approx(other.quality.side, abs=1)


def test_nothing_of_it_imports_torch(folder, tmp_path, astronaut):
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    code = f"""
import sys
from ffdetect import Detector
found = Detector.load({str(folder)!r}, runtime="onnx").analyze({str(tmp_path / "a.png")!r})
assert len(found.faces) == 1 and found.provenance is not None
for name in ("torch", "torchvision", "timm", "facenet_pytorch", "pandas"):
    assert name not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_without_onnx_runtime_it_is_said_how_to_install_it(folder):
    code = f"""
import sys
sys.modules["onnxruntime"] = None
from ffdetect import Detector
Detector.load({str(folder)!r}, runtime="onnx")
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "ImportError: ONNX Runtime is not installed: pip install onnxruntime" in ran.stderr


class Shrunk(torch.nn.Module):
    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return area_resize(crops, 28)


def test_pixels_halfway_between_two_values_are_rounded_alike(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 40, 40), np.uint8)
    crops = torch.from_numpy(pixels)
    (tmp_path / "a.onnx").write_bytes(b"as it was")
    (tmp_path / "read meanwhile").hardlink_to(tmp_path / "a.onnx")
    write_onnx(tmp_path / "a.onnx", Shrunk(), crops[:2], "crops", {0: "n"}, ["shrunk"])
    assert (tmp_path / "read meanwhile").read_bytes() == b"as it was"
    (shrunk,) = open_session(tmp_path / "a.onnx", 1).run(None, {"crops": pixels})
    np.testing.assert_array_equal(shrunk, area_resize(crops, 28))


def test_what_onnx_runtime_runs_within_pytorch_is_exported_too(tmp_path, astronaut):
    (reader,) = create_readers(["lite_residual"]).values()
    crops = (
        torch.from_numpy(astronaut[60:156, 160:256].copy())
        .permute(2, 0, 1)[None]
        .repeat(2, 1, 1, 1)
    )
    write_onnx(tmp_path / "a.onnx", reader, crops, "crops", {0: "n"}, ["statistics"])
    (found,) = open_session(tmp_path / "a.onnx", 1).run(None, {"crops": crops[:1].numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(found, reader(crops[:1]).numpy(), rtol=1e-3, atol=1e-3)


def test_a_network_of_one_size_does_without_windows(folder, tmp_path, noise):
    one_size = tmp_path / "one size"
    shutil.copytree(folder, one_size, ignore=shutil.ignore_patterns(WINDOWS))
    settings = json.loads((folder / SETTINGS).read_text())
    (one_size / SETTINGS).write_text(json.dumps({**settings, "tta": "flip"}))
    loaded = Detector.load(one_size, runtime="onnx")
    assert 0 < loaded.score(noise, no_face="whole", tta="flip") < 1
    with pytest.raises(ValueError, match=r"crops of 256 px only, but got 'flip\+crops'"):
        loaded.score(noise, tta="flip+crops")


def test_what_cannot_be_done_is_said(exported, folder, noise, tmp_path):
    with pytest.raises(NoFaceError, match="expected a face but found none"):
        exported.score(noise)
    with pytest.raises(ValueError, match="expected uint8 crops of 256 x 256 px but got"):
        exported.score_crops(np.zeros((1, 64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a\.mp4: expected a picture, as clips need"):
        exported.score_video("a.mp4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "tensorrt"}, r"runtime in \['torch', 'onnx'\] but got 'tensorrt'"),
        ({"runtime": "onnx", "device": "cuda"}, "expected fp32 on cpu .* but got fp32 on cuda"),
        ({"runtime": "onnx", "precision": "bf16"}, "but got bf16 on auto"),
        ({"runtime": "onnx", "threads": 0}, "expected threads to be a whole number"),
    ],
)
def test_arguments_that_a_runtime_cannot_have_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        Detector.load(folder, **options)


def test_what_is_no_export_is_refused(folder, tmp_path):
    for weights in (None, "best", tmp_path):
        with pytest.raises(ValueError, match="expected a folder written by ffdetect export"):
            Detector.load(weights, runtime="onnx")
    settings = json.loads((folder / SETTINGS).read_text())
    (tmp_path / SETTINGS).write_text(json.dumps({**settings, "version": 99}))
    with pytest.raises(ValueError, match="expected ffdetect-onnx 2 but got ffdetect-onnx 99"):
        Detector.load(tmp_path, runtime="onnx")
    for damaged in ({"tta": "all"}, {"tta": []}, {"crop": 3}, {"about": 1}):
        (tmp_path / SETTINGS).write_text(json.dumps({**settings, **damaged}))
        with pytest.raises(ValueError, match=r"detector\.json: expected settings of an export"):
            Detector.load(tmp_path, runtime="onnx")
    (tmp_path / SETTINGS).write_text('{"format":' * 100_000)
    with pytest.raises(ValueError, match=r"detector\.json: expected settings of an export"):
        Detector.load(tmp_path, runtime="onnx")
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    (tmp_path / "network.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"network\.onnx: expected an exported network but got"):
        Detector.load(tmp_path, runtime="onnx")


def test_wrong_arguments_of_the_command(tmp_path, capsys):
    (tmp_path / "file").touch()
    for weights, out, named in (
        ("nothing.safetensors", "out", "nothing.safetensors"),
        ("best", "file/out", "file is no folder"),
    ):
        with pytest.raises(SystemExit) as exit:
            export.main([str(tmp_path / weights), "--out", str(tmp_path / out)])
        assert exit.value.code == 2 and named in capsys.readouterr().err


def test_a_detector_goes_to_other_processes_and_is_copied(exported, astronaut):
    expected = exported.score(astronaut)
    for made in (pickle.loads(pickle.dumps(exported)), copy.deepcopy(exported)):
        assert made.score(astronaut) == pytest.approx(expected, abs=1e-5)
