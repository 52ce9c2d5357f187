"""ffdetect export WEIGHTS --out DIR: write the networks for ONNX Runtime, and a file of settings.

`ffdetect.Detector.load(DIR, runtime="onnx")` scores by them without PyTorch.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from ffdetect.models.device import pick_device
from ffdetect.scoring.detector import Detector
from ffdetect.scoring.tta import SHIFT
from preprocess.arguments import check_outputs, new_parser, unwritten
from preprocess.faces.mtcnn_networks import write_onnx
from preprocess.faces.mtcnn_onnx import ONNX_FILES, WEIGHTS
from preprocess.io.sources import printable

from .settings import NETWORK, WINDOWS, ExportSettings

PROG = "ffdetect export"


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
        check_outputs({"--out": args.out / NETWORK})
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
        return unwritten(args.out, error)
    print(f"{args.out}: {', '.join(sorted(file.name for file in args.out.iterdir()))}")
    return 0


def export(detector: Detector, folder: Path) -> None:
    """Write a detector's networks and settings, each file whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network, size, tta = detector.network, detector.crop_settings.size, detector.widest_tta
    sizes = {NETWORK: size}
    if tta == "flip+crops":
        sizes[WINDOWS] = size - SHIFT
    with tempfile.TemporaryDirectory(dir=folder) as place:
        made = Path(place)
        for file, side in sizes.items():
            crops = torch.zeros(2, 3, side, side, dtype=torch.uint8)
            write_onnx(made / file, network, crops, "crops", {0: "n"}, ["logits"])
        for file in ONNX_FILES:
            shutil.copyfile(WEIGHTS / file, made / file)
        settings = detector.crop_settings, detector.calibration, detector.about, tta
        ExportSettings(*settings).write(made)
        for written in made.iterdir():
            written.replace(folder / written.name)
