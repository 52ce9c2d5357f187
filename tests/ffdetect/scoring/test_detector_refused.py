"""What a detector refuses, and what it says of it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from ffdetect import Detector, NoFaceError
from ffdetect.models.device import pick_device
from ffdetect.models.tensor_file import read_tensors, write_tensors
from ffdetect.models.weights import WeightsError
from preprocess.cache.reader import CacheReader
from tests.ffdetect.helpers import encode


def test_errors_of_a_batch_are_given_by_index(tiny, astronaut, noise, tmp_path):
    bad = bad_pictures(tmp_path, astronaut)
    pictures = [bad["truncated file"], astronaut, bad["text file"], noise, bad["missing file"], 5]
    for batch_size in (1, 4, 32):
        scores = tiny.score_batch(iter(pictures), batch_size=batch_size, on_error="nan")
        assert scores.dtype == np.float32 and np.isfinite(scores).tolist() == [
            False,
            True,
            False,
            False,
            False,
            False,
        ]
        assert scores[1] == pytest.approx(tiny.score(astronaut), abs=1e-4)
        assert set(scores.errors) == {0, 2, 4, 5}  # noise has no face, which is no error
        for index, error in scores.errors.items():
            assert isinstance(error, ValueError)
            assert index == 5 or str(error).startswith(f"{pictures[index]}: expected")
    errors = tiny.score_batch(pictures, no_face="raise", on_error="nan").errors
    assert isinstance(errors[3], NoFaceError) and set(errors) == {0, 2, 3, 4, 5}
    assert tiny.score_batch([astronaut]).errors == {}
    assert (scores * 2).errors == scores[:1].errors == {}


def test_clips_and_urls_are_named_as_such(tiny, tmp_path):
    clip = tmp_path / "talk.mp4"
    clip.touch()
    for call in (lambda: tiny.score_batch([clip]), lambda: tiny.analyze(str(clip))):
        with pytest.raises(ValueError, match=r"talk.mp4: expected a picture but got a clip"):
            call()
    for url in ("https://example.org/a.jpg", "s3://bucket/a.png", "file:///a.jpg"):
        with pytest.raises(ValueError, match=f"^{url}: expected a path but got a URL"):
            tiny.score(url)
    for url in ("https://example.org/a.mp4", "s3://bucket/a.mkv"):
        for score in (tiny.score, tiny.score_video):
            with pytest.raises(ValueError, match=f"^{url}: expected a path but got a URL"):
                score(url)


@pytest.mark.parametrize("device", ["mps", "cuda:99", "meta", "gpu", 5, None])
def test_a_device_that_is_not_there_is_refused(tiny_weights, device):
    if torch.backends.mps.is_available() and device == "mps":
        pytest.skip("needs a machine without MPS")
    with pytest.raises(ValueError, match=r"expected a .*device .*but"):
        Detector.load(tiny_weights, device)


@pytest.mark.parametrize("weights", [5, b"w.safetensors", ["w.safetensors"], {}])
def test_weights_that_are_no_path_are_refused(weights):
    with pytest.raises(WeightsError, match="expected the path of a weights file but got"):
        Detector.load(weights)


def bad_pictures(folder, astronaut) -> dict[str, object]:
    jpeg = encode(astronaut, "JPEG")
    (folder / "text.jpg").write_text("no picture\n")
    (folder / "empty.png").touch()
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    return {
        "no bytes": b"",
        "text": b"this is no picture",
        "truncated": jpeg[: len(jpeg) // 2],
        "text file": folder / "text.jpg",
        "empty file": folder / "empty.png",
        "truncated file": folder / "cut.jpg",
        "missing file": folder / "missing.jpg",
        "folder": folder,
        "float array": astronaut.astype(np.float32),
        "int array": astronaut.astype(np.int64),
        "grey array": astronaut[..., 0],
        "rgba array": np.zeros((64, 64, 4), np.uint8),
        "empty array": np.zeros((0, 64, 3), np.uint8),
        "tensor of rows": torch.zeros(64, 64, 3, dtype=torch.uint8),
        "float tensor": torch.zeros(3, 64, 64),
        "batch": torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
        "none": None,
        "number": 3,
        "list": [[1, 2, 3]],
    }


BAD = (
    "no bytes",
    "text",
    "truncated",
    "text file",
    "empty file",
    "truncated file",
    "missing file",
    "folder",
    "float array",
    "int array",
    "grey array",
    "rgba array",
    "empty array",
    "tensor of rows",
    "float tensor",
    "batch",
    "none",
    "number",
    "list",
)


@pytest.mark.parametrize("method", ["score", "analyze"])
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_picture_is_refused(tiny, astronaut, tmp_path, kind, method):
    bad = bad_pictures(tmp_path, astronaut)[kind]
    with pytest.raises(ValueError, match=r"expected .* but") as caught:
        getattr(tiny, method)(bad)
    assert not isinstance(caught.value, NoFaceError)
    if "file" in kind:
        assert str(caught.value).startswith(str(bad))


def test_one_bad_picture_of_a_batch_is_named(tiny, astronaut, tmp_path):
    bad = bad_pictures(tmp_path, astronaut)["text file"]
    with pytest.raises(ValueError, match=r"text.jpg: expected"):
        tiny.score_batch([astronaut, bad])


def test_too_many_megapixels_are_refused_before_decoding(tiny_weights, astronaut):
    detector = Detector.load(tiny_weights, "cpu")
    detector.max_megapixels = 0.2
    for picture in (astronaut, encode(astronaut, "JPEG"), Image.fromarray(astronaut)):
        with pytest.raises(ValueError, match=r"expected at most 0.2 megapixels but got 512 x 512"):
            detector.score(picture)
    # A header alone that claims 40,000 x 40,000 pixels.
    data = bytearray(encode(np.zeros((8, 8, 3), np.uint8), "BMP"))
    data[18:26] = np.array([40000, 40000], "<i4").tobytes()
    with pytest.raises(ValueError, match=r"expected at most 100 megapixels but got 40000 x 40000"):
        Detector.load(tiny_weights, "cpu").score(bytes(data))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, a: d.score(a, no_face="maybe"), "expected no_face .* but got 'maybe'"),
        (lambda d, a: d.score_batch([a], on_error="ignore"), "expected on_error .* 'ignore'"),
        (lambda d, a: d.score_batch([a], batch_size=0), "batch_size .* at least 1 but got 0"),
        (lambda d, a: d.score_batch([a], batch_size=2.5), "a whole number .* but got 2.5"),
        (lambda d, a: d.score_batch([a], batch_size="8"), "a whole number .* but got '8'"),
        (lambda d, a: d.score_crops(a[None, :256, :256], batch_size=True), "but got True"),
        (lambda d, a: d.score_batch(a), "expected several pictures but got one ndarray"),
        (lambda d, a: d.score_batch(Image.fromarray(a)), "several pictures but got one Image"),
        (lambda d, a: d.score_batch(torch.from_numpy(a.copy())), "but got one Tensor"),
        (lambda d, a: d.score_batch(5), "expected several pictures but got int"),
        (lambda d, a: d.score_batch(None), "expected several pictures but got NoneType"),
        (lambda d, a: d.score_batch("face.jpg"), "expected several pictures but got one str"),
        (lambda d, a: d.score_batch(b"123"), "expected several pictures but got one bytes"),
        (lambda d, a: d.score_batch(io.BytesIO()), "expected several .* got one BytesIO"),
    ],
)
def test_wrong_arguments_are_refused(tiny, astronaut, call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny, astronaut)


def test_a_cache_cut_out_otherwise_is_refused_naming_both(tiny, faces_cache):
    with pytest.raises(WeightsError, match=r"size: 256, not 128") as caught:
        tiny.check_cache(CacheReader(faces_cache))
    assert str(faces_cache) in str(caught.value)


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [
        ("cpu", "fp16", "expected fp32 or bf16 on a CPU but got 'fp16'"),
        ("cpu", "fp8", "expected precision in .* but got 'fp8'"),
        ("cpu", ["fp32"], r"expected precision in .* but got \['fp32'\]"),
        ("quantum", "fp32", "expected a device like auto, cpu or cuda but got 'quantum'"),
    ],
)
def test_an_unknown_device_or_precision_is_refused(tiny_weights, device, precision, message):
    with pytest.raises(ValueError, match=message):
        Detector.load(tiny_weights, device, precision)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(tiny_weights):
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"expected a CUDA device for 'cuda'"):
        Detector.load(tiny_weights, "cuda")


def test_missing_weights_are_refused_by_name(tmp_path):
    with pytest.raises(WeightsError, match=r"nothing.safetensors: expected a weights file"):
        Detector.load(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("threads", [0, 1.5, True, 10**6])
def test_a_number_of_threads_that_no_machine_has_is_refused(tiny_weights, threads):
    with pytest.raises(ValueError, match="expected threads to be a whole number of 1 to 1024"):
        Detector.load(tiny_weights, "cpu", threads=threads)


@pytest.mark.parametrize(
    "crops", [[1, 2], None, np.zeros(3, np.uint8), np.array(["x"]), np.zeros((1, 256, 256, 3))]
)
def test_what_are_no_crops_is_refused(tiny, crops):
    with pytest.raises(ValueError, match=r"^expected (uint8 crops of 256 x 256 px|an array)"):
        tiny.score_crops(crops)


def test_weights_whose_scores_are_not_numbers_are_refused(tmp_path, tiny_weights, astronaut):
    """Finite themselves, but what they compute is not; nan would pass for "no face"."""
    tensors, metadata = read_tensors(tiny_weights)
    huge = {n: torch.full_like(t.float(), 3e38) if "gate" in n else t for n, t in tensors.items()}
    write_tensors(tmp_path / "w.safetensors", huge, metadata)
    detector = Detector.load(tmp_path / "w.safetensors", "cpu")
    with pytest.raises(ValueError, match="expected finite scores but these weights give nan"):
        detector.score(astronaut)
