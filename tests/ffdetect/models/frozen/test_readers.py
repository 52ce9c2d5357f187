"""What readers read of crops."""

from __future__ import annotations

import cv2
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


@torch.inference_mode()
@pytest.mark.parametrize("side", [320, 128])
def test_lite_reads_regions_of_the_crop_and_of_its_residual(lite, crops, side):
    crops = crops[..., :side, :side]
    seen = {
        "lite_rgb": lite((crops.float() - 127) / 128)[:5],
        "lite_residual": lite((residual(crops, "detail").float() * 6 / 128).clamp(-4, 4))[:3],
    }
    for name, stages in seen.items():
        reader = READERS[name].create(lite)
        got = reader(crops)
        assert got.shape == (2, reader.features) and got.dtype == torch.float32
        expected = torch.cat([region_moments(stage) for stage in stages], 1)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        altered = crops.clone()
        altered[..., 50:100, 50:100] = altered[..., 50:100, 50:100].flip(-1) // 2
        assert not torch.allclose(reader(altered), got, atol=0.05)


class FirstTokens(torch.nn.Module):
    """A trunk that gives back what it was given: patches' mean colours as tokens."""

    side, width = 224, 3
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)

    def forward(self, pixels, taps):
        self.seen = pixels
        patches = torch.nn.functional.avg_pool2d(pixels, 16).flatten(2).transpose(1, 2)
        tokens = torch.cat([patches.mean(1, keepdim=True), patches], 1)
        return [tokens * tap for tap in taps]


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("clip_resized", (0.30, 0.38)),
        ("clip_native", (0.42, 0.50)),
        ("clip_inner", (0.42, 0.42)),
    ],
)
def test_clip_reads_the_whole_crop_its_middle_or_the_inner_face(name, axes, crops):
    trunk = FirstTokens()
    reader = READERS[name].create(trunk)
    got = reader(crops).view(2, 4, 7, 3)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (trunk.mean, trunk.std))
    pixels = (trunk.seen * std + mean) * 255
    if name == "clip_native":
        torch.testing.assert_close(pixels, crops[..., 48:272, 48:272].float(), rtol=0, atol=1e-2)
    elif name == "clip_inner":
        inner = crops[..., 80:240, 80:240].permute(0, 2, 3, 1).numpy().astype("float32")
        enlarged = torch.from_numpy(np.stack([cv2.resize(one, (224, 224)) for one in inner]))
        torch.testing.assert_close(pixels, enlarged.permute(0, 3, 1, 2), rtol=0, atol=1e-2)
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


@pytest.mark.parametrize(
    ("name", "places"), [("clip_resized", 14), ("clip_native", 20), ("clip_inner", 28)]
)
def test_a_line_on_tokens_divides_among_places_of_the_crop(name, places, crops):
    reader = READERS[name].create(FirstTokens())
    seen = reader(crops)
    slope, centre = torch.rand_like(seen), seen + torch.randn_like(seen)
    (shares,) = reader.shares(crops, slope, slope * centre)
    line = (slope * (seen - centre)).view(2, 4, 7, 3)[:, :, 1:]  # without the class token
    torch.testing.assert_close(shares.sum((1, 2, 3)), line.sum((1, 2, 3)), rtol=1e-4, atol=1e-4)
    assert shares.shape == (2, 1, places, places)
    seen = slice(round(places / 2) - 7, round(places / 2) + 7)  # nothing of what lies around
    assert shares[..., seen, seen].abs().min() > 0
    torch.testing.assert_close(shares[..., seen, seen].sum(), shares.sum())
