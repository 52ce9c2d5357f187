"""The family of a JPEG file's quantisation tables: which kind of encoder wrote it last.

Sources: Annex K of ITU-T T.81 and libjpeg's `jpeg_quality_scaling`; mozjpeg's default is a table by
N. Robidoux (ImageMagick); Photoshop's tables are those that Pillow ships as presets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL.JpegPresets import presets

from ffdetect.provenance.report import JpegTables
from preprocess.io.decode import Encoding
from preprocess.io.still.jpeg import JPEG_LUMINANCE, scaled_tables

# fmt: off
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)
_MOZJPEG = (
    16, 16, 16, 18, 25, 37, 56, 85, 16, 17, 20, 27, 34, 40, 53, 75,
    16, 20, 24, 31, 43, 62, 91, 135, 18, 27, 31, 40, 53, 74, 106, 156,
    25, 34, 43, 53, 69, 94, 131, 189, 37, 40, 62, 74, 94, 124, 169, 238,
    56, 53, 91, 106, 131, 169, 226, 311, 85, 75, 135, 156, 189, 238, 311, 418,
)
# fmt: on
_Tables = tuple[tuple[int, ...], ...]


def family_of(encoding: Encoding) -> JpegTables | None:
    """The family of the tables of a JPEG file; None for other files."""
    if len(encoding.luma) != 64:
        return None
    tables = (encoding.luma, encoding.chroma) if encoding.chroma else (encoding.luma,)
    family, quality = _known().get(_sorted(tables), ("other", None))
    return JpegTables(
        family, quality or encoding.quality, encoding.progressive, encoding.subsampling
    )


@cache
def _known() -> dict[_Tables, tuple[str, int | None]]:
    """Tables, sorted, with and without colour -> family, and quality on its scale."""
    known: dict[_Tables, tuple[str, int | None]] = {}

    def add(family: str, quality: int | None, luma: Sequence[int], chroma: Sequence[int]) -> None:
        for tables in ((luma,), (luma, chroma)):
            known.setdefault(_sorted(tables), (family, quality))

    for family, *own in (("ijg", JPEG_LUMINANCE, _CHROMA), ("mozjpeg", _MOZJPEG, _MOZJPEG)):
        scaled = (scaled_tables(np.array(table)).tolist() for table in own)
        for quality, (luma, chroma) in enumerate(zip(*scaled, strict=True), 1):
            add(family, quality, luma, chroma)
    for preset in presets.values():
        quantization: Any = preset["quantization"]
        add("photoshop", None, quantization[0], quantization[1])
    return known


def _sorted(tables: Iterable[Sequence[int]]) -> _Tables:
    """Without their order, which differs between zigzag and rows."""
    return tuple(tuple(sorted(table)) for table in tables)
