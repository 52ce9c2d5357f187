"""python -m ffdetect.solving.pack_trunks DIR: pretrained starts -> the trunk files of the package.

DIR holds `clip_b16.int8.safetensors` (CLIP ViT-B/16, int8 per output channel) and
`efficientnet_lite0.safetensors` under timm's names. What a trunk does not use is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from safetensors.torch import load_file, save_file

from ffdetect.models.frozen.trunks import TRUNKS

SOURCES = {
    "clip_vit_b16": "clip_b16.int8.safetensors",
    "efficientnet_lite0": "efficientnet_lite0.safetensors",
}


def pack(name: str, source: Path, target: Path) -> None:
    """Write a trunk's file from its pretrained start."""
    used = TRUNKS[name]().state_dict()
    tensors = {}
    for key, tensor in load_file(source).items():
        if key.removesuffix(".q").removesuffix(".scale") in used:
            exact = key.endswith((".q", ".scale")) or not tensor.is_floating_point()
            tensors[key] = tensor if exact else tensor.half()
    save_file(tensors, target)


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
    return 0


if __name__ == "__main__":
    sys.exit(main())
