"""python -m tests.golden: write golden.json anew, after a change that is meant to move scores.

Everything is made here: a public-domain portrait, a lossless clip of it, a synthetic voice. So what
the shipped weights say of them depends on the face path, the maps, the networks, the calibrations
and the weights, and on nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from ffdetect import Detector
from ffdetect.voice import VoiceDetector
from preprocess.faces.crop import crop_face
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import CropSettings
from preprocess.faces.maps import residual, spectrum
from preprocess.io.decode import decode_image

from .preprocess.sounds import buzz

FILE = Path(__file__).with_name("golden.json")
_RATE, _FPS, _FRAMES = 16_000, 10, 30


def measure(portrait: np.ndarray) -> dict[str, dict[str, float] | dict[str, str] | list]:
    """The golden values of the code as it is.

    Args:
        portrait: uint8 512 x 512 x 3 RGB with one face, `skimage.data.astronaut()`.

    Returns:
        scores: name -> probability of fake by the shipped weights.
        hashes: of bytes that are the same on every machine.
        spectrum: mean of each of 8 x 5 blocks of the face's spectrum.
        resampled: mean colour of each of 4 x 4 blocks of a crop of a shrunk picture.
    """
    detector = Detector.load(device="cpu")
    faces = FaceDetector(CropSettings())
    pixels = decode_image(turned_file(portrait, "PNG")).pixels
    crop = crop_face(pixels, faces.detect(pixels)[0], CropSettings())
    batch = torch.from_numpy(crop).permute(2, 0, 1)[None]
    shrunk = np.array(Image.fromarray(portrait).resize((300, 300), Image.Resampling.LANCZOS))
    resampled = crop_face(shrunk, faces.detect(shrunk)[0], CropSettings())
    with tempfile.TemporaryDirectory() as folder:
        clip = detector.score_video(write_clip(Path(folder) / "clip.mkv", portrait))
    return {
        "scores": {
            "picture": detector.score(turned_file(portrait, "PNG")),
            "picture, JPEG": detector.score(turned_file(portrait, "JPEG", quality=90)),
            "picture, flip+crops": detector.score(portrait, tta="flip+crops"),
            "clip": clip.score,
            "clip, faces": clip.face,
            "clip, voice": clip.voice,
            "voice": VoiceDetector.load().score(buzz(4.0)),
        },
        "hashes": {
            "crop": _hash(crop),
            "residual": _hash(residual(batch, "npr").numpy()),
        },
        "spectrum": _means(spectrum(batch)[0].float().numpy(), 8, 5),
        "resampled": _means(resampled.mean(2), 4, 4),
    }


def turned_file(portrait: np.ndarray, format: str, **options: int) -> bytes:
    """The portrait lying on its side, with the tag that says how it is shown."""
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(portrait)).save(stream, format, exif=exif, **options)
    return stream.getvalue()


def write_clip(file: Path, portrait: np.ndarray) -> Path:
    """Three seconds without loss: the portrait, drifting, and a synthetic voice."""
    samples = np.round(buzz(_FRAMES / _FPS, _RATE) * 32767).astype(np.int16)
    with av.open(str(file), "w") as container:
        video = container.add_stream("ffv1", rate=_FPS)
        video.height, video.width = portrait.shape[:2]
        video.pix_fmt = "bgr0"
        sound = container.add_stream("pcm_s16le", rate=_RATE, layout="mono")
        for number in range(_FRAMES):
            pixels = np.ascontiguousarray(np.roll(portrait, 2 * number, axis=1))
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = _RATE, 0, Fraction(1, _RATE)
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return file


def _hash(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _means(values: np.ndarray, rows: int, columns: int) -> list[list[float]]:
    blocks = (np.array_split(row, columns, axis=1) for row in np.array_split(values, rows))
    return [[round(float(block.mean()), 3) for block in row] for row in blocks]


def main() -> int:
    from skimage.data import astronaut

    text = json.dumps(measure(astronaut()), indent=1)
    text = re.sub(r"\[[^][]*\]", lambda row: " ".join(row[0].split()), text)
    FILE.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
