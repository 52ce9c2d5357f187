"""Whisper's encoder: sound -> hidden states of its layers, one every 20 ms.

Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision". What a network
that has heard very much speech, in all conditions, thinks of a voice on the way to its words.
Tensors are named as in transformers' ``WhisperEncoder``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from preprocess.io.mel import mel_filters

FFT, HOP = 400, 160  # samples
_BANDS, _HEAD = 80, 64
_FLOOR, _RANGE = 1e-10, 8.0  # of power; powers of ten below the loudest


def log_mel(samples: torch.Tensor) -> torch.Tensor:
    """Whisper's log-mel spectrogram.

    Args:
        samples: float32 N x S, 16 kHz mono, -1 to 1.

    Returns:
        float32 N x 80 x S // 160.
    """
    bins = torch.stft(samples, FFT, HOP, window=_window(), return_complex=True)[..., :-1]
    power = mel_filters(FFT) @ bins.abs().square()
    level = power.clamp_min(_FLOOR).log10()
    level = torch.maximum(level, level.amax((-2, -1), keepdim=True) - _RANGE)
    return (level + 4) / 4


@cache
def _window() -> torch.Tensor:
    return torch.hann_window(FFT, dtype=torch.float32)


class WhisperEncoder(nn.Module):
    """The first layers of an encoder.

    Args:
        layers: how many.
        width: of a hidden state.
        positions: most hidden states of one sound.
    """

    def __init__(self, layers: int = 4, width: int = 384, positions: int = 1500) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(_BANDS, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(positions, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], layers: int) -> WhisperEncoder:
        """The first `layers` of a pretrained encoder, in evaluation mode.

        Raises:
            RuntimeError: a tensor is absent or of another shape; later layers are not read.
        """
        positions, width = tensors["embed_positions.weight"].shape
        encoder = cls(layers, width, positions)
        known = encoder.state_dict().keys()
        encoder.load_state_dict({name: t.float() for name, t in tensors.items() if name in known})
        return encoder.float().eval().requires_grad_(False)

    def forward(self, mel: torch.Tensor) -> list[torch.Tensor]:
        """Hidden states, before the first layer and after each.

        Args:
            mel: float32 N x 80 x T, T at most twice the positions, see `log_mel`. Sounds need no
                padding to 30 s.

        Returns:
            float32 N x ceil(T / 2) x width each.
        """
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        states = [x + self.embed_positions.weight[: x.shape[1]]]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.self_attn = _SelfAttention(width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class _SelfAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, length, width = x.shape
        query, key, value = (
            project(x).view(n, length, width // _HEAD, _HEAD).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).reshape(n, length, width))
