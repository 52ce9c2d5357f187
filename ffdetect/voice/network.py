"""A voice's network: a window of sound -> features -> logit, and the file that it is kept in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ffdetect.models.calibration import Calibration
from ffdetect.models.tensor_file import (
    WeightsError,
    as_weights_path,
    from_int8,
    read_tensors,
    to_int8,
    write_tensors,
)
from preprocess.io.formats import DAMAGED

from .head import VoiceHead
from .statistics import WINDOW, voice_statistics
from .whisper import WhisperEncoder, log_mel

FORMAT = 3
_NAME = "ffdetect-voice"
_POSITIONS = int(WINDOW * 50)  # a hidden state every 20 ms
_LEVEL = 0.1  # root mean square that every window is brought to
LAYERS = 4  # of the encoder that weights are trained on
_QUANTISED = 2  # dimensions from which a tensor is kept as int8


@dataclass(frozen=True)
class VoiceNetwork:
    """What a voice is judged by.

    Attributes:
        encoder: frozen, in evaluation mode.
        head: of `voice_features`, with calibrated logits.
        calibration: what was measured on sources that were left out.
        about: data, recipe and settings.
    """

    encoder: WhisperEncoder
    head: VoiceHead
    calibration: Calibration
    about: dict

    def __call__(self, samples: torch.Tensor) -> float:
        """The logit of fake of one window, see `voice_features`."""
        return self.head(voice_features(self.encoder, samples)[None]).item()

    def save(self, file: str | Path) -> None:
        """Write a safetensors file, whole or not at all; matrices of the encoder as int8."""
        layers = len(self.encoder.layers)
        metadata = {
            "version": FORMAT,
            "seconds": WINDOW,
            "layers": layers,
            "calibration": self.calibration.to_dict(),
            "about": self.about,
        }
        tensors = {f"encoder.{n}": t for n, t in quantise(self.encoder.state_dict()).items()}
        tensors |= {f"head.{name}": t for name, t in self.head.state_dict().items()}
        write_tensors(file, tensors, {_NAME: json.dumps(metadata)})

    @classmethod
    def load(cls, file: str | Path) -> VoiceNetwork:
        """Read what `save` wrote.

        Raises:
            WeightsError: no such file, not safetensors, of another program or version.
        """
        file = as_weights_path(file)
        tensors, metadata = read_tensors(file)
        if _NAME not in metadata:
            raise WeightsError(f"{file}: expected weights written by ffdetect.voice.train")
        try:
            values = json.loads(metadata[_NAME])
            version, seconds = values["version"], values["seconds"]
            if (version, seconds) != (FORMAT, WINDOW):
                raise ValueError(
                    f"format {version} of {seconds:g} s, where this version reads {FORMAT} of "
                    f"{WINDOW:g} s: solve them anew by ffdetect.voice.train, or leave the file out "
                    "and take the weights of the package"
                )
            if values["layers"] != LAYERS:
                raise ValueError(f"expected {LAYERS} layers but got {values['layers']}")
            encoder = load_encoder(_below(tensors, "encoder."), LAYERS)
            head = VoiceHead.from_tensors(_below(tensors, "head."))
            calibration = Calibration.from_dict(values["calibration"])
            return cls(encoder.float(), head.float(), calibration, values["about"])
        except DAMAGED as error:
            raise WeightsError(f"{file}: expected voice weights but got: {error}") from error


def voice_features(encoder: WhisperEncoder, samples: torch.Tensor) -> torch.Tensor:
    """Features of one window: hidden states over time, and `voice_statistics`.

    Of each channel of each hidden state: mean, deviation, and deviation of the change from one
    token to the next.

    Args:
        samples: float32 N, 16 kHz mono of any level, at least `SHORTEST` seconds.

    Returns:
        float32 F, always finite: for each state and each of the three a value a channel, then the
        statistics.
    """
    centred = samples - samples.mean()
    level = _LEVEL / centred.square().mean().sqrt().clamp_min(1e-9)
    parts = []
    for state in encoder(log_mel((level * centred)[None])):
        change = state[0].diff(dim=0)
        parts += [state[0].mean(0), state[0].std(0), change.std(0)]
    return torch.cat([*parts, voice_statistics(samples)])


def load_encoder(tensors: Mapping[str, torch.Tensor], layers: int) -> WhisperEncoder:
    """From pretrained tensors, or from what `quantise` made of them; positions cut to a window."""
    plain = from_int8(tensors)
    place = "embed_positions.weight"
    plain[place] = plain[place][:_POSITIONS]
    return WhisperEncoder.from_tensors(plain, layers)


def quantise(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Matrices and filters as int8 with a scale an output channel (`.q`, `.scale`), the rest as
    float16."""
    kept = {}
    for name, tensor in tensors.items():
        if tensor.ndim < _QUANTISED or name.startswith("embed_positions"):
            kept[name] = tensor.half()
            continue
        values, scale = to_int8(tensor, tuple(range(1, tensor.ndim)))
        kept |= {name + ".q": values, name + ".scale": scale.flatten()}
    return kept


def read_pretrained(file: str | Path, layers: int) -> WhisperEncoder:
    """Whisper's encoder from a file of its tensors, as it will be once saved.

    Raises:
        WeightsError: no such file, not safetensors, or tensors are absent.
    """
    tensors, _ = read_tensors(file)
    try:
        encoder = load_encoder(tensors, layers)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"{file}: expected Whisper's encoder but got: {error}") from error
    return load_encoder(quantise(encoder.state_dict()), layers)


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
