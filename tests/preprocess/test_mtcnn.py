"""The cascade: facenet-pytorch's faces, whatever else is looked at with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from preprocess.decode import decode_image
from preprocess.faces import CropSettings, FaceDetector
from preprocess.mtcnn import Cascade, _averaged, _Proposals
from tests.preprocess.test_faces import overlap


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    return Cascade(32, torch.device("cpu"))


def test_finds_the_faces_that_facenet_finds(shared: Path, cascade):
    from facenet_pytorch import MTCNN

    peer = MTCNN(keep_all=True)
    files = sorted((shared / "faces").rglob("*.jpg"))
    files = [files[i] for i in np.linspace(0, len(files) - 1, 300).astype(int)]
    wanted, missed, missed_inside, new, errors = 0, 0, 0, 0, []
    for file in files:
        pixels = decode_image(file).pixels
        boxes, probabilities, landmarks = peer.detect(pixels, landmarks=True)
        boxes, landmarks = ([] if b is None else b.astype(float) for b in (boxes, landmarks))
        found = cascade.find([pixels])[0]
        for box, probability, points in zip(boxes, probabilities, landmarks, strict=False):
            if probability < 0.95 or (box[2:] - box[:2]).min() < 40:
                continue
            wanted += 1
            overlaps = [overlap(box, other) for other in found.boxes]
            if max(overlaps, default=0) < 0.7:
                missed += 1
                missed_inside += (box[:2] >= 0).all() and (box[2:] <= pixels.shape[1::-1]).all()
                continue
            distance = found.landmarks[int(np.argmax(overlaps))] - points
            errors.append(np.linalg.norm(distance, axis=1).mean() / (box[2] - box[0]))
        for box, probability in zip(found.boxes, found.probabilities, strict=True):
            new += probability >= 0.9 and all(overlap(box, other) < 0.5 for other in boxes)
    assert wanted >= 250
    # Of tight crops, which a face's box outgrows, many boxes are sure to the last bit, and which
    # of them is chosen hangs on roundings.
    assert missed <= 0.04 * wanted
    assert missed_inside <= 0.01 * wanted
    assert np.mean(errors) < 0.03
    assert new <= 0.01 * wanted


def test_a_picture_does_not_depend_on_the_others_in_its_batch(astronaut):
    detector = FaceDetector(CropSettings())
    pictures = [astronaut, astronaut[:300, :400], np.zeros((20, 20, 3), np.uint8),
                np.tile(astronaut, (2, 3, 1)), astronaut[200:]]  # fmt: skip
    for alone, together in zip(
        map(detector.detect, pictures), detector.detect_many(pictures), strict=True
    ):
        assert len(alone) == len(together)
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one.box, other.box)
            np.testing.assert_array_equal(one.landmarks, other.landmarks)


@pytest.mark.parametrize("shape", [(1, 1), (13, 13), (33, 32), (20, 10000), (64, 10000)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_pictures_of_any_shape_have_no_face(cascade, shape, value):
    (found,) = cascade.find([np.full((*shape, 3), value, np.uint8)])
    assert found.boxes.shape == (0, 4) and found.landmarks.shape == (0, 5, 2)


def test_grey_pictures_and_crowds(cascade, astronaut):
    grey = np.repeat(astronaut.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    assert (cascade.find([grey])[0].probabilities > 0.9).sum() == 1
    crowd = np.tile(astronaut, (4, 6, 1))
    found = cascade.find([crowd])[0]
    assert (found.probabilities > 0.95).sum() == 24


def test_no_pictures(cascade):
    assert FaceDetector().detect_many([]) == []


@pytest.mark.parametrize("size", [(84, 84), (61, 40), (101, 139), (1, 1), (150, 170)])
def test_levels_are_averaged_as_torch_does(size):
    pixels = np.random.default_rng(0).integers(0, 256, (101, 139, 3), np.uint8)
    expected = F.adaptive_avg_pool2d(torch.from_numpy(pixels).float().permute(2, 0, 1), size)
    difference = _averaged(pixels, size) - expected.permute(1, 2, 0).numpy()
    assert np.abs(difference).max() <= 1.01  # two roundings


@pytest.mark.parametrize("shape", [(12, 12), (84, 62), (700, 500)])
def test_proposals_are_those_of_the_network(shape):
    from facenet_pytorch.models.mtcnn import PNet

    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    pixels[: shape[0] // 2] //= 2
    level = torch.from_numpy(pixels).float().permute(2, 0, 1)[None]
    with torch.inference_mode():
        _, expected = PNet()((level - 127.5) / 128)
        _, logit = _Proposals(PNet())(level)
    torch.testing.assert_close(logit.sigmoid(), expected[0, 1], atol=1e-4, rtol=0)
