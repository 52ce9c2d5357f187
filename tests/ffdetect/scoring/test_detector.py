"""Detector: any form of a picture gives one score, and it is that of the cached crop."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from ffdetect import Detector, NoFaceError
from ffdetect.models.base import Scorer
from ffdetect.models.device import has_fast_bf16
from ffdetect.models.weights import WeightsError, save_checkpoint
from ffdetect.scoring.detector import SHIPPED
from preprocess import crop
from preprocess.cache.reader import CacheReader
from preprocess.faces.face import CropSettings
from preprocess.io.decode import decode_image
from preprocess.work.cores import cores
from tests.ffdetect.helpers import encode, portraits, random_crops, tiny_network
from tests.real import needs

PHASE1 = "challenge/multiFFDI/phase1"


@pytest.fixture(scope="module")
def crops():
    return random_crops(7, 256)


def test_every_form_of_a_picture_gives_the_same_score(tiny, astronaut, tmp_path):
    file = tmp_path / "face.png"
    data = encode(astronaut, "PNG", compress_level=1)
    file.write_bytes(data)
    expected = tiny.score(astronaut)
    assert type(expected) is float and 0 < expected < 1
    forms = [
        file,
        str(file),
        data,
        bytearray(data),
        Image.fromarray(astronaut),
        Image.open(file),
        torch.tensor(astronaut).permute(2, 0, 1),
    ]
    assert [tiny.score(form) for form in forms] == [expected] * len(forms)
    assert tiny.score(astronaut[:, ::-1]) != expected  # a view, and another picture


def test_a_jpeg_scores_as_its_decoded_pixels(tiny, astronaut):
    data = encode(astronaut, "JPEG", quality=80)
    pixels = np.array(Image.open(io.BytesIO(data)))
    assert tiny.score(data) == pytest.approx(tiny.score(pixels), abs=1e-4)
    assert abs(tiny.score(data) - tiny.score(astronaut)) > 1e-3


def test_an_upright_and_a_turned_picture_score_alike(tiny, astronaut):
    image = Image.fromarray(np.rot90(astronaut))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=exif)
    assert tiny.score(stream.getvalue()) == pytest.approx(tiny.score(astronaut), abs=1e-4)


def test_a_batch_keeps_its_order_and_may_be_lazy(tiny, astronaut, noise):
    pictures = list(portraits(astronaut, 3))
    alone = [tiny.score(picture) for picture in pictures]
    assert np.ptp(alone) > 1e-4
    pictures.insert(1, noise)
    alone.insert(1, np.nan)
    for batch_size in (1, 2, 32):
        taken = []
        lazy = (taken.append(i) or picture for i, picture in enumerate(pictures))
        scores = tiny.score_batch(lazy, batch_size=batch_size)
        assert scores.dtype == np.float32 and taken == [0, 1, 2, 3]
        np.testing.assert_allclose(scores, alone, atol=1e-4)


def test_a_batch_may_be_a_column_of_a_table(tiny, astronaut, tmp_path):
    for name in ("0.png", "1.png"):
        Image.fromarray(astronaut).save(tmp_path / name)
    table = pd.DataFrame({"path": [str(tmp_path / "0.png"), str(tmp_path / "1.png")]})
    wanted = tiny.score_batch(table["path"].tolist())
    for column in (table["path"], table["path"].to_numpy(), np.array(table["path"].tolist())):
        np.testing.assert_array_equal(tiny.score_batch(column), wanted)


def test_a_lazy_batch_is_not_read_ahead(tiny, noise, monkeypatch):
    events = []
    monkeypatch.setattr(
        tiny, "score_crops", lambda crops, **_: events.append("s") or np.zeros(len(crops))
    )
    pictures = (events.append("p") or noise for _ in range(4))
    tiny.score_batch(pictures, batch_size=2, no_face="whole")
    assert "".join(events) == "ppspps"


def test_an_empty_batch_gives_no_scores(tiny):
    scores = tiny.score_batch([])
    assert scores.shape == (0,) and scores.dtype == np.float32


def test_scores_hardly_depend_on_the_size_of_a_batch(tiny, crops):
    together = tiny.score_crops(crops)
    assert together.dtype == np.float32 and np.ptp(together) > 0.05
    for batch_size in (1, 3):
        split = tiny.score_crops(crops, batch_size=batch_size)
        np.testing.assert_allclose(split, together, atol=1e-4)


@pytest.mark.parametrize(("threads", "batch_size", "expected"), [(1, 32, 2), (2, 32, 4), (2, 1, 1)])
def test_a_cpu_computes_two_crops_a_thread_at_once(tiny_weights, threads, batch_size, expected):
    detector, sizes = Detector.load(tiny_weights, "cpu", threads=threads), []

    def look(module, args):
        if isinstance(module, Scorer):
            sizes.append(len(args[0]))

    hook = register_module_forward_pre_hook(look)
    size = detector.crop_settings.size
    try:
        detector.score_crops(np.zeros((5, size, size, 3), np.uint8), batch_size=batch_size)
    finally:
        hook.remove()
    assert max(sizes) == expected and sum(sizes) == 5


def test_scores_hardly_depend_on_the_number_of_threads(tiny, crops, monkeypatch):
    scores = []
    for threads in (1, 2):
        monkeypatch.setattr(tiny, "threads", threads)
        scores.append(tiny.score_crops(crops))
    np.testing.assert_allclose(*scores, atol=1e-4)


@pytest.mark.parametrize("weights", ["tiny", "fast"])
def test_a_detector_goes_to_other_processes_and_is_copied(tiny_weights, astronaut, weights):
    """As data loaders and pools hand it on."""
    detector = Detector.load(tiny_weights if weights == "tiny" else weights, "cpu")
    expected = detector.score(astronaut)
    for made in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        assert made.score(astronaut) == pytest.approx(expected, abs=1e-5)


def test_networks_compute_with_the_threads_that_were_asked_for(tiny_weights, astronaut):
    """And the process's own number is as before."""
    before, seen = torch.get_num_threads(), set()

    class Watched(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is torch.conv2d:
                seen.add(torch.get_num_threads())
            return function(*args, **(kwargs or {}))

    for threads, wanted in ((1, 1), (3, 3), (None, min(before, cores()))):
        detector = Detector.load(tiny_weights, "cpu", threads=threads)
        with Watched():
            detector.score(astronaut)
        assert seen == {wanted} and torch.get_num_threads() == before
        seen.clear()
    assert Detector.load(tiny_weights, "cpu").threads == 1
    with pytest.raises(ValueError, match="expected threads to be a whole number"):
        Detector.load(tiny_weights, "cpu", threads=0)


@pytest.mark.filterwarnings("error")
def test_crops_may_be_arrays_or_tensors(tiny, crops):
    array = crops.permute(0, 2, 3, 1).numpy()
    array.flags.writeable = False
    np.testing.assert_allclose(tiny.score_crops(array), tiny.score_crops(crops), atol=1e-4)
    assert tiny.score_crops(crops[:0]).shape == (0,)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 128, 128, 3), np.uint8),
        np.zeros((2, 256, 256, 3), np.float32),
        np.zeros((256, 256, 3), np.uint8),
        torch.zeros(2, 3, 256, 255, dtype=torch.uint8),
        torch.zeros(3, 256, 256, dtype=torch.uint8),
    ],
)
def test_other_crops_are_refused(tiny, wrong):
    with pytest.raises(ValueError, match=r"expected uint8 crops of 256 x 256 px but got"):
        tiny.score_crops(wrong)


def test_without_a_face_the_caller_decides(tiny, noise):
    with pytest.raises(NoFaceError, match=r"<array>: expected a face .* 200 x 160 px"):
        tiny.score(noise)
    assert np.isnan(tiny.score(noise, no_face="nan"))
    assert 0 < tiny.score(noise, no_face="whole") < 1
    assert np.isnan(tiny.score_batch([noise])).all()
    with pytest.raises(NoFaceError):
        tiny.score_batch([noise], no_face="raise")
    assert tiny.score_batch([noise], no_face="whole")[0] == tiny.score(noise, no_face="whole")


def test_a_picture_without_a_face_is_named(tiny, noise, tmp_path):
    file = tmp_path / "just noise.png"
    file.write_bytes(encode(noise, "PNG"))
    with pytest.raises(NoFaceError, match=r"just noise.png: expected a face but found none"):
        tiny.score(file)
    with pytest.raises(NoFaceError, match=r"^<\d+ bytes>: expected a face"):
        tiny.score(file.read_bytes())


@pytest.mark.parametrize("shape", [(1, 1, 3), (50, 20000, 3), (20000, 50, 3), (3, 3, 3)])
def test_a_picture_of_an_odd_size_is_just_one_without_a_face(tiny, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with pytest.raises(NoFaceError, match=f"{shape[1]} x {shape[0]} px"):
        tiny.score(pixels)
    with pytest.raises(NoFaceError, match=f"but got {shape[1]} x {shape[0]} px"):
        tiny.score(pixels, no_face="whole")  # nothing is left of it in a crop
    assert np.isnan(tiny.score(pixels, no_face="nan"))


def test_a_blank_picture_is_not_scored_whole(tiny, noise):
    blank = np.zeros((480, 640, 3), np.uint8)
    for pixels in (blank, blank + 255, encode(blank + 3, "JPEG")):
        with pytest.raises(NoFaceError, match="expected a picture to score but got a blank"):
            tiny.score(pixels, no_face="whole")
    scores = tiny.score_batch([noise, blank], no_face="whole", on_error="nan")
    assert np.isnan(scores).tolist() == [False, True] and set(scores.errors) == {1}


def test_the_default_dtype_changes_nothing(tiny_weights, astronaut):
    expected = Detector.load(tiny_weights, "cpu").score(astronaut)
    torch.set_default_dtype(torch.float64)
    try:
        detector = Detector.load(tiny_weights, "cpu")
        assert detector.score(astronaut) == pytest.approx(expected, abs=1e-4)
        assert Detector.load("fast", "cpu").analyze(astronaut).faces[0].score > 0
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_default_device_changes_nothing(tiny, tiny_weights, astronaut):
    expected = tiny.score(astronaut)
    torch.set_default_device("meta")  # which holds nothing: whatever went there is lost
    try:
        for detector in (tiny, Detector.load(tiny_weights, "cpu")):
            assert detector.score(astronaut) == pytest.approx(expected, abs=1e-4)
            assert detector.score_batch([astronaut])[0] == pytest.approx(expected, abs=1e-4)
            assert detector.analyze(astronaut).faces[0].score == pytest.approx(expected, abs=1e-4)
        assert 0 < Detector.load("fast", "cpu").score(astronaut) < 1
    finally:
        torch.set_default_device(None)


def test_analyze_tells_about_every_face(tiny, astronaut):
    small = np.array(Image.fromarray(astronaut).resize((384, 384)))
    two = np.zeros((512, 896, 3), np.uint8)
    two[:384, :384], two[:, 384:] = small, astronaut
    result = tiny.analyze(two)
    assert (result.name, result.width, result.height) == ("<array>", 896, 512)
    assert len(result.faces) == 2
    right, left = result.faces  # the larger first
    for face, (low, high) in ((right, (384, 896)), (left, (0, 384))):
        assert low < face.box[0] < face.box[2] < high and 0 < face.box[1] < face.box[3]
        assert face.landmarks.shape == (5, 2) and face.box.dtype == np.float32
        inside = (face.landmarks > face.box[:2]) & (face.landmarks < face.box[2:])
        assert inside.all()
        assert 0.9 <= face.probability <= 1
        assert face.crop.shape == (256, 256, 3) and face.crop.dtype == np.uint8
        assert type(face.score) is float
        assert face.score == pytest.approx(float(tiny.score_crops(face.crop[None])[0]), abs=1e-5)
    assert left.box[2] - left.box[0] < right.box[2] - right.box[0]
    assert tiny.score(two) == pytest.approx(right.score, abs=1e-5)


def test_analyze_of_a_picture_without_a_face_is_empty(tiny, noise):
    result = tiny.analyze(noise)
    assert result.faces == () and (result.width, result.height) == (200, 160)


@pytest.mark.parametrize(
    "settings",
    [
        CropSettings(),
        CropSettings(size=160, margin=0.3, align="similarity", native=1.0, min_face=40),
    ],
    ids=["default", "similarity"],
)
def test_the_cache_holds_the_very_crops_that_are_scored(astronaut, tmp_path, settings):
    weights = tmp_path / "w.safetensors"
    save_checkpoint(weights, tiny_network(size=settings.size), settings, {})
    detector = Detector.load(weights, "cpu")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, picture in enumerate(portraits(astronaut, 4)):
        format, options = (
            ("PNG", {"compress_level": 1}) if number % 2 else ("JPEG", {"quality": 70})
        )
        suffix = format.lower().replace("jpeg", "jpg")
        (folder / f"{number}.{suffix}").write_bytes(encode(picture, format, **options))
    out = tmp_path / "cache"
    options = {
        "size": settings.size,
        "margin": settings.margin,
        "align": settings.align,
        "native": settings.native,
        "min-face": settings.min_face,
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    assert crop.main([str(folder), "--out", str(out), "--workers", "0", *flags]) == 0
    reader = CacheReader(out)
    detector.check_cache(reader)
    scores = detector.score_crops(reader.crops(range(len(reader))))
    assert len(reader) == 4
    for row, path in enumerate(reader.metadata["path"]):
        face = detector.analyze(folder / path).faces[0]
        assert np.array_equal(face.crop, reader.crop(row))
        np.testing.assert_allclose(face.box, reader.metadata["box"].iat[row], atol=1 / 8)
        assert face.score == pytest.approx(float(scores[row]), abs=1e-4)
        assert np.array_equal(detector.crop_largest(decode_image(folder / path)), reader.crop(row))


@pytest.mark.skipif(not has_fast_bf16(), reason="this CPU does not compute in bfloat16 itself")
def test_bf16_scores_stay_close(tiny, tiny_weights, crops):
    # A random network turns small differences into large ones more than a trained one does.
    scores = Detector.load(tiny_weights, "cpu", "bf16").score_crops(crops)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, tiny.score_crops(crops), atol=0.02)


def test_a_detector_tells_what_it_was_trained_on(tiny):
    assert tiny.about == {"data": "none", "seed": 0}
    assert tiny.crop_settings == CropSettings()
    assert tiny.device == torch.device("cpu") and tiny.precision == "fp32"


def test_the_packages_weights_have_names(tiny_weights, tmp_path, monkeypatch):
    """A path that only looks like a name is a path."""
    for name, file in SHIPPED.items():
        shutil.copy(tiny_weights, tmp_path / file)
        monkeypatch.setitem(SHIPPED, name, str(tmp_path / file))
    names = {None: "best", "best": "best", "fast": "fast", Path("fast"): "fast"}
    for weights, name in names.items():
        assert Detector.load(weights, "cpu").shipped == name
    shutil.copy(tiny_weights, tmp_path / "fast")
    assert Detector.load(tmp_path / "fast", "cpu").shipped == ""
    with pytest.raises(WeightsError, match="good: expected a weights file"):
        Detector.load("good", "cpu")


def test_shipped_weights_score_a_face(shipped, astronaut):
    score = shipped.score(astronaut)
    assert type(score) is float and 0 <= score <= 1
    assert shipped.about["data"] and "recipe" in shipped.about


def test_shipped_scores_do_not_depend_on_the_batch(shipped, astronaut):
    pictures = list(portraits(astronaut, 2))
    together = shipped.score_batch(pictures)
    alone = [shipped.score(picture) for picture in pictures]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_shipped_weights_score_every_real_picture(shipped, shared):
    files = sorted(needs(shared / PHASE1).rglob("*.jpg"))[::3]
    scores = shipped.score_batch(files, no_face="whole")
    assert len(scores) == len(files) > 1 and ((scores >= 0) & (scores <= 1)).all()
    assert np.ptp(scores) > 0.01


@pytest.mark.skipif(not has_fast_bf16(), reason="this CPU does not compute in bfloat16 itself")
def test_shipped_bf16_scores_stay_close(shipped, astronaut):
    pictures = list(portraits(astronaut, 3))
    scores = Detector.load(device="cpu", precision="bf16").score_batch(pictures)
    np.testing.assert_allclose(scores, shipped.score_batch(pictures), atol=0.01)
