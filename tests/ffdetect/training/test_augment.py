"""Augmentation: the same for both of a pair, exact where it says so, repeatable."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode

from ffdetect.training import augment
from ffdetect.training.augment import (
    MIXES,
    POLICIES,
    Noise,
    Policy,
    RandomWindow,
    Recode,
    mix_faces,
    recode,
    training_transform,
)
from tests.ffdetect.helpers import encode, random_crops


def twice(size: int = 160, seed: int = 0) -> torch.Tensor:
    """A stack of one picture, two times over."""
    return random_crops(1, size, seed).expand(2, -1, -1, -1).contiguous()


@pytest.mark.parametrize("seed", range(25))
def test_both_of_a_pair_are_treated_alike(seed, monkeypatch):
    # Noise is meant to differ, so here it is the same for both.
    monkeypatch.setattr(augment.torch, "randn", lambda shape: torch.full(shape, 0.7))
    pair = twice(seed=seed)
    torch.manual_seed(seed)
    first, second = training_transform(128)(pair)
    assert torch.equal(first, second)


def test_noise_differs_between_the_pictures_but_not_in_strength():
    torch.manual_seed(0)
    grey = torch.full((2, 3, 200, 200), 128, dtype=torch.uint8)
    strengths = []
    for _ in range(5):
        noisy = Noise(1, 8)(grey)
        assert noisy.dtype == torch.uint8
        assert not torch.equal(noisy[0], noisy[1])
        first, second = (float(picture.float().std()) for picture in noisy)
        assert first == pytest.approx(second, rel=0.05)
        assert 0.9 < first < 8.2
        strengths.append(first)
    assert max(strengths) - min(strengths) > 1


def test_noise_clips_instead_of_wrapping_round():
    black = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    assert Noise(8, 8)(black).max() < 60
    assert Noise(8, 8)(black + 255).min() > 195


@pytest.mark.parametrize("window", [128, 144, 160])
def test_windows_have_the_size_asked_for(window):
    transform = training_transform(window)
    for seed in range(20):
        torch.manual_seed(seed)
        result = transform(random_crops(2, 160, seed))
        assert result.shape == (2, 3, window, window) and result.dtype == torch.uint8


def test_the_torch_seed_decides_everything():
    transform, pair, results = training_transform(128), random_crops(2, 160), []
    for seed in (1, 1, 2, 3):
        torch.manual_seed(seed)
        results.append(torch.cat([transform(pair) for _ in range(4)]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2]) and not torch.equal(results[2], results[3])


def test_half_of_the_windows_are_plain_cuts():
    """Red counts columns and green rows, so a cut tells where it was made."""
    ramp = torch.arange(200, dtype=torch.uint8)
    picture = torch.stack(
        [
            ramp.expand(200, 200),
            ramp[:, None].expand(200, 200),
            torch.randint(256, (200, 200), dtype=torch.uint8),
        ]
    )[None]
    torch.manual_seed(0)
    transform, plain, places = RandomWindow(128), 0, set()
    for _ in range(200):
        cut = transform(picture)
        left, top = int(cut[0, 0, 0, 0]), int(cut[0, 1, 0, 0])
        if torch.equal(cut, picture[..., top : top + 128, left : left + 128]):
            plain += 1
            places.add((left, top))
    assert 75 < plain < 135
    assert len(places) > 60


def test_windows_are_enlarged_and_shrunk_within_the_scale():
    """The slope of the ramp in a window tells its scale."""
    ramp = torch.arange(250, dtype=torch.uint8).expand(1, 3, 250, 250).contiguous()
    torch.manual_seed(0)
    transform = RandomWindow(128, (0.625, 1.6))
    scales = []
    for _ in range(200):
        row = transform(ramp)[0, 0, 64].float()
        scales.append(80 / float(row[104] - row[24]))
    assert 0.6 < min(scales) < 0.75 and 1.4 < max(scales) < 1.68
    assert np.mean(np.abs(np.array(scales) - 1) < 0.01) == pytest.approx(0.5, abs=0.12)


def test_half_of_the_pairs_are_mirrored():
    ramp = torch.linspace(60, 190, 160).to(torch.uint8).expand(2, 3, 160, 160).contiguous()
    torch.manual_seed(0)
    transform = training_transform(128)
    mirrored = 0
    for _ in range(60):
        left, right = transform(ramp).float().split(64, dim=-1)
        mirrored += bool(left.mean() > right.mean())
    assert 15 < mirrored < 45


def test_a_picture_smaller_than_the_window_is_enlarged():
    torch.manual_seed(0)
    for _ in range(10):
        assert RandomWindow(200)(random_crops(2, 128)).shape == (2, 3, 200, 200)


@pytest.mark.parametrize(
    ("format", "options"), [("JPEG", {"quality": 61}), ("WEBP", {"quality": 50}), ("PNG", {})]
)
def test_recode_is_pillows_coding(format, options):
    crops = random_crops(2, 130)
    coded = recode(crops, format, **options)
    assert coded.dtype == torch.uint8 and coded.shape == crops.shape
    for before, after in zip(crops, coded, strict=True):
        data = encode(before.permute(1, 2, 0).numpy(), format, **options)
        expected = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(after.permute(1, 2, 0).numpy(), expected)
    assert torch.equal(coded, crops) == (format == "PNG")


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_a_stack_is_coded_at_one_random_quality(format):
    torch.manual_seed(0)
    pair, losses = twice(), set()
    for _ in range(6):
        first, second = Recode(format, 10, 95)(pair)
        assert torch.equal(first, second)
        losses.add(float((first.float() - pair[0].float()).abs().mean()))
    assert len(losses) > 3


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_does_to_each_picture_what_it_does_to_one_alone(name):
    alone, changed = POLICIES[name](interpolation=InterpolationMode.BILINEAR), 0
    for seed in range(20):
        pair = random_crops(2, 96, seed)
        torch.manual_seed(seed)
        treated = Policy(name)(pair)
        assert type(treated) is torch.Tensor and treated.dtype == torch.uint8
        for before, after in zip(pair, treated, strict=True):
            torch.manual_seed(seed)
            assert torch.equal(after, alone(before))
        changed += not torch.equal(treated, pair)
    assert changed > 10


@pytest.mark.parametrize("name", POLICIES)
def test_both_of_a_pair_are_treated_alike_after_a_policy(name, monkeypatch):
    monkeypatch.setattr(augment.torch, "randn", lambda shape: torch.full(shape, 0.7))
    plain, changed = training_transform(128), 0
    for seed in range(12):
        pair = twice(seed=seed)
        torch.manual_seed(seed)
        first, second = training_transform(128, name)(pair)
        assert torch.equal(first, second) and first.shape == (3, 128, 128)
        torch.manual_seed(seed)
        changed += not torch.equal(first, plain(pair)[0])
    assert changed > 6


@pytest.mark.parametrize("kind", MIXES)
def test_a_mixed_face_is_as_fake_as_its_target_says(kind):
    """Reals are black, fakes grey 200, and the second view of each is 20 brighter."""
    target = torch.tensor([0, 1] * 4)
    faces = (200 * target).view(8, 1, 1, 1, 1).expand(8, 2, 3, 64, 64).to(torch.uint8).clone()
    faces[:, 1] += 20
    torch.manual_seed(0)
    shares, steps = [], []
    for _ in range(30):
        mixed, soft = mix_faces(faces, target, kind)
        assert mixed.shape == faces.shape and mixed.dtype == torch.uint8
        assert type(mixed) is torch.Tensor and soft.dtype == torch.float32
        assert torch.equal(mixed[:, 1], mixed[:, 0] + 20)
        share = mixed[:, 0].float().mean((1, 2, 3)) / 200
        torch.testing.assert_close(share, soft, rtol=0, atol=0.003)
        assert float(soft.sum()) == pytest.approx(4, abs=1e-4)  # of all 8 half are fake
        shares += soft.tolist()
        steps.append(len(mixed[:, 0].unique()))
    between = [share for share in shares if 0.01 < share < 0.99]
    assert len(between) > 20 and min(between) < 0.3 and max(between) > 0.7
    # Faces of one class are mixed too, so most batches still have pure ones beside mixed ones.
    assert max(steps) >= (2 if kind == "cutmix" else 3)
    assert sum(share in (0.0, 1.0) for share in shares) > 20
