"""What happens to pictures on their way, each at several strengths, done to ready crops.

The crop is disturbed, not the picture that it was cut from: one cache serves every disturbance,
and all of them see the same faces. Two things are left out by that. The face is not looked for
again, so what a disturbance does to MTCNN shows only through the crop's shift and scale. And the
8 px grid of a JPEG starts at the crop's corner, whereas a picture that is saved again keeps its
grid; the seams of the two codings then do not coincide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image, ImageEnhance

from ffdetect.training.augment import recode
from preprocess.faces.crop import crop_face
from preprocess.faces.face import CropSettings, Face

UNDISTURBED = "undisturbed"


@dataclass(frozen=True)
class Disturbance:
    """One kind of disturbance.

    Attributes:
        name: as tables and plots call it.
        unit: what a strength counts.
        strengths: in the order of a plot's axis; None stands where nothing is done.
        function: (uint8 S x S x 3 RGB crop, strength, random numbers) -> uint8 S x S x 3.
    """

    name: str
    unit: str
    strengths: tuple[float | None, ...]
    function: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]

    def label(self, strength: float | None) -> str:
        """How tables and files call it at this strength."""
        return UNDISTURBED if strength is None else f"{self.name} {strength:g}"

    def apply(self, crop: np.ndarray, strength: float, row: int) -> np.ndarray:
        """Disturb the crop of a cache's row: uint8 S x S x 3 RGB, as it came.

        Random numbers come from the row's number alone: every strength moves a face in the same
        direction, and neither its class nor the other faces have a say.
        """
        return self.function(crop, strength, np.random.default_rng(row))


def _jpeg(crop: np.ndarray, quality: float, _: np.random.Generator) -> np.ndarray:
    return _recode(crop, "JPEG", quality)


def _webp(crop: np.ndarray, quality: float, _: np.random.Generator) -> np.ndarray:
    return _recode(crop, "WEBP", quality)


def _recode(crop: np.ndarray, format: str, quality: float) -> np.ndarray:
    stack = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None]
    return recode(stack, format, quality=int(quality))[0].permute(1, 2, 0).numpy()


def _resize(crop: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    """Pillow's bicubic filter, which averages when it shrinks, there and back."""
    size = len(crop)
    way = Image.fromarray(crop).resize((round(size * factor),) * 2, Image.Resampling.BICUBIC)
    return np.array(way.resize((size, size), Image.Resampling.BICUBIC))


def _small(crop: np.ndarray, side: float, _: np.random.Generator) -> np.ndarray:
    """A face that was small in its picture, enlarged as the face path does it."""
    size, side = len(crop), int(side)
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    return _recut(small, 0, 0, side, size)


def _blur(crop: np.ndarray, sigma: float, _: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(crop, (0, 0), sigma)


def _noise(crop: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    noisy = crop + sigma * rng.standard_normal(crop.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def _brightness(crop: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    return np.array(ImageEnhance.Brightness(Image.fromarray(crop)).enhance(factor))


def _contrast(crop: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    return np.array(ImageEnhance.Contrast(Image.fromarray(crop)).enhance(factor))


def _shift(crop: np.ndarray, percent: float, rng: np.random.Generator) -> np.ndarray:
    """The square moves in a random direction, by whole pixels, so nothing is resampled."""
    size, angle = len(crop), rng.uniform(0, 2 * np.pi)
    x, y = np.round(percent / 100 * size * np.array([np.cos(angle), np.sin(angle)]))
    return _recut(crop, x, y, size, size)


def _scale(crop: np.ndarray, percent: float, _: np.random.Generator) -> np.ndarray:
    """The square grows (the face gets smaller) or shrinks around its centre."""
    size = len(crop)
    grown = round(size * percent / 200)  # on each side
    return _recut(crop, -grown, -grown, size + 2 * grown, size)


def _recut(pixels: np.ndarray, left: float, top: float, side: float, size: int) -> np.ndarray:
    """Another square of the picture by the face path, which also fills what lies outside."""
    box = np.array([left, top, left + side, top + side], np.float32)
    square = Face(box, np.zeros((5, 2), np.float32), 1.0)
    return crop_face(pixels, square, CropSettings(size=size, margin=0.0, native=1.0))


DISTURBANCES = (
    Disturbance("JPEG", "quality", (None, 95, 85, 75, 60, 50, 40, 30), _jpeg),
    Disturbance("WebP", "quality", (None, 90, 70, 50, 30), _webp),
    Disturbance("resized and back", "factor", (0.5, 0.75, None, 1.5, 2), _resize),
    Disturbance("small face", "px, side of the crop", (None, 128, 96, 64, 48), _small),
    Disturbance("blur", "sigma in px", (None, 0.5, 1, 1.5, 2.5), _blur),
    Disturbance("noise", "sigma in grey levels", (None, 2, 5, 10, 20), _noise),
    Disturbance("brightness", "factor", (0.5, 0.75, None, 1.25, 1.5), _brightness),
    Disturbance("contrast", "factor", (0.5, 0.75, None, 1.25, 1.5), _contrast),
    Disturbance("crop shifted", "% of its side", (None, 2, 5, 10), _shift),
    Disturbance("crop scaled", "% of its side", (-20, -10, None, 10, 20), _scale),
)
