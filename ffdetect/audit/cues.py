"""What can be measured of a picture without knowing anything of forgery.

Each cue is a handful of numbers for each file: how it was written, how large it is, how sharp,
which colours. `ffdetect.audit` asks how well they tell real from fake. Format and size say
nothing of forgery at all; sharpness and colour may also be a generator's own doing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from preprocess.cache.log import read_failures
from preprocess.cache.reader import CacheReader
from preprocess.faces.detect import FaceDetector
from preprocess.io.clips import decode_video
from preprocess.io.decode import (
    DecodeError,
    Encoding,
    Picture,
    decode_image,
    read_encoding,
)
from preprocess.io.sources import Item, is_clip

from .duplicates import HASH_BITS, perceptual_hash

CUES: dict[str, tuple[str, ...]] = {
    "file format": ("format", "mode", "progressive", "exif", "icc"),
    "JPEG setting": (
        "jpeg_quality",
        "luma_first",
        "luma_mean",
        "luma_max",
        "chroma_first",
        "chroma_mean",
        "chroma_max",
        "subsampling",
    ),
    "picture size": ("width", "height", "aspect", "megapixels"),
    "bytes per pixel": ("bytes_per_pixel",),
    "sharpness": ("laplacian", "noise", "spectral_slope", "high_frequency"),
    "colour": ("brightness", "contrast", "saturation", "red_green", "yellow_blue"),
    "face size": ("face_pixels", "face_share"),
}
LABELS = ("path", "target", "generator", "group", "split")
_NAMES = ("format", "mode")  # text, numbered once all files are known
_SIDE = 224  # sharpness and colour are measured on pictures of this one size


@dataclass(frozen=True)
class Measurements:
    """The cues of a data folder or a cache.

    Attributes:
        table: a row for each file (in a cache: for each face) with the columns of `LABELS` and
            those of the cues; a number that a file does not have is nan.
        hashes: bool, N x HASH_BITS, see `ffdetect.audit.duplicates.perceptual_hash`.
        unreadable: (path, reason) of every file that could not be measured.
    """

    table: pd.DataFrame
    hashes: np.ndarray
    unreadable: list[tuple[str, str]]

    def cues(self) -> dict[str, list[str]]:
        """Cue -> its columns, as far as anything was measured."""
        measured = {
            cue: [name for name in names if name in self.table and self.table[name].notna().any()]
            for cue, names in CUES.items()
        }
        return {cue: names for cue, names in measured.items() if names}


def measure_items(
    items: Sequence[Item],
    detector: FaceDetector | None = None,
) -> Measurements:
    """Measure every file; show progress. Of a clip, one frame from its middle is measured.

    Args:
        items: what to read.
        detector: finds the faces for the cue "face size", which is left out without.
    """
    rows, hashes, unreadable = [], [], []
    for item in tqdm(items, desc="measure", unit="file"):
        try:
            picture, file_cues = _read(item)
        except (DecodeError, OSError) as error:  # it may vanish while others are measured
            unreadable.append((item.path, str(error)))
            continue
        row = {name: getattr(item, name) for name in LABELS}
        row |= file_cues | size_cues(picture.width, picture.height) | pixel_cues(picture.pixels)
        if detector is not None:
            face = detector.largest(picture.pixels)
            if face is not None:
                row |= face_cues(face.box, picture.width, picture.height)
        rows.append(row)
        hashes.append(perceptual_hash(picture.pixels))
    return _measurements(rows, hashes, unreadable)


def measure_cache(reader: CacheReader) -> Measurements:
    """Measure every face of a cache: its columns for the file, its crop for the pixels."""
    rows, hashes = [], []
    faces = reader.metadata.to_dict("records")
    for index, face in enumerate(tqdm(faces, desc="measure", unit="face")):
        crop = reader.crop(index)
        row = {name: face[name] for name in LABELS}
        quality = face["jpeg_quality"]
        row |= {
            "format": face["source_format"],
            "jpeg_quality": quality if quality >= 0 else np.nan,
        }
        row |= size_cues(face["source_width"], face["source_height"]) | pixel_cues(crop)
        row |= face_cues(face["box"], face["source_width"], face["source_height"])
        rows.append(row)
        hashes.append(perceptual_hash(crop))
    failures = [failure for path in reader.paths for failure in read_failures(path)]
    unreadable = [(f.path, f.reason) for f in failures if f.kind != "no_face"]
    return _measurements(rows, hashes, unreadable)


def _measurements(rows: list[dict], hashes: list, unreadable: list) -> Measurements:
    table = pd.DataFrame(rows, columns=None if rows else list(LABELS))
    for name in _NAMES:
        if name in table:
            numbers = pd.factorize(table[name], sort=True)[0]  # -1 for what is missing
            table[name] = np.where(numbers < 0, np.nan, numbers)
    bits = np.array(hashes, bool).reshape(len(hashes), HASH_BITS)
    return Measurements(table, bits, unreadable)


def _read(item: Item) -> tuple[Picture, dict[str, object]]:
    if is_clip(item.local):
        picture = next(iter(decode_video(item.local, frames=1)))
        return picture, {"format": picture.format}
    picture = decode_image(item.file)
    size = item.file.stat().st_size
    pixels = picture.width * picture.height
    return picture, {**encoding_cues(read_encoding(item.local)), "bytes_per_pixel": size / pixels}


def encoding_cues(encoding: Encoding) -> dict[str, object]:
    """How the file was written, as the columns of "file format" and "JPEG setting"."""
    row: dict[str, object] = {
        "format": encoding.format,
        "mode": encoding.mode,
        "progressive": float(encoding.progressive),
        "exif": float(encoding.exif),
        "icc": float(encoding.icc),
    }
    if encoding.quality >= 0:
        row |= {"jpeg_quality": encoding.quality, "subsampling": encoding.subsampling}
    for name, steps in (("luma", encoding.luma), ("chroma", encoding.chroma)):
        if steps:
            row |= {
                f"{name}_first": steps[0],
                f"{name}_mean": float(np.mean(steps)),
                f"{name}_max": max(steps),
            }
    return row


def size_cues(width: int, height: int) -> dict[str, float]:
    """The columns of "picture size" from pixels."""
    return {
        "width": width,
        "height": height,
        "aspect": width / height,
        "megapixels": width * height / 1e6,
    }


def face_cues(box: np.ndarray, width: int, height: int) -> dict[str, float]:
    """Longer side of a face's box in source pixels, and the box's share of the picture."""
    sides = np.maximum([box[2] - box[0], box[3] - box[1]], 0)
    return {"face_pixels": float(max(sides)), "face_share": float(sides.prod() / (width * height))}


def pixel_cues(pixels: np.ndarray) -> dict[str, float]:
    """Sharpness and colour of a uint8 H x W x 3 RGB picture's central square at one size.

    Noise is the fast estimate of Immerkaer 1996, "Fast Noise Variance Estimation"; the slope is
    that of log power against log frequency (Field 1987, "Relations between the statistics of
    natural images and the response properties of cortical cells"); opponent colours and contrast
    are on the scale 0 to 255.
    """
    square = _central_square(pixels)
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY).astype(np.float32)
    red, green, blue = cv2.split(square.astype(np.float32))
    highest = cv2.max(cv2.max(red, green), blue)
    lowest = cv2.min(cv2.min(red, green), blue)
    noise = cv2.filter2D(grey, -1, _NOISE_KERNEL)[1:-1, 1:-1]
    power, frequency = _radial_power(grey)
    slope = np.polyfit(np.log(frequency), np.log(power), 1)[0]
    return {
        "laplacian": float(np.log(cv2.Laplacian(grey, cv2.CV_32F).var() + 1e-3)),
        "noise": float(np.sqrt(np.pi / 2) / 6 * np.abs(noise).mean()),
        "spectral_slope": float(slope),
        "high_frequency": float(np.log(power[frequency > 0.35].mean() / power.mean())),
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "saturation": float(((highest - lowest) / np.maximum(highest, 1)).mean()),
        "red_green": float((red - green).mean()),
        "yellow_blue": float(((red + green) / 2 - blue).mean()),
    }


_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_FREQUENCY = np.hypot(*np.meshgrid(np.fft.rfftfreq(_SIDE), np.fft.fftfreq(_SIDE)))
_RING = (_FREQUENCY * _SIDE).round().astype(int)
_WINDOW = np.outer(np.hanning(_SIDE), np.hanning(_SIDE)).astype(np.float32)


def _radial_power(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean power on rings of 0.02 to 0.5 cycles a pixel, and the rings' frequencies."""
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * _WINDOW)) ** 2
    rings = np.bincount(_RING.ravel(), power.ravel()) / np.bincount(_RING.ravel())
    chosen = np.arange(round(0.02 * _SIDE), _SIDE // 2 + 1)
    return rings[chosen] + 1, chosen / _SIDE  # + 1: flat pictures have no power to take logs of


def _central_square(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    if side == _SIDE:
        return square
    how = cv2.INTER_AREA if side > _SIDE else cv2.INTER_CUBIC
    return cv2.resize(square, (_SIDE, _SIDE), interpolation=how)
