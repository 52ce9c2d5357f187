"""Test-time augmentation: which views there are, and that a score is the mean of their logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from ffdetect.models.weights import Checkpoint, load_checkpoint
from ffdetect.scoring.detector import Detector
from ffdetect.scoring.tta import SHIFT, TTA, views
from preprocess.faces.face import CropSettings
from tests.ffdetect.helpers import CALIBRATION, random_crops, tiny_network


@pytest.fixture(scope="module")
def crops():
    return random_crops(3, 256)


def test_views_show_the_same_pixels():
    crops = random_crops(2, 128)
    side = 128 - SHIFT
    seen = list(views(crops, "flip+crops"))
    assert [tuple(view.shape[2:]) for view in seen] == [(128, 128)] * 2 + [(side, side)] * 4
    assert torch.equal(seen[0], crops)
    assert torch.equal(seen[1], torch.from_numpy(crops.numpy()[..., ::-1].copy()))
    starts = [(0, 0), (0, SHIFT), (SHIFT, 0), (SHIFT, SHIFT)]
    for view, (top, left) in zip(seen[2:], starts, strict=True):
        assert torch.equal(view, crops[:, :, top : top + side, left : left + side])


def test_each_kind_begins_with_the_views_of_the_one_before():
    crops = random_crops(1, 128)
    every = list(views(crops, "flip+crops"))
    for tta, count in TTA.items():
        own = list(views(crops, tta))
        assert len(own) == count
        assert all(torch.equal(a, b) for a, b in zip(own, every, strict=False))


@torch.inference_mode()
@pytest.mark.parametrize("tta", TTA)
def test_a_score_is_that_of_the_mean_logit(tiny, tiny_weights, crops, tta):
    network = load_checkpoint(tiny_weights).network
    logits = torch.stack([network(view) for view in views(crops, tta)])
    found = tiny.score_crops(crops, tta=tta)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expit(logits.mean(0).numpy()), atol=1e-5)
    np.testing.assert_allclose(tiny.crop_logits(crops, tta=tta, batch_size=2), logits, atol=1e-3)


@torch.inference_mode()
def test_without_views_and_calibration_nothing_changes(tiny, tiny_weights, crops):
    network = load_checkpoint(tiny_weights).network
    for batch_size in (2, 32):
        expected = torch.cat([torch.sigmoid(network(b)) for b in crops.split(batch_size)]).numpy()
        for options in ({}, {"tta": "none"}):
            found = tiny.score_crops(crops, batch_size=batch_size, **options)
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("tta", TTA)
def test_every_method_looks_at_the_same_views(tiny, astronaut, tta):
    score = tiny.score(astronaut, tta=tta)
    face = tiny.analyze(astronaut, tta=tta).faces[0]
    assert tiny.score_batch([astronaut], tta=tta)[0] == pytest.approx(score, abs=1e-6)
    assert face.score == pytest.approx(score, abs=1e-5)
    assert tiny.score_crops(face.crop[None], tta=tta)[0] == pytest.approx(score, abs=1e-5)


def test_a_mirrored_crop_has_the_same_flip_score(tiny, crops):
    mirrored = crops.flip(-1)
    both = tiny.score_crops(crops, tta="flip"), tiny.score_crops(mirrored, tta="flip")
    np.testing.assert_allclose(*both, atol=1e-5)
    assert np.abs(tiny.score_crops(crops) - tiny.score_crops(mirrored)).max() > 1e-3


@pytest.mark.parametrize("tta", ["rotate", "", None, True, 2])
def test_other_kinds_are_refused(tiny, crops, noise, tta):
    for call in (
        lambda: tiny.score_crops(crops, tta=tta),
        lambda: tiny.analyze(noise, tta=tta),
        lambda: tiny.score_batch([], tta=tta),
    ):
        with pytest.raises(ValueError, match=r"expected tta to be one of \['none', 'flip', 'flip"):
            call()


@pytest.mark.parametrize(
    ("backbone", "size"), [("test_vit", 160), ("test_resnet", 128)], ids=["tokens", "spectrum"]
)
def test_networks_of_one_size_are_only_mirrored(astronaut, backbone, size):
    """A transformer lays out its tokens for one size; the spectrum wants 128 px."""
    network = tiny_network(backbone=backbone, size=size)
    checkpoint = Checkpoint(network, CropSettings(size=size), {}, CALIBRATION)
    detector = Detector(checkpoint, torch.device("cpu"))
    with pytest.raises(ValueError, match=f"'none' or 'flip' .* {size} px only"):
        detector.score(astronaut, tta="flip+crops")
    assert 0 < detector.score(astronaut, tta="flip") < 1
    assert detector.analyze(astronaut).faces[0].verdict in ("real", "fake", "uncertain")
