"""Hostile weights files: a `WeightsError` that names them, little memory, nothing executed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ffdetect.fakes.regenerators import Autoencoder, AutoencoderSettings, load_autoencoder
from ffdetect.fakes.regenerators import save_autoencoder as save
from ffdetect.models.weights import WeightsError, load_checkpoint
from ffdetect.voice.head import VoiceHead
from tests.fuzz import changed, damage, fuzz, little_memory


@pytest.fixture(scope="module")
def files(tiny_weights, tmp_path_factory):
    """Kind -> (file, key of its metadata, what reads it, what that raises)."""
    small = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save(Autoencoder(AutoencoderSettings(width=8, latent=4, blocks=1)), small, {})
    return {
        "network": (tiny_weights, "ffdetect", load_checkpoint, WeightsError),
        "autoencoder": (small, "ffdetect-autoencoder", load_autoencoder, ValueError),
        "voice": (tiny_weights, "ffdetect-voice", VoiceHead.load, WeightsError),
    }


@pytest.mark.parametrize("kind", ["network", "autoencoder"])
@fuzz(25)
@given(data=st.data())
def test_metadata(files, tmp_path, kind, data):
    source, key, load, expected = files[kind]
    with safe_open(source, "pt") as opened:
        settings = json.loads(opened.metadata()[key])
    file = tmp_path / "w.safetensors"
    text = json.dumps(data.draw(changed(settings)))
    save_file(load_file(source), file, {key: text})
    with little_memory(300):
        try:
            load(file)
        except expected as error:
            assert str(file) in str(error)


@pytest.mark.parametrize("kind", ["network", "autoencoder", "voice"])
@fuzz(60)
@given(change=damage())
def test_bytes(files, tmp_path, kind, change):
    source, _, load, expected = files[kind]
    file = tmp_path / "w.safetensors"
    file.write_bytes(change(source.read_bytes()))
    with little_memory(300):
        try:
            load(file)
        except expected as error:
            assert str(file) in str(error)
