from __future__ import annotations

import pytest
import torch

from ffdetect.voice.whisper import WhisperEncoder, log_mel
from tests.preprocess.sounds import buzz

LAYERS, WIDTH = 2, 128


def test_the_encoder_is_whispers() -> None:
    whisper = pytest.importorskip("transformers.models.whisper.modeling_whisper")
    settings = whisper.WhisperConfig(
        d_model=WIDTH,
        encoder_layers=LAYERS,
        encoder_attention_heads=WIDTH // 64,
        encoder_ffn_dim=4 * WIDTH,
        max_source_positions=50,
    )
    torch.manual_seed(0)
    other = whisper.WhisperEncoder(settings).eval()
    encoder = WhisperEncoder.from_tensors(other.state_dict(), LAYERS)
    mel = torch.randn(2, 80, 100)
    with torch.inference_mode():
        expected = other(mel, output_hidden_states=True)
        states = encoder(mel)
        # The other's last state is behind its last norm.
        last = other.layer_norm(states[-1])
    assert len(states) == LAYERS + 1
    for mine, theirs in zip(states, expected.hidden_states[:LAYERS], strict=False):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(last, expected.last_hidden_state, atol=1e-5, rtol=1e-4)


def test_the_spectrogram_is_whispers() -> None:
    transformers = pytest.importorskip("transformers")
    sound = buzz(2.0)
    extractor = transformers.WhisperFeatureExtractor(chunk_length=2)
    expected = extractor(sound, sampling_rate=16_000)["input_features"][0]
    mel = log_mel(torch.from_numpy(sound)[None])[0]
    torch.testing.assert_close(mel, torch.from_numpy(expected), atol=1e-4, rtol=0)


def test_short_sounds_and_absent_tensors() -> None:
    encoder = WhisperEncoder(LAYERS, WIDTH, 50).eval()
    states = encoder(log_mel(torch.from_numpy(buzz(0.5))[None]))
    assert [state.shape for state in states] == [(1, 25, WIDTH)] * (LAYERS + 1)
    tensors = encoder.state_dict()
    del tensors["layers.1.fc2.bias"]
    WhisperEncoder.from_tensors(tensors, 1)
    with pytest.raises(RuntimeError, match="bias"):
        WhisperEncoder.from_tensors(tensors, 2)
