"""Frozen pretrained networks whose inner layers the streams read.

A trunk's tensors lie in a file of their own in `ffdetect.weights`, which never changes: weights
files hold only what was learnt beside it, and name the trunk.

| name | what | source |
|---|---|---|
| clip_vit_b16 | image tower of CLIP ViT-B/16, the first blocks | Radford et al. 2021, MIT |
| efficientnet_lite0 | EfficientNet-Lite0 without its last layers | Tan & Le 2019, Apache-2.0 |
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources

import timm
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ffdetect.models.device import multiplies_bf16
from ffdetect.models.tensor_file import from_int8

from . import lite_onnx
from .scaled import with_scaled_linears

_CLIP_BLOCKS = 8  # later ones tell objects apart, not real from generated


class ClipTrunk(nn.Module):
    """The first blocks of CLIP's ViT-B/16 (Radford et al. 2021, "Learning Transferable Visual
    Models From Natural Language Supervision")."""

    file = "clip_vit_b16.int8.safetensors"
    side = 224
    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)

    def __init__(self) -> None:
        super().__init__()
        whole = timm.create_model("vit_base_patch16_clip_quickgelu_224", num_classes=0)
        self.patch_embed, self.norm_pre = whole.patch_embed, whole.norm_pre
        self.cls_token, self.pos_embed = whole.cls_token, whole.pos_embed
        self.blocks = whole.blocks[:_CLIP_BLOCKS]
        self.width = whole.embed_dim
        self._scaled: list[nn.Module] = []  # in a list, so that it is no part of the trunk's state

    def forward(
        self,
        pixels: torch.Tensor,
        taps: Sequence[int],
    ) -> list[torch.Tensor]:
        """Tokens after some blocks.

        Args:
            pixels: float32 N x 3 x 224 x 224, normalised.
            taps: numbers of blocks, 1 for the first, ascending.

        Returns:
            float32 N x 197 x 768 each; the first token is the class token, the others lie in rows
            of 14.
        """
        blocks = self._scaled_blocks() if multiplies_bf16(pixels.device) else self.blocks
        with torch.autocast("cpu", enabled=False):
            x = self.patch_embed(pixels)
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
            x = self.norm_pre(x)
            tapped = []
            for number, block in enumerate(blocks[: max(taps)], 1):
                x = block(x)
                if number in taps:
                    tapped.append(x)
        return tapped

    def _scaled_blocks(self) -> nn.Module:
        if not self._scaled:
            self._scaled.append(with_scaled_linears(self.blocks))
        return self._scaled[0]


class LiteTrunk(nn.Module):
    """The stages of EfficientNet-Lite0 (after Tan & Le 2019, "EfficientNet: Rethinking Model
    Scaling for Convolutional Neural Networks")."""

    file = "efficientnet_lite0.fp16.safetensors"

    def __init__(self) -> None:
        super().__init__()
        whole = timm.create_model("tf_efficientnet_lite0", num_classes=0)
        self.conv_stem, self.bn1 = whole.conv_stem, whole.bn1
        self.blocks = whole.blocks

    def forward(
        self,
        pixels: torch.Tensor,
        stages: int | None = None,
    ) -> list[torch.Tensor]:
        """Output of every stage, float32 N x C x h x w.

        Args:
            pixels: float32 N x 3 x H x W, (x - 127) / 128 of bytes.
            stages: the first so many alone.
        """
        if stages is not None and lite_onnx.can_run(pixels, stages):
            return lite_onnx.run(pixels, stages)
        return self.compute(pixels, stages)

    def compute(self, pixels: torch.Tensor, stages: int | None) -> list[torch.Tensor]:
        """What `forward` gives, by PyTorch on every device."""
        x = self.bn1(self.conv_stem(pixels.contiguous(memory_format=torch.channels_last)))
        outputs: list[torch.Tensor] = []
        for stage in self.blocks[:stages]:
            x = stage(x)
            outputs.append(x)
        return outputs


TRUNKS: dict[str, type[ClipTrunk] | type[LiteTrunk]] = {
    "clip_vit_b16": ClipTrunk,
    "efficientnet_lite0": LiteTrunk,
}


def load_trunk(name: str) -> ClipTrunk | LiteTrunk:
    """A trunk with its pretrained tensors, frozen, float32.

    Raises:
        ValueError: no such trunk.
    """
    if name not in TRUNKS:
        raise ValueError(f"expected a trunk among {sorted(TRUNKS)} but got {name!r}")
    with torch.device("meta"):  # no time for random tensors that are replaced at once
        trunk = TRUNKS[name]()
    with resources.as_file(resources.files("ffdetect.weights") / trunk.file) as file:
        trunk.load_state_dict(from_int8(load_file(file)), assign=True)
    trunk.eval().requires_grad_(False)
    fold_norms(trunk)
    return trunk


def fold_norms(module: nn.Module) -> None:
    """Let every convolution do the work of the batch norm behind it: the same up to rounding."""
    before: nn.Module | None = None
    for name, child in list(module.named_children()):
        if isinstance(before, nn.Conv2d) and isinstance(child, nn.BatchNorm2d):
            mean, var = child.running_mean, child.running_var
            norm = (mean, var, child.eps, child.weight, child.bias)
            before.weight, before.bias = fuse_conv_bn_weights(before.weight, before.bias, *norm)
            setattr(module, name, getattr(child, "act", nn.Identity()))  # timm's norms hold one
        fold_norms(child)
        before = child


def trunk_digest(name: str) -> str:
    """SHA-256 of a trunk's file; weights that were learnt beside another are refused."""
    data = (resources.files("ffdetect.weights") / TRUNKS[name].file).read_bytes()
    return hashlib.sha256(data).hexdigest()
