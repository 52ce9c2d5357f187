"""What readers read of crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ffdetect.models.frozen.pooling import face_ellipse, region_moments
from ffdetect.models.frozen.readers import READERS
from ffdetect.models.frozen.trunks import load_trunk
from preprocess.faces.maps import residual


@pytest.fixture(scope="module")
def lite():
    return load_trunk("efficientnet_lite0")


@pytest.fixture(scope="module")
def crops(astronaut) -> torch.Tensor:
    """uint8 2 x 3 x 320 x 320: a face and its mirror image."""
    crop = torch.from_numpy(astronaut[:320, 80:400].copy()).permute(2, 0, 1)[None]
    return torch.cat([crop, crop.flip(-1)])


def moments(stages: list[torch.Tensor]) -> np.ndarray:
    parts = [x.flatten(2).double().numpy() for x in stages]
    return np.concatenate([f for x in parts for f in (x.mean(2), x.std(2, ddof=1))], 1)


@torch.inference_mode()
def test_lite_reads_the_middle_and_its_residual(lite, crops):
    middle = crops[..., 32:288, 32:288]
    seen = {
        "lite_rgb": (middle.float() - 127) / 128,
        "lite_residual": (residual(middle, "detail").float() * 6 / 128).clamp(-4, 4),
    }
    for name, x in seen.items():
        reader = READERS[name].create(lite)
        got = reader(crops)
        assert got.shape == (2, reader.features) and got.dtype == torch.float32
        np.testing.assert_allclose(got, moments(lite(x)), rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def test_regions_are_of_the_whole_crop_and_of_its_residual(lite, crops):
    reader = READERS["lite_regions"].create(lite)
    got = reader(crops)
    assert got.shape == (2, reader.features) and got.dtype == torch.float32
    stages = lite((crops.float() - 127) / 128)[:5]
    stages += lite((residual(crops, "detail").float() * 6 / 128).clamp(-4, 4))[:3]
    expected = torch.cat([region_moments(stage) for stage in stages], 1)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    altered = crops.clone()
    altered[..., 150:200, 120:200] = altered[..., 150:200, 120:200].flip(-1) // 2
    assert not torch.allclose(reader(altered), got, atol=0.05)


@torch.inference_mode()
def test_small_crops_are_read_whole(lite, crops):
    reader = READERS["lite_rgb"].create(lite)
    small = crops[..., :128, :128]
    np.testing.assert_allclose(
        reader(small), moments(lite((small.float() - 127) / 128)), rtol=1e-3, atol=1e-3
    )


class FirstTokens(torch.nn.Module):
    """A trunk that gives back what it was given: patches' mean colours as tokens."""

    side, width = 224, 3
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)

    def forward(self, pixels, taps, watched=None):
        self.seen = pixels
        patches = torch.nn.functional.avg_pool2d(pixels, 16).flatten(2).transpose(1, 2)
        tokens = torch.cat([patches.mean(1, keepdim=True), patches], 1)
        return [tokens * tap for tap in taps]


@pytest.mark.parametrize(
    ("name", "axes"), [("clip_resized", (0.30, 0.38)), ("clip_native", (0.42, 0.50))]
)
def test_clip_reads_the_whole_crop_or_its_middle(name, axes, crops):
    trunk = FirstTokens()
    reader = READERS[name].create(trunk)
    got = reader(crops).view(2, 4, 7, 3)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (trunk.mean, trunk.std))
    pixels = (trunk.seen * std + mean) * 255
    if name == "clip_native":
        torch.testing.assert_close(pixels, crops[..., 48:272, 48:272].float(), rtol=0, atol=1e-2)
    else:
        assert abs(float(pixels.mean() - crops.float().mean())) < 0.5
    tokens = trunk(trunk.seen, (1,))[0][:, 1:]
    inside = face_ellipse(14, *axes, torch.device("cpu"))
    for number, tap in enumerate((5, 6, 7, 8)):  # the trunk's tokens grow with the tap
        torch.testing.assert_close(got[:, number, 1], tap * tokens.mean(1))
        torch.testing.assert_close(got[:, number, 3], tap * tokens[:, inside].mean(1))
        torch.testing.assert_close(got[:, number, 6], tap * tokens[:, ~inside].std(1))


def test_every_reader_names_its_trunk():
    assert {entry.trunk for entry in READERS.values()} == {"clip_vit_b16", "efficientnet_lite0"}
