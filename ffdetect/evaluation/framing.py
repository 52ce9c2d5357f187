"""python -m ffdetect.evaluation.framing DATA --out CACHE: one framing and compression for all.

Collected real and fake pictures differ in JPEG quality, size, subject and framing, and a detector
that learns these differences scores high and knows nothing. Under the matched protocol every
picture is first cut to a square around its largest face (a fifth of the face's side added all
around), resized to 320 px and saved as JPEG 85, larger ones with no more detail than 176 px hold;
what is cached is what the face path then finds in that file; a clip gives some frames. `matching`
says which reals fakes are compared with.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from PIL import Image
from tqdm import tqdm

from preprocess.arguments import finish, new_parser
from preprocess.cache.errors import Failure
from preprocess.cache.faces import CacheSettings
from preprocess.cache.writer import CacheWriter
from preprocess.extract import face_rows
from preprocess.faces.crop import crop_face, crop_whole
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import CropSettings
from preprocess.io.clips import decode_video
from preprocess.io.decode import DecodeError, Picture, decode_image
from preprocess.io.sources import Item, find_items

FRAME = CropSettings(size=320, margin=0.2, align="box", native=1.0, detail=176)
JPEG_QUALITY = 85
MATCHED = f"matched: {FRAME.size} px, JPEG {JPEG_QUALITY}"
RAW = "raw: confounded"


def match(picture: Picture, detector: FaceDetector) -> bytes:
    """A picture as the protocol's JPEG file; without a face the whole picture is framed."""
    face = detector.largest(picture.pixels)
    framed = crop_face(picture.pixels, face, FRAME) if face else crop_whole(picture.pixels, FRAME)
    stream = io.BytesIO()
    Image.fromarray(framed).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


def _pictures(item: Item, settings: CacheSettings) -> Iterable[Picture]:
    if item.is_video:
        return decode_video(item.local, frames=settings.frames)
    return [decode_image(item.file)]


def _matched(picture: Picture, detector: FaceDetector) -> Picture:
    return replace(decode_image(match(picture, detector)), frame=picture.frame)


def framing(faces: pd.DataFrame) -> str:
    """`MATCHED` if every face comes from a file of the protocol's size and quality, else `RAW`.

    Args:
        faces: as `CacheReader.metadata`.
    """
    square = (faces["source_width"] == FRAME.size) & (faces["source_height"] == FRAME.size)
    same = square & (faces["jpeg_quality"] == JPEG_QUALITY)
    return MATCHED if len(faces) and same.all() else RAW


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(
        "python -m ffdetect.evaluation.framing", __doc__, "data/ --out cache/matched"
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="pictures and clips with labels")
    parser.add_argument("--out", type=Path, required=True, help="the cache of matched faces")
    parser.add_argument("--split", help="only this split (default: all)")
    parser.add_argument("--frames", type=int, default=8, help="of a clip (%(default)s)")
    args = parser.parse_args(argv)
    try:
        items = [i for i in find_items(args.data).items if args.split in (None, i.split)]
        settings = CacheSettings(maps=(), frames=args.frames)
        with CacheWriter(args.out, settings) as writer:
            detector = FaceDetector(settings.crop)
            for item in tqdm([i for i in items if i.path not in writer.done], unit="file"):
                try:
                    rows = [
                        row
                        for picture in _pictures(item, settings)
                        for row in face_rows(item, _matched(picture, detector), detector, settings)
                    ]
                except DecodeError as error:
                    writer.fail(Failure(item.path, "unreadable", str(error)))
                    continue
                if rows:
                    writer.add(rows)
                else:
                    writer.fail(Failure(item.path, "no_face", "no face in the matched picture"))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{writer.faces} matched faces in {args.out} ({time.strftime('%Y-%m-%d')})")
    return 0 if writer.faces else 1


if __name__ == "__main__":
    finish(main)
