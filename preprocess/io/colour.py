"""Any of Pillow's modes, with any colour profile -> 8-bit sRGB, as a browser would show it.

Detectors learn from sRGB, and nearly all files are. Others (phones' Display P3, cameras' Adobe RGB,
print's CMYK) hold other numbers for the same colour; their profile says which.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from .formats import DecodeError

_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners use, each stored in 16
_PROFILED = ("L", "RGB", "CMYK")  # modes that a profile is applied to
_SAME = 2  # grey levels: profiles that change no colour by more are sRGB, of whatever make
_KEPT = 16  # transforms; a data set has few profiles, and those of printers take megabytes


def to_srgb(image: Image.Image, profiled: bool = True) -> Image.Image:
    """8-bit sRGB, transparent pixels shown over white. A profile that is damaged, or not for such
    a picture, is ignored.

    Args:
        profiled: whether its profile is meant for these samples. Beside HDR it is for programs
            that know nothing of that.

    Raises:
        DecodeError: samples of another range; the message shows it.
    """
    profile = image.info.get("icc_profile") if profiled else None
    if image.mode == "RGB" and not profile and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):
        values, hidden = np.asarray(image), image.info.get("transparency")
        image = _from_integers(values)
        if isinstance(hidden, int):  # one shade is, of a PNG
            image.putalpha(Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8)))
    elif image.mode == "F":
        image = _from_floats(np.asarray(image))
    if not image.has_transparency_data:
        return _opaque_to_srgb(image, profile)
    if image.mode == "La":  # premultiplied, which only its own kind is converted from
        image = image.convert("LA")
    shown = image.convert("RGBA")
    colours = shown.convert("RGB")
    if image.mode in ("L", "LA"):
        colours = colours.convert("L")
    opaque = _opaque_to_srgb(colours, profile)
    opaque.putalpha(shown.getchannel("A"))
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), opaque).convert("RGB")


def _from_integers(values: np.ndarray) -> Image.Image:
    """Grey of 8 to 16 bits, whatever the room it is stored in: of how many, the brightest pixel
    tells, since no file does."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= 2 ** _DEPTHS[-1]:
        raise DecodeError(f"expected samples of 8 to 16 bits but got {low} to {high}")
    depth = next(bits for bits in _DEPTHS if high < 2**bits)
    return Image.fromarray((values >> (depth - 8)).astype(np.uint8))


def _from_floats(values: np.ndarray) -> Image.Image:
    """Grey of 0 to 1 or of 0 to 255: the brightest pixel tells."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):  # nor nan
        raise DecodeError(
            f"expected floating point samples of 0 to 1 or of 0 to 255 but got {low:g} to {high:g}"
        )
    scale = 255 if high <= 1 else 1
    return Image.fromarray(np.round(values * scale).astype(np.uint8))


def _opaque_to_srgb(image: Image.Image, profile: object) -> Image.Image:
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode not in (*_PROFILED, "LAB"):
        image = image.convert("RGB")
    if isinstance(profile, bytes) and profile and image.mode in _PROFILED:
        if image.mode == "L" and profile[16:20] == b"RGB ":  # grey pictures often carry one
            image = image.convert("RGB")
        transform = _transform(profile, image.mode)
        if transform is not None:
            image = ImageCms.applyTransform(image, transform) or image
    return image.convert("RGB")


@lru_cache(_KEPT)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """To sRGB; None where there is nothing to do, or nothing that can be done."""
    try:
        transform = ImageCms.buildTransform(
            io.BytesIO(profile),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode == "CMYK":
            return transform
        probe = _probe(mode)
        shown = np.asarray(ImageCms.applyTransform(probe, transform), int)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return None
    same = np.abs(shown - np.asarray(probe.convert("RGB"), int)).max() <= _SAME
    return None if same else transform


def _probe(mode: str) -> Image.Image:
    """Colours all over the cube, or all greys."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(18, -1, 3)
    return Image.fromarray(np.ascontiguousarray(cube))
