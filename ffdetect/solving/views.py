"""Views of a framed face that heads learn from: the matched protocol's, and degraded ones.

A frame is a face with .35 of its box around it at 388 px, so that the protocol's square (a fifth
around the box, 320 px) is its middle, and others can be cut out without resampling. Real and fake
go through the same chain: a framing, a first life (scale, tone, blur, noise, a coding by JPEG,
WebP or a video codec), 320 px, and often a second coding, as pictures do that are passed on.

Many pictures hold a face in some 200 px. One that was larger has more detail in its frame, and
which collections have such faces says nothing of real and fake; as in crops that are scored, it has
no more than others (`CropSettings.detail`). Degraded views of frames of clips, whose real and fake
faces are alike in size, keep it.
"""

from __future__ import annotations

import io
import zlib

import av
import cv2
import numpy as np
from PIL import Image

from ffdetect.evaluation.framing import FRAME
from preprocess.faces.crop import limit_detail

FRAME_SIDE, SIDE = 388, FRAME.size
FRAME_MARGIN = 0.35
_DETAIL = round(FRAME.detail * FRAME_SIDE / SIDE)  # pixels across the frame of a large face
_VIDEO_CODECS = ("libx264", "libx264", "libx265", "libvpx-vp9")


def matched(frame: np.ndarray, large: bool) -> np.ndarray:
    """uint8 388 x 388 x 3 -> the protocol's 320 x 320 x 3, coded as JPEG 85.

    Args:
        large: the face was shrunk to the frame.
    """
    return jpeg(middle(limit_detail(frame, _DETAIL) if large else frame), 85)


def middle(frame: np.ndarray) -> np.ndarray:
    """The protocol's square before it is coded: uint8 320 x 320 x 3."""
    start = (len(frame) - SIDE) // 2
    return np.ascontiguousarray(frame[start : start + SIDE, start : start + SIDE])


def degraded(frame: np.ndarray, key: str, large: bool = False) -> np.ndarray:
    """A random view: uint8 388 x 388 x 3 -> 320 x 320 x 3.

    Args:
        key: decides everything; the same key gives the same view.
        large: the face was shrunk to the frame: by whoever passed it on, or when it was cut out.
    """
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    before = large and rng.random() < 0.5
    if before:
        frame = limit_detail(frame, _DETAIL)
    x = _tone(_rescaled(_framed(frame, rng), rng), rng)
    x = coded(x, rng)
    if len(x) > SIDE:
        x = cv2.resize(x, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    elif len(x) < SIDE:
        how = [cv2.INTER_LINEAR, cv2.INTER_CUBIC][rng.integers(2)]
        x = cv2.resize(x, (SIDE, SIDE), interpolation=how)
    if rng.random() < 0.5:
        x = jpeg(x, rng.uniform(60, 95))
    if large and not before:
        x = limit_detail(x, FRAME.detail)
    return np.ascontiguousarray(x)


def _framed(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = int(np.clip(rng.normal(SIDE - 2, 22), 262, FRAME_SIDE))
    corner = (FRAME_SIDE - side) / 2 + rng.uniform(-12, 12, 2)
    left, top = np.clip(np.round(corner), 0, FRAME_SIDE - side).astype(int)
    x = frame[top : top + side, left : left + side]
    return np.ascontiguousarray(x[:, ::-1] if rng.random() < 0.5 else x)


def _rescaled(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= 0.55:
        return x
    side = max(96, int(len(x) * rng.uniform(0.4, 1.0)))
    how = [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC][rng.integers(3)]
    return cv2.resize(x, (side, side), interpolation=how)


def _tone(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma, contrast and colour; blur; sharpening; noise; seldom grey."""
    y: np.ndarray = x.astype(np.float32)
    if rng.random() < 0.25:
        y = 255 * np.clip(y / 255, 0, 1) ** np.exp(rng.normal(0, 0.18))
        y = (y - 128) * rng.uniform(0.85, 1.15) + 128 + rng.uniform(-12, 12)
        y = y * (1 + rng.normal(0, 0.03, 3).astype(np.float32))
    if rng.random() < 0.15:
        y = cv2.GaussianBlur(y, (0, 0), rng.uniform(0.3, 1.3))
    if rng.random() < 0.12:
        amount = rng.uniform(0.3, 1.0)
        y = y + amount * (y - cv2.GaussianBlur(y, (0, 0), 1.0))
    if rng.random() < 0.15:
        y = y + rng.normal(0, rng.uniform(1, 6), y.shape)
    if rng.random() < 0.03:
        y = np.repeat(y.mean(2, keepdims=True), 3, 2)
    return np.clip(np.round(y), 0, 255).astype(np.uint8)


def coded(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """By one of the codings that faces are met in, or by none."""
    choice = rng.random()
    if choice < 0.5:
        return jpeg(x, rng.uniform(35, 95), rng.choice([0, 2, 2]))
    if choice < 0.65:
        return recoded(x, "WEBP", quality=int(rng.uniform(40, 95)))
    if choice < 0.85:
        codec = str(rng.choice(_VIDEO_CODECS))
        low, high = (25, 45) if codec == "libvpx-vp9" else (18, 34)
        return as_clip(x, codec, rng.uniform(low, high), rng)
    return x


def jpeg(x: np.ndarray, quality: float, subsampling: int = 2) -> np.ndarray:
    """Code and decode uint8 H x W x 3 RGB."""
    return recoded(x, "JPEG", quality=int(quality), subsampling=int(subsampling))


def recoded(x: np.ndarray, coding: str, **options: int) -> np.ndarray:
    """What a lossy coding of Pillow leaves of uint8 H x W x 3 RGB."""
    stream = io.BytesIO()
    Image.fromarray(x).save(stream, coding, **options)
    return np.asarray(Image.open(stream).convert("RGB"))


def as_clip(x: np.ndarray, codec: str, crf: float, rng: np.random.Generator) -> np.ndarray:
    """One of four frames of a clip in which the picture drifts a little."""
    height, width = (side - side % 2 for side in x.shape[:2])
    x = np.ascontiguousarray(x[:height, :width])
    options = {"crf": str(int(crf)), "preset": "veryfast"}
    if codec == "libvpx-vp9":
        options = {"crf": str(int(crf)), "b:v": "0", "deadline": "realtime", "cpu-used": "8"}
    if codec == "libx264":  # its macroblock tree comes out otherwise at times, with AVX-512
        options["x264-params"] = "mbtree=0"
    if codec == "libx265":
        options["x265-params"] = "log-level=none:pools=1"
    stream = io.BytesIO()
    with av.open(stream, "w", format="matroska") as out:
        coded = out.add_stream(codec, rate=25, options=options)
        coded.width, coded.height, coded.pix_fmt = width, height, "yuv420p"
        coded.codec_context.thread_count = 1
        dx, dy = rng.uniform(-1, 1, 2)
        for number in range(4):
            shift = np.array([[1, 0, dx * number * 0.7], [0, 1, dy * number * 0.7]], np.float32)
            moved: np.ndarray = x
            if number:
                moved = cv2.warpAffine(x, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
            picture = av.VideoFrame.from_ndarray(moved, format="rgb24")
            out.mux(coded.encode(picture))
        out.mux(coded.encode(None))
    stream.seek(0)
    with av.open(stream) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    return frames[int(rng.integers(0, len(frames)))]
