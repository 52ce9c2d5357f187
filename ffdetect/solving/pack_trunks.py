"""python -m ffdetect.solving.pack_trunks DIR: pretrained starts -> the trunk files of the package.

DIR holds `clip_b16.int8.safetensors` (CLIP ViT-B/16, int8 per output channel) and
`efficientnet_lite0.safetensors` under timm's names. What a trunk does not use is left out. The
stages that ONNX Runtime runs are exported beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from ffdetect.models.frozen import lite_onnx
from ffdetect.models.frozen.trunks import TRUNKS, load_trunk
from ffdetect.models.tensor_file import write_tensors
from preprocess.arguments import finish
from preprocess.faces.mtcnn_networks import write_onnx

SOURCES = {
    "clip_vit_b16": "clip_b16.int8.safetensors",
    "efficientnet_lite0": "efficientnet_lite0.safetensors",
}


def pack(name: str, source: Path, target: Path) -> None:
    """Write a trunk's file from its pretrained start, whole or not at all."""
    used = TRUNKS[name]().state_dict()
    tensors = {}
    for key, tensor in load_file(source).items():
        if key.removesuffix(".q").removesuffix(".scale") in used:
            exact = key.endswith((".q", ".scale")) or not tensor.is_floating_point()
            tensors[key] = tensor if exact else tensor.half()
    write_tensors(target, tensors)


class Stages(nn.Module):
    """What `lite_onnx` runs."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = load_trunk("efficientnet_lite0")

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        return self.trunk.compute(pixels, lite_onnx.STAGES)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ffdetect.solving.pack_trunks", description=__doc__
    )
    parser.add_argument("starts", type=Path, metavar="DIR", help="the pretrained starts")
    args = parser.parse_args(argv)
    with resources.as_file(resources.files("ffdetect.weights")) as folder:
        for name, source in SOURCES.items():
            target = folder / TRUNKS[name].file
            pack(name, args.starts / source, target)
            print(f"{target.stat().st_size / 2**20:.1f} MiB {target.name}")
        free = {0: "n", 2: "h", 3: "w"}
        example, names = torch.zeros(2, 3, 64, 64), lite_onnx.output_names()
        write_onnx(folder / lite_onnx.FILE, Stages(), example, "pixels", free, names)
    return 0


if __name__ == "__main__":
    finish(main)
