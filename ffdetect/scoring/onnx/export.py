"""ffdetect export WEIGHTS --out DIR: write the networks for ONNX Runtime, and a file of settings.

`ffdetect.Detector.load(DIR, runtime="onnx")` scores by them without PyTorch.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ffdetect.models.device import pick_device
from ffdetect.scoring.detector import Detector
from ffdetect.scoring.tta import SHIFT
from preprocess.arguments import new_parser
from preprocess.faces.mtcnn_interface import ONNX_FILES
from preprocess.io.sources import printable

from .settings import NETWORK, WINDOWS, ExportSettings

PROG = "python -m ffdetect.scoring.onnx.export"
_MIDDLE, _SCALE = 127.5, 128.0  # of MTCNN's pixels


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__, "best --out exported", "mine.safetensors --out exported")
    add = parser.add_argument
    add("weights", metavar="WEIGHTS", help="a file, or of this package best or fast")
    add("--out", type=Path, required=True, metavar="DIR", help="is made if it is not there")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0; 1 if it cannot be written; 2 for wrong arguments."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401

        detector = Detector.load(args.weights, pick_device("cpu"))
    except ImportError:
        parser.error("expected onnx and onnxscript to be installed: pip install 'ffdetect[onnx]'")
    except ValueError as error:
        parser.error(printable(str(error)))
    try:
        export(detector, args.out)
    except OSError as error:
        print(f"{args.out}: cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1
    print(f"{args.out}: {', '.join(sorted(file.name for file in args.out.iterdir()))}")
    return 0


def export(detector: Detector, folder: Path) -> None:
    """Write a detector's networks and settings, each file whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network, size, tta = detector._network, detector.crop_settings.size, detector._widest_tta
    sizes = {NETWORK: size}
    if tta == "flip+crops":
        sizes[WINDOWS] = size - SHIFT
    with tempfile.TemporaryDirectory(dir=folder) as place:
        made = Path(place)
        for file, side in sizes.items():
            crops = torch.zeros(2, 3, side, side, dtype=torch.uint8)
            _write(made / file, network, crops, "crops", {0: "n"}, ["logits"])
        for file, part in zip(ONNX_FILES, _mtcnn(), strict=True):
            _write(made / file, part, part.example, "pixels", part.dynamic, part.told)
        settings = detector.crop_settings, detector.calibration, detector.about, tta
        ExportSettings(*settings).write(made)
        for written in made.iterdir():
            written.replace(folder / written.name)


def _write(
    file: Path,
    network: nn.Module,
    example: torch.Tensor,
    name: str,
    dynamic: dict[int, str],
    outputs: Sequence[str],
) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own parts
        network.eval()(example)  # what networks keep for next time is made by this, not of traces
        program: Any = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=(dynamic,),
            input_names=[name],
            output_names=[*outputs],
            verbose=False,
        )
    program.save(str(file), external_data=False)


class _Proposer(nn.Module):
    """PNet: float32 H x W x 3 in 0..255 -> probabilities h x w, shifts h x w x 4."""

    example, dynamic = torch.zeros(40, 52, 3), {0: "h", 1: "w"}
    told = ("probabilities", "shifts")

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shifts, probabilities = self.network(_normalised(pixels[None]))
        return probabilities[0, 1], shifts[0].permute(1, 2, 0)


class _Judge(nn.Module):
    """RNet or ONet: float32 N x side x side x 3 in 0..255 -> probabilities N, shifts N x 4, and
    landmarks N x 10 from ONet."""

    dynamic = {0: "n"}  # noqa: RUF012

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network, self.example = network, torch.zeros(2, side, side, 3)
        self.told = ("probabilities", "shifts", "landmarks")[: 2 + (side == 48)]

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        shifts, *landmarks, probabilities = self.network(_normalised(pixels))
        return probabilities[:, 1], shifts, *landmarks


def _normalised(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.permute(0, 3, 1, 2) - _MIDDLE) / _SCALE


def _mtcnn() -> tuple[_Proposer | _Judge, ...]:
    from facenet_pytorch.models.mtcnn import ONet, PNet, RNet

    return _Proposer(PNet()), _Judge(RNet(), 24), _Judge(ONet(), 48)


if __name__ == "__main__":
    sys.exit(main())
