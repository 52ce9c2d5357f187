"""Voices made for tests, and an encoder that has learnt nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from ffdetect.voice.network import LAYERS
from ffdetect.voice.whisper import WhisperEncoder
from preprocess.sound import main as cache_sound
from tests.preprocess.sounds import buzz, write_sound


def write_encoder(file: Path) -> Path:
    """A small encoder of random tensors, in Whisper's names."""
    torch.manual_seed(0)
    save_file(WhisperEncoder(LAYERS, 64, 200).state_dict(), file)
    return file


def crushed(sound: np.ndarray) -> np.ndarray:
    """What the fakes of these tests have in common."""
    return np.round(sound * 12) / 12


def write_sources(folder: Path, sources: int = 10, each: int = 2) -> tuple[Path, Path]:
    """A cache of sound and its manifest: sources with reals and crushed fakes."""
    manifest = write_voices(folder / "data", sources, each)
    cache = folder / "cache"
    arguments = [str(folder / "data"), "--out", str(cache), "--workers", "0", "--quiet"]
    assert cache_sound(arguments) == 0
    return cache, manifest


def write_voices(folder: Path, sources: int = 10, each: int = 2) -> Path:
    """The files of `write_sources`; their manifest."""
    lines = ["path,target,generator,split,source,group,speaker"]
    for source in range(sources):
        for number in range(each):
            sound = buzz(0.6, seed=source * each + number)
            for target, samples in enumerate((sound, crushed(sound))):
                name = f"{('real', 'fake')[target]}/{source}_{number}_{target}.wav"
                write_sound(folder / name, samples)
                lines.append(f"{name},{target},crush,train,s{source},g{source}_{number},")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest
