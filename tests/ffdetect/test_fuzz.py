"""Hostile weights files: a `WeightsError` that names them, little memory, nothing executed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from ffdetect.fakes.regenerators import Autoencoder, load_autoencoder
from ffdetect.models.backbones import create_backbone, load_backbone
from ffdetect.models.tensor_file import read_tensors
from ffdetect.models.weights import load_checkpoint, write_calibration
from ffdetect.scoring.fusion import Fusion
from ffdetect.voice import VoiceDetector
from ffdetect.voice.detector import WEIGHTS as VOICE
from tests.ffdetect.helpers import CALIBRATION
from tests.fuzz import changed, damage, fuzz, little_memory

KINDS = ("network", "autoencoder", "voice", "backbone")
_HEADER = struct.Struct("<Q")  # a safetensors file: size of the header, header, tensors


@dataclass(frozen=True)
class Kind:
    """A good file, and what reads it; that raises a ValueError, whatever is wrong."""

    file: Path
    load: Callable[[Path], object]


@pytest.fixture(scope="module")
def kinds(tiny_weights, tmp_path_factory) -> dict[str, Kind]:
    folder = tmp_path_factory.mktemp("weights")
    network, small, pretrained = (folder / f"{name}.safetensors" for name in "abc")
    write_calibration(tiny_weights, network, CALIBRATION)
    save_file(Autoencoder().half().state_dict(), small)
    backbone = create_backbone("test_resnet", 128)
    save_file(backbone.state_dict(), pretrained)
    return {
        "network": Kind(network, load_checkpoint),
        "autoencoder": Kind(small, load_autoencoder),
        "voice": Kind(VOICE, VoiceDetector.load),
        "backbone": Kind(pretrained, lambda file: load_backbone(backbone, file)),
    }


def try_to_load(kind: Kind, file: Path) -> None:
    with little_memory(300):
        try:
            kind.load(file)
        except ValueError as error:
            assert str(file) in str(error)


def split(data: bytes) -> tuple[dict, bytes]:
    end = _HEADER.size + _HEADER.unpack_from(data)[0]
    return json.loads(data[_HEADER.size : end]), data[end:]


def join(header: dict, tensors: bytes) -> bytes:
    text = json.dumps(header).encode()
    return _HEADER.pack(len(text)) + text + tensors


@pytest.mark.parametrize("kind", ["network", "voice"])
@fuzz(25)
@given(data=st.data())
def test_metadata(kinds, tmp_path, kind, data):
    header, tensors = split(kinds[kind].file.read_bytes())
    ((key, text),) = header["__metadata__"].items()
    header["__metadata__"] = {key: json.dumps(data.draw(changed(json.loads(text))))}
    file = tmp_path / "w.safetensors"
    file.write_bytes(join(header, tensors))
    try_to_load(kinds[kind], file)


@pytest.mark.parametrize("kind", KINDS)
@fuzz(25)
@given(data=st.data())
def test_headers(kinds, tmp_path, kind, data):
    header, tensors = split(kinds[kind].file.read_bytes())
    file = tmp_path / "w.safetensors"
    file.write_bytes(join(data.draw(changed(header)), tensors))
    try_to_load(kinds[kind], file)


@pytest.mark.parametrize("kind", KINDS)
@fuzz(30)
@given(change=damage())
def test_bytes(kinds, tmp_path, kind, change):
    file = tmp_path / "w.safetensors"
    file.write_bytes(change(kinds[kind].file.read_bytes()))
    try_to_load(kinds[kind], file)


@pytest.mark.parametrize("kind", KINDS)
@fuzz(10)
@given(data=st.data(), value=st.sampled_from([float("nan"), float("inf"), -float("inf")]))
def test_values(kinds, tmp_path, kind, data, value):
    tensors, metadata = read_tensors(kinds[kind].file)
    names = sorted(name for name, t in tensors.items() if t.is_floating_point() and t.numel())
    name = data.draw(st.sampled_from(names))
    flat = tensors[name].flatten().clone()
    flat[data.draw(st.integers(0, len(flat) - 1))] = value
    file = tmp_path / "w.safetensors"
    tensors[name] = flat.view(tensors[name].shape)
    save_file(tensors, file, metadata)
    with pytest.raises(ValueError, match="expected finite numbers but 1 of") as caught:
        kinds[kind].load(file)
    assert str(file) in str(caught.value) and name in str(caught.value)


@fuzz(40)
@given(data=st.data())
def test_fusions(tmp_path, data):
    file = tmp_path / "fusion.json"
    Fusion.load().save(file)
    good = file.read_bytes()
    if data.draw(st.booleans()):
        file.write_text(json.dumps(data.draw(changed(json.loads(good)))))
    else:
        file.write_bytes(data.draw(damage())(good))
    try:
        fusion = Fusion.load(file)
        joined = torch.tensor([fusion.log_ratio(f, v) for f in (None, -9.0, 9.0) for v in (0, 9)])
        assert joined.isfinite().all()
    except ValueError as error:
        assert str(file) in str(error)
