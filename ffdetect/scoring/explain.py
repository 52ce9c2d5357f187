"""ffdetect explain PICTURE --out FILE.png: where in a face the evidence for "fake" lies.

One sheet a picture: the crop with its score, a heat map over it, the residual and the spectrum.
The heat map shows what moved the score. It is no proof: it is as wrong as the score is, real
faces have red places too, so has the border that is filled in outside of the picture, and what
the spectrum adds to the score lies nowhere in particular.

The heat of trained networks is HiResCAM (Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM
for faithful explanations of convolutional neural networks") on the last feature map of each stream,
added up; that of solved ones is how their lines divide among places
(`ffdetect.models.frozen.pooling`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ffdetect.models.base import Scorer
from preprocess.arguments import check_outputs, new_parser, unwritten
from preprocess.cache.faces import CacheSettings
from preprocess.faces import maps
from preprocess.gallery import show_residual, show_spectrum
from preprocess.io.formats import FileError

from .analysis import NoFaceError
from .detector import Detector
from .sheet import new_sheet, save_sheet

PROG = "ffdetect explain"
_CAUTION = "The heat map shows what moved the score. It is no proof that a picture is fake or real."
_SMOOTHING = 1 / 16  # deviation of the Gaussian over the heat, as a share of the crop's side
# Where there is next to no heat the face shows through.
_REAL, _FAKE, _OPACITY = (31, 61, 255), (255, 31, 31), 0.75
_COLOURS = [
    (place, (*(value / 255 for value in colour), opacity))
    for place, colour, opacity in (
        (0, _REAL, _OPACITY),
        (0.5, _REAL, 0),
        (0.5, _FAKE, 0),
        (1, _FAKE, _OPACITY),
    )
]
_LEAST_SCALE = 1.0  # in logits: fainter heat is drawn faint instead of stretched to full colour


@dataclass(frozen=True)
class Explanation:
    """Why a face got its score.

    Attributes:
        name: how messages call the picture.
        score: probability that the face is fake, 0 to 1, as `Detector.analyze` gives it.
        rgb, frequency: the same by each stream alone; None for a stream the network lacks.
        crop: uint8 size x size x 3 RGB, what the network saw.
        heat: float32 size x size, signed, in logits: positive where the face looks fake to the
            network, negative where it looks real. A value is what the place would add to the
            logit if the whole face were like it, so the mean is what all places add together.
        residual: int8 3 x size x size, see `preprocess.faces.maps`.
        spectrum: float16 128 x 65, see `preprocess.faces.maps`.
    """

    name: str
    score: float
    rgb: float | None
    frequency: float | None
    crop: np.ndarray
    heat: np.ndarray
    residual: np.ndarray
    spectrum: np.ndarray


def explain(detector: Detector, img: object, face: int = 0) -> Explanation:
    """Find what moved the score of one face.

    The heat is computed in float32, whatever the detector's precision, and leaves the detector
    as it was. It shows what moved the score and is no proof.

    Args:
        detector: with any network, of both streams or of one.
        img: a picture, see `Detector`.
        face: which face, 0 being the largest.

    Raises:
        NoFaceError: no face in the picture.
        FileError: no picture, or no face of that number.
        ImportError: captum is missing.
    """
    analysis = detector.analyze(img)
    if not analysis.faces:
        size = f"{analysis.width} x {analysis.height}"
        raise NoFaceError(f"expected a face but found none in {size} px", analysis.name)
    if not 0 <= face < len(analysis.faces):
        last = len(analysis.faces) - 1
        raise FileError(f"expected a face from 0 to {last} but got {face}", analysis.name)
    chosen, network = analysis.faces[face], detector.network
    crops = torch.from_numpy(chosen.crop).permute(2, 0, 1)[None].to(detector.device)
    with torch.no_grad():
        logits = network.stream_logits(crops)
    rgb, frequency = (
        None if logit is None else float(logit.sigmoid())
        for logit in (logits.rgb, logits.frequency)
    )
    kind = network.residual or CacheSettings.residual  # a picture for people, if nothing else
    return Explanation(
        name=analysis.name,
        score=chosen.score,
        rgb=rgb,
        frequency=frequency,
        crop=chosen.crop,
        heat=heat_map(network, crops),
        residual=maps.residual(crops, kind)[0].cpu().numpy(),
        spectrum=maps.spectrum(crops)[0].cpu().numpy(),
    )


def heat_map(network: Scorer, crops: torch.Tensor) -> np.ndarray:
    """The heat of one ready crop, uint8 1 x 3 x H x W: float32 H x W, see `Explanation`.

    Raises:
        ImportError, ValueError: of `Scorer.evidence`.
    """
    heat = np.zeros(crops.shape[-2:], np.float32)
    for share in network.evidence(crops):
        # Channels are either second or, in some transformers, last.
        share = share[0].sum(0 if share.shape[-1] == share.shape[-2] else -1)
        places = share.cpu().numpy() * share.numel()
        heat += cv2.resize(places, heat.shape[::-1], interpolation=cv2.INTER_LINEAR)
    sigma = _SMOOTHING * heat.shape[1]
    return cv2.GaussianBlur(heat, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)  # keeps the mean


def draw_heat(explanation: Explanation) -> np.ndarray:
    """The heat over the face in grey, red where it looks fake and blue where it looks real: uint8
    size x size x 3 RGB."""
    limit = max(float(np.abs(explanation.heat).max()), _LEAST_SCALE)
    heat = (explanation.heat / limit)[..., None]
    grey = cv2.cvtColor(explanation.crop, cv2.COLOR_RGB2GRAY)[..., None]
    colour = np.where(heat > 0, *(np.array(one) for one in (_FAKE, _REAL)))
    opacity = _OPACITY * np.abs(heat)
    return ((1 - opacity) * grey + opacity * colour).astype(np.uint8)


def save_explanation(explanation: Explanation, file: str | Path) -> None:
    """Draw an explanation as one PNG, about 1650 x 510; whole or not at all.

    Raises:
        ImportError: matplotlib is missing.
        OSError: the file cannot be written.
    """
    e = explanation
    title = f"{Path(e.name).name[-80:]}: probability of fake {e.score:.2f}"
    figure = new_sheet(15, 4.6, title, _CAUTION)
    from matplotlib.colors import LinearSegmentedColormap

    crop, heat, residual, spectrum = figure.subplots(1, 4)
    crop.imshow(e.crop)
    crop.set_title(f"the face as the network saw it\n{_opinion('pixels', e.rgb)}")

    heat.imshow(cv2.cvtColor(e.crop, cv2.COLOR_RGB2GRAY), cmap="gray", vmin=0, vmax=255)
    limit = max(float(np.abs(e.heat).max()), _LEAST_SCALE)
    colours = LinearSegmentedColormap.from_list("pull", _COLOURS)
    drawn = heat.imshow(e.heat, cmap=colours, vmin=-limit, vmax=limit)
    bar = figure.colorbar(drawn, ax=heat, fraction=0.046, pad=0.02)
    bar.set_label("logit, were the whole face like this")
    heat.set_title("heat map\nred: looks fake, blue: looks real")

    residual.imshow(show_residual(e.residual))
    residual.set_title(f"high-frequency residual\n{_opinion('frequencies', e.frequency)}")
    spectrum.imshow(show_spectrum(e.spectrum), cmap="gray", extent=(-0.5, 0.5, 0.5, -0.5))
    spectrum.set_title("log spectrum\n[cycles per pixel]")
    for axes in (crop, heat, residual):
        axes.set_axis_off()
    save_sheet(figure, file)


def _opinion(stream: str, probability: float | None) -> str:
    if probability is None:
        return "(not used by these weights)"
    return f"score by the {stream} alone: {probability:.2f}"


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__, "portrait.jpg --out why.png", "pictures/*.jpg --out why/")
    add = parser.add_argument
    add("pictures", nargs="+", type=Path, metavar="PICTURE")
    add("--out", type=Path, required=True, help="a folder, or FILE.png for a single picture")
    add("--weights", type=Path, help="a file, or of this package best or fast (default: best)")
    add("--face", type=int, default=0, help="which face, 0 is the largest (%(default)s)")
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0, also if some pictures failed; 1 if none could be explained, or a sheet not be
    written; 2 wrong arguments."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    files = _files(args.pictures, args.out)
    if args.out.suffix.lower() == ".png" and len(args.pictures) > 1:
        parser.error(f"expected --out to be a folder for several pictures but got {args.out}")
    try:
        for file in files:
            check_outputs({"--out": file}, args.pictures)
        detector = Detector.load(args.weights, args.device)
    except ValueError as error:
        parser.error(str(error))
    explained = 0
    progress = tqdm(args.pictures, unit="picture", disable=len(files) == 1)
    for picture, file in zip(progress, files, strict=True):
        try:
            explanation = explain(detector, picture, args.face)
            save_explanation(explanation, file)
        except ImportError as error:
            parser.error(str(error))
        except ValueError as error:
            print(error, file=sys.stderr)
        except OSError as error:
            return unwritten(file, error)
        else:
            explained += 1
            progress.write(f"{explanation.score:.2f} {file}")
    return 0 if explained else 1


def _files(pictures: Sequence[Path], out: Path) -> list[Path]:
    """Where each sheet goes; pictures of the same name in several folders get numbers."""
    if out.suffix.lower() == ".png":
        return [out] * len(pictures)
    names: dict[str, int] = {}
    files = []
    for picture in pictures:
        names[picture.name] = number = names.get(picture.name, 0) + 1
        files.append(out / f"{picture.name}{f'-{number}' if number > 1 else ''}.png")
    return files
