"""Training of autoencoders, on a few small crops."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from ffdetect.fakes import train_regenerator
from ffdetect.fakes.regenerators import (
    Autoencoder,
    AutoencoderSettings,
    load_autoencoder,
    save_autoencoder,
)
from ffdetect.fakes.train_regenerator import Perceptual, discriminator, psnr
from tests.ffdetect.helpers import random_crops, write_cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    crops = random_crops(32).permute(0, 2, 3, 1).numpy()
    rows = [{"crop": crop, "split": "train", "generator": "ffhq"} for crop in crops]
    rows += [{"target": 1, "split": "dev"}, {"split": "dev"}]
    return write_cache(tmp_path_factory.mktemp("cache") / "faces", rows)


def run(cache, out, *more: str) -> int:
    options = ["--width", "16", "--latent", "8", "--steps", "12", "--out", str(out), *more]
    return train_regenerator.main([str(cache.paths[0]), *options])


def test_training_makes_it_more_faithful(cache, tmp_path, capsys):
    assert run(cache, tmp_path / "short.safetensors", "--steps", "2") == 0
    assert run(cache, tmp_path / "long.safetensors", "--steps", "60", "--rate", "3e-3") == 0
    short, long = (json.loads(line)["psnr"] for line in capsys.readouterr().out.splitlines())
    assert long > short + 3
    network = load_autoencoder(tmp_path / "long.safetensors").eval()
    assert network.settings == AutoencoderSettings(
        width=16, latent=8, halvings=2, blocks=1, branches=False
    )


def test_fine_tuning_leaves_the_encoder(cache, tmp_path):
    torch.manual_seed(0)
    start = Autoencoder(AutoencoderSettings(width=16, latent=4, blocks=1))
    save_autoencoder(start, tmp_path / "start.safetensors", {})
    more = (
        "--start",
        str(tmp_path / "start.safetensors"),
        "--upsampler",
        "shuffle",
        "--losses",
        "l1,adversarial",
        "--noise",
        "0.1",
    )
    assert run(cache, tmp_path / "tuned.safetensors", *more) == 0
    before = load_autoencoder(tmp_path / "start.safetensors").encoder.state_dict()
    tuned = load_autoencoder(tmp_path / "tuned.safetensors")
    assert tuned.settings.upsampler == "shuffle" and tuned.settings.noise == 0.1
    assert all(torch.equal(t, before[name]) for name, t in tuned.encoder.state_dict().items())


def test_the_perceptual_loss_sees_structure(cache, tmp_path):
    torch.manual_seed(0)
    backbone = timm.create_model("mobilenetv2_100", num_classes=0).eval()
    backbone.mean, backbone.std = (0.5,) * 3, (0.5,) * 3
    loss = Perceptual(backbone)
    real = random_crops(2).float() / 255
    assert loss(real, real) == 0
    assert loss(real.flip(-1), real) > loss((real + 0.01).clamp(0, 1), real) > 0
    fake = real.clone().requires_grad_()
    loss(fake + 0.1, real).backward()
    assert fake.grad.abs().sum() > 0
    file = tmp_path / "backbone.safetensors"
    save_file(timm.create_model("mobilenetv2_100", num_classes=0).state_dict(), file)
    more = ("--losses", "l1,perceptual", "--backbone", str(file), "--steps", "2")
    assert run(cache, tmp_path / "p.safetensors", *more) == 0


def test_the_discriminator_judges_patches():
    critic = discriminator()
    picture = torch.zeros(1, 3, 96, 96, requires_grad=True)
    scores = critic(picture)
    assert scores.shape == (1, 1, 24, 24)
    scores[0, 0, 12, 12].backward()
    seen = picture.grad[0].abs().sum(0).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).max() <= 30


def test_psnr_agrees_with_numpy(cache):
    class Darker(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 0.9

    real = cache.crops([3]).double().numpy() / 255
    expected = -10 * np.log10(np.mean((0.1 * real) ** 2))
    assert psnr(Darker(), cache, [3]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--losses", "l1,l3"], "expected losses among"),
        (["--losses", "perceptual"], "expected --backbone"),
        (["--start", "nowhere.safetensors"], "nowhere.safetensors: expected a weights file"),
        (["--sources", "nobody"], "expected more than 24 real faces but got 0"),
    ],
)
def test_wrong_arguments_end_with_a_message(cache, tmp_path, capsys, more, message):
    with pytest.raises(SystemExit) as caught:
        run(cache, tmp_path / "x.safetensors", *more)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
