"""Autoencoders that can be made, changed, saved and loaded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

from ffdetect.fakes.regenerators import (
    UPSAMPLERS,
    Autoencoder,
    AutoencoderSettings,
    create_regenerator,
    load_autoencoder,
    save_autoencoder,
    with_upsampler,
)
from tests.ffdetect.helpers import random_crops

SMALL = {"width": 16, "latent": 4, "blocks": 1}


def small(**settings) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(AutoencoderSettings(**{**SMALL, **settings})).eval()


@pytest.mark.parametrize("upsampler", ["shuffle", "transposed"])
def test_other_upsamplers_start_from_the_same_function(upsampler):
    network = small()
    changed = with_upsampler(network, upsampler).eval()
    picture = torch.rand(2, 3, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(changed(picture), network(picture), rtol=1e-4, atol=1e-5)
    assert changed.settings.upsampler == upsampler


def test_bilinear_upsampling_is_another_function_of_the_same_weights():
    network = small()
    changed = with_upsampler(network, "bilinear").eval()
    own = dict(changed.named_parameters())
    assert all(torch.equal(own[name], p) for name, p in network.named_parameters())
    picture = torch.rand(1, 3, 32, 32)
    assert not torch.allclose(changed(picture), network(picture), atol=1e-3)


def test_only_nearest_upsampling_can_be_changed():
    with pytest.raises(ValueError, match="expected a nearest upsampler to start from"):
        with_upsampler(small(upsampler="shuffle"), "nearest")
    with pytest.raises(ValueError, match="expected an upsampler among"):
        AutoencoderSettings(upsampler="cubic")


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
@pytest.mark.parametrize("halvings", [2, 3])
def test_sizes(upsampler, halvings):
    network = small(upsampler=upsampler, halvings=halvings)
    picture = torch.rand(1, 3, 32, 64)
    side = 2**halvings
    assert network.encoder(picture).shape == (1, 4, 32 // side, 64 // side)
    assert network(picture).shape == picture.shape


def test_noise_on_the_latent_changes_the_picture():
    torch.manual_seed(1)
    picture = torch.rand(1, 3, 32, 32)
    quiet, noisy = small(), with_upsampler(small(), "nearest", noise=0.3).eval()
    torch.testing.assert_close(quiet(picture), quiet(picture))
    assert not torch.allclose(noisy(picture), noisy(picture))


def test_random_gains_change_the_texture_and_keep_the_tones():
    torch.manual_seed(0)
    network = with_upsampler(small(), "shuffle", gain=0.3).eval()
    picture = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        first, second = network(picture).numpy(), network(picture).numpy()
    smooth = [gaussian_filter(p, (0, 0, 6, 6)) for p in (first, second, picture.numpy())]
    assert np.abs(first - second).max() > 1e-3
    for fake, tones in ((first, smooth[0]), (second, smooth[1])):
        assert np.abs(fake - picture.numpy()).std() > 0.1  # an untrained decoder draws nothing
        assert np.abs(tones - smooth[2]).max() < 0.03


def test_tones_are_taken_in_float32():
    """In bfloat16 and channels-last this blur takes minutes a picture."""
    torch.manual_seed(0)
    network = with_upsampler(small(), "nearest", gain=0.3).eval()
    picture = torch.rand(1, 3, 32, 32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        made = network(picture.to(memory_format=torch.channels_last))
    assert made.dtype == torch.float32
    blurred = [gaussian_filter(x[0, 0].numpy(), 3, truncate=3) for x in (made, picture)]
    inside = np.s_[10:-10, 10:-10]
    np.testing.assert_allclose(blurred[0][inside], blurred[1][inside], atol=0.1)


def test_a_saved_autoencoder_comes_back(tmp_path):
    network = small(upsampler="shuffle", halvings=2)
    save_autoencoder(network, tmp_path / "mine.safetensors", {"psnr": 30})
    again = load_autoencoder(tmp_path / "mine.safetensors").eval()
    assert again.settings == network.settings
    picture = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again(picture), network(picture), rtol=1e-2, atol=1e-3)


def test_it_makes_twins_by_the_name_of_its_file(tmp_path):
    save_autoencoder(with_upsampler(small(), "nearest", 0.5), tmp_path / "mine.safetensors", {})
    make = create_regenerator("mine", tmp_path)
    crop = random_crops(1)[0]
    with torch.inference_mode():
        twins = make(crop, np.random.default_rng(0))
        again = make(crop, np.random.default_rng(0))
    assert twins.fake.shape == twins.real.shape == crop.shape
    assert torch.equal(twins.fake, again.fake)
    assert not torch.equal(twins.fake, twins.real)


def test_what_cannot_be_used_is_named(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"other.safetensors: expected the tensors"):
        create_regenerator("other", tmp_path)
    with pytest.raises(ValueError, match=r"torn.safetensors: expected a weights file"):
        create_regenerator("torn", tmp_path)
    with pytest.raises(ValueError, match=r"expected none.safetensors .* \['other', 'torn'\]"):
        create_regenerator("none", tmp_path)


@pytest.mark.parametrize(
    "settings",
    [{name: 2**40} for name in ("width", "latent", "halvings", "blocks")]
    + [{"width": 1024, "blocks": 32}, {"width": -1}, {"width": 1.5}, {"noise": "much"}],
)
def test_hostile_settings_take_no_memory(tmp_path, settings):
    metadata = {"ffdetect-autoencoder": json.dumps({"settings": settings})}
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors", metadata)
    with pytest.raises(ValueError, match=r"other.safetensors: expected the tensors"):
        load_autoencoder(tmp_path / "other.safetensors")


def test_deeply_nested_metadata_is_refused(tmp_path):
    save_file(
        {"a": torch.zeros(2)}, tmp_path / "x.safetensors", {"ffdetect-autoencoder": "[" * 10**5}
    )
    with pytest.raises(ValueError, match=r"x.safetensors: expected the tensors"):
        load_autoencoder(tmp_path / "x.safetensors")
