from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ffdetect.evaluation.thresholds import FPRS
from ffdetect.models.calibration import Calibration
from ffdetect.models.tensor_file import WeightsError, read_tensors, write_tensors
from ffdetect.voice.detector import WEIGHTS
from ffdetect.voice.network import FORMAT, LAYERS, VoiceNetwork, read_pretrained, voice_features
from ffdetect.voice.recipes import KernelRidge
from ffdetect.voice.statistics import STATISTICS
from ffdetect.voice.whisper import WhisperEncoder
from tests.preprocess.sounds import buzz

from .voices import write_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> WhisperEncoder:
    file = write_encoder(tmp_path_factory.mktemp("encoder") / "encoder.safetensors")
    return read_pretrained(file, LAYERS)


@pytest.fixture(scope="module")
def network(encoder: WhisperEncoder) -> VoiceNetwork:
    size = len(voice_features(encoder, torch.from_numpy(buzz(0.6))))
    x = np.random.default_rng(0).standard_normal((40, size)).astype(np.float32)
    head = KernelRidge().solve(x, np.arange(40) % 2, np.ones(40))
    lines = dict.fromkeys(FPRS, 0.9)
    return VoiceNetwork(
        encoder, head, Calibration(1.0, 0.0, lines, 1, 1, {}, "2026-01-01"), {"seed": 3}
    )


def test_a_network_survives_its_file(network: VoiceNetwork, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    network.save(file)
    again = VoiceNetwork.load(file)
    sound = torch.from_numpy(buzz(1.0))
    assert again(sound) == pytest.approx(network(sound), abs=1e-3)
    assert (again.about, again.calibration) == (network.about, network.calibration)
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == file.read_bytes()


def test_a_file_that_is_no_network_is_named(network: VoiceNetwork, tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    network.save(whole)
    (tmp_path / "text.safetensors").write_text("words")
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-100])
    write_encoder(tmp_path / "encoder.safetensors")
    for name in ("text", "none", "cut", "encoder"):
        with pytest.raises(WeightsError, match=name):
            VoiceNetwork.load(tmp_path / f"{name}.safetensors")


def test_weights_of_a_version_before_are_refused(network: VoiceNetwork, tmp_path: Path) -> None:
    file = tmp_path / "old.safetensors"
    network.save(file)
    tensors, metadata = read_tensors(file)
    older = {
        name: text.replace(f'"version": {FORMAT}', '"version": 2')
        for name, text in metadata.items()
    }
    write_tensors(file, tensors, older)
    with pytest.raises(WeightsError, match=r"old\.safetensors.* format 2 .*ffdetect\.voice\.train"):
        VoiceNetwork.load(file)


def test_features_ignore_level_and_say_when_sounds_differ(encoder: WhisperEncoder) -> None:
    sound = torch.from_numpy(buzz(1.0))
    values = voice_features(encoder, sound)
    assert values.shape == (15 * 64 + STATISTICS,) and values.isfinite().all()
    torch.testing.assert_close(values, voice_features(encoder, 0.01 * sound), atol=0.05, rtol=0.05)
    other = torch.from_numpy(buzz(1.0) * np.linspace(0, 1, 16_000, dtype=np.float32) ** 2)
    assert (values - voice_features(encoder, other))[:960].abs().max() > 1e-3
    states = encoder_states(encoder, sound)
    torch.testing.assert_close(values[:64], states.mean(0))
    torch.testing.assert_close(values[128:192], states.diff(dim=0).std(0))


def encoder_states(encoder: WhisperEncoder, sound: torch.Tensor) -> torch.Tensor:
    from ffdetect.voice.whisper import log_mel

    sound = sound - sound.mean()
    return encoder(log_mel(0.1 * (sound / sound.square().mean().sqrt())[None]))[0][0]


def test_eight_bits_an_entry_lose_little(encoder: WhisperEncoder, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    plain = load_file(write_encoder(tmp_path / "encoder.safetensors"))
    for name, tensor in encoder.state_dict().items():
        step = plain[name].abs().max() / 100
        torch.testing.assert_close(tensor, plain[name], atol=float(step), rtol=0)


def test_shipped_weights_are_small_and_ignore_threads() -> None:
    assert WEIGHTS.stat().st_size < 14_000_000
    network, sound = VoiceNetwork.load(WEIGHTS), torch.from_numpy(buzz(4.0))
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(network(sound))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == pytest.approx(found[1], abs=1e-3)
