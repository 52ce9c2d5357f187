"""Regenerators by the names of their files; with real weights see `test_regenerate`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ffdetect.fakes.regenerators import Autoencoder, create_regenerator, load_autoencoder
from tests.ffdetect.helpers import random_crops


@pytest.fixture
def file(tmp_path):
    """Weights of an untrained autoencoder as float16, as its author publishes them."""
    torch.manual_seed(0)
    save_file(Autoencoder().half().state_dict(), tmp_path / "mine.fp16.safetensors")
    return tmp_path / "mine.fp16.safetensors"


def test_sizes_of_latent_and_picture(file):
    network, picture = load_autoencoder(file).eval(), torch.rand(1, 3, 32, 64)
    with torch.inference_mode():
        assert network.encoder(picture).shape == (1, 32, 4, 8)
        assert network(picture).shape == picture.shape


def test_it_makes_pairs_by_the_name_of_its_file(file):
    make, crop = create_regenerator("mine", file.parent), random_crops(1, 64)[0]
    with torch.inference_mode():
        made, again = (make(crop, np.random.default_rng(0)) for _ in range(2))
    assert made.fake.shape == made.real.shape == crop.shape
    assert torch.equal(made.fake, again.fake)
    assert not torch.equal(made.fake, made.real)


def test_what_cannot_be_used_is_named(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"other.safetensors: expected taef2 or a Real-ESRGAN"):
        create_regenerator("other", tmp_path)
    with pytest.raises(ValueError, match=r"torn.safetensors: expected a weights file"):
        create_regenerator("torn", tmp_path)
    with pytest.raises(ValueError, match=r"expected none.safetensors .* \['other', 'torn'\]"):
        create_regenerator("none", tmp_path)
