"""python -m ffdetect.solving.statistics FRAMES --out STORE: what the streams' heads learn from.

FRAMES are caches of faces with room around them (`preprocess.crop --size 388 --margin 0.35 --native
1`), and of pairs made of them (`ffdetect regenerate`). Every face is seen as the matched protocol
has it and, with --degraded N, in N random degraded views (`views`); what the readers of a network
tell of them goes into STORE, part by part, so that a stopped run goes on where it was.
`ffdetect.solving.solve` takes it from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ffdetect.evaluation.kept import save_arrays
from ffdetect.models.device import PRECISIONS
from ffdetect.models.frozen.readers import READERS, create_readers
from ffdetect.models.frozen.trunks import trunk_digest
from preprocess.arguments import finish, new_parser
from preprocess.cache.reader import CacheReader
from preprocess.io.storage import as_path, write_json

from .views import FRAME_MARGIN, FRAME_SIDE, degraded, matched

PROG = "python -m ffdetect.solving.statistics"
FORMAT = 4
_PART = 32  # faces of one file
_AT_ONCE = 4  # more leave a processor's caches, and each takes longer
MATCHED = "matched"
_PAIR = re.compile(r"(?P<path>.+)#-?\d+#\d+@(?P<regenerator>[^@]+)@(?P<target>[01])", re.DOTALL)


@dataclass(frozen=True)
class Statistics:
    """Attributes:
    keys: str N, PATH#FRAME of every face.
    values: reader -> float16 N x features.
    digests: str N, `frame_digest` of every face, and the precision of the readers; None of parts
        that were written before they were kept.
    """

    keys: np.ndarray
    values: dict[str, np.ndarray]
    digests: np.ndarray | None = None
    precision: str | None = None


def view_of(frame: np.ndarray, key: str, view: str, large: bool) -> np.ndarray:
    """A framed face in one view: uint8 388 x 388 x 3 -> 320 x 320 x 3.

    Args:
        key: of the face, PATH#FRAME.
        view: `MATCHED`, or the name of a degraded one, which decides it together with the key.
        large: the face was shrunk to the frame.
    """
    return matched(frame, large) if view == MATCHED else degraded(frame, f"{key}#{view}", large)


class Store:
    """Statistics of faces on disk, one folder for readers of one network.

    Args:
        folder: made if it is not there.
        readers: names from `READERS`; those that wrote the folder if None.

    Raises:
        ValueError: the folder holds statistics of other readers or of other trunks.
    """

    def __init__(self, folder: Path, readers: Sequence[str] | None = None) -> None:
        self.folder = folder
        file = folder / "store.json"
        known = json.loads(file.read_text("utf-8")) if file.exists() else None
        if readers is None:
            if known is None:
                raise ValueError(f"{folder}: expected a store of statistics but found none")
            readers = list(known["readers"])
        unknown = [name for name in readers if name not in READERS]
        if unknown:
            raise ValueError(f"{folder}: expected readers among {sorted(READERS)}, not {unknown}")
        self.readers = list(readers)
        about = {
            "format": FORMAT,
            "readers": {name: trunk_digest(READERS[name].trunk) for name in self.readers},
        }
        if known is None:
            write_json(file, about)
        elif known != about:
            raise ValueError(f"{folder}: expected statistics of {about} but got those of {known}")

    def parts(self, view: str) -> list[Path]:
        """The files of a view."""
        return sorted(self.folder.glob(f"{view}-*.npz"))

    def read(self, view: str) -> Statistics:
        """Everything known of a view.

        Raises:
            ValueError: there is nothing, or what there is does not belong together: several
                precisions, or two faces of one key.
        """
        parts = [_load(file, self.readers) for file in self.parts(view)]
        if not parts:
            raise ValueError(f"{self.folder}: expected faces in the view {view!r} but got none")
        first = parts[0]
        for part in parts:
            if part.precision != first.precision:
                raise ValueError(
                    f"{self.folder}: expected the view {view!r} in one precision but got "
                    f"{first.precision} and {part.precision}"
                )
        keys = np.concatenate([part.keys for part in parts])
        told = [part.digests for part in parts if part.digests is not None]
        digests = np.concatenate(told) if told else None  # of one precision, all have them or none
        found, rows, places = np.unique(keys, return_index=True, return_inverse=True)
        if digests is not None:
            other = np.flatnonzero(digests != digests[rows][places])
            if len(other):
                raise ValueError(
                    f"{self.folder}: expected one face of a key but got two of {keys[other[0]]}"
                )
            digests = digests[rows]
        values = {
            name: np.concatenate([part.values[name] for part in parts])[rows]
            for name in self.readers
        }
        return Statistics(found, values, digests, first.precision)

    def write(self, view: str, statistics: Statistics) -> None:
        """Add a part, whole or not at all. It is named after its faces: two runs at once may do a
        part twice, and lose none."""
        made = statistics.keys.tolist()
        arrays: dict[str, Any] = {"keys": statistics.keys, **statistics.values}
        if statistics.digests is not None and statistics.precision is not None:
            made += [*statistics.digests.tolist(), statistics.precision]
            arrays |= {"digests": statistics.digests, "precision": statistics.precision}
        named = hashlib.sha256("\n".join(made).encode()).hexdigest()[:16]
        save_arrays(self.folder / f"{view}-{named}.npz", **arrays)

    def missing(
        self, view: str, keys: Sequence[str], digest: Callable[[int], str], precision: str
    ) -> list[int]:
        """Positions of the keys that a view lacks.

        Args:
            digest: `frame_digest` of the face at a position; asked for where the key is known.
            precision: in which the others will be read.

        Raises:
            ValueError: what is known was read in another precision or from other faces of these
                keys, or it is not known from what.
        """
        known: dict[str, str] = {}
        for file in self.parts(view):
            part = _load(file, ())
            if part.digests is None:
                raise ValueError(
                    f"{file}: expected statistics that say what they were read from but these are "
                    "of a version before: they can be solved as they are; choose another --out to "
                    "read more (ffdetect solve takes several)"
                )
            if part.precision != precision:
                raise ValueError(
                    f"{file}: expected statistics in {precision} but got {part.precision}: go on "
                    f"with --precision {part.precision}, or choose another --out"
                )
            known.update(zip(part.keys.tolist(), part.digests.tolist(), strict=True))
        rest = []
        for number, key in enumerate(keys):
            if key not in known:
                rest.append(number)
            elif known[key] != digest(number):
                raise ValueError(
                    f"{self.folder}: expected statistics of the same face {key} but got those of "
                    "another cache's: choose another --out"
                )
        return rest


def _load(file: Path, readers: Sequence[str]) -> Statistics:
    """A part, with the values of some readers."""
    with np.load(file) as part:  # never pickle
        values = {name: part[name] for name in readers}
        if "digests" not in part:
            return Statistics(part["keys"], values)
        return Statistics(part["keys"], values, part["digests"], str(part["precision"]))


def frame_digest(frame: np.ndarray) -> str:
    """What tells a face from others of its key: of uint8 H x W x 3, 16 letters of SHA-256."""
    return hashlib.sha256(frame.tobytes()).hexdigest()[:16]


def face_keys(reader: CacheReader) -> list[str]:
    """PATH#FRAME of every row; of pairs (`ffdetect regenerate`), which share that, their own."""
    columns = (reader.metadata[name] for name in ("key", "path", "frame", "target"))
    return [
        key if key == f"{path}@{target}" else f"{path}#{frame}"
        for key, path, frame, target in zip(*columns, strict=True)
    ]


class Known(NamedTuple):
    """What a face's key says.

    Attributes:
        path: of the picture or clip.
        regenerator: of pairs, whose pixels the fake one has; "" of all other faces.
        target: 0 or 1 of pairs.
    """

    path: str
    regenerator: str
    target: int

    @classmethod
    def of(cls, key: str) -> Known:
        """Read what `face_keys` wrote."""
        if pair := _PAIR.fullmatch(key):
            return cls(pair["path"], pair["regenerator"], int(pair["target"]))
        return cls(key.rpartition("#")[0], "", -1)


def large_faces(reader: CacheReader) -> np.ndarray:
    """bool N, of every row: whether its face was shrunk to the crop."""
    boxes = np.stack(list(reader.metadata["box"])) if len(reader) else np.zeros((0, 4))
    crop = reader.settings.crop
    return (boxes[:, 2:] - boxes[:, :2]).max(1) * (1 + 2 * crop.margin) > crop.size


@torch.inference_mode()
def read_statistics(
    readers: nn.ModuleDict,
    frames: CacheReader,
    rows: Sequence[int],
    view: str,
    precision: str = "fp32",
) -> Iterator[Statistics]:
    """Statistics of some rows of a cache, part by part.

    Args:
        precision: of the readers, "fp32" or "bf16", see `Detector.load`.
    """
    dtype = PRECISIONS[precision]
    keys, large = face_keys(frames), large_faces(frames)
    if view != MATCHED:
        large &= ~(frames.metadata["frame"].to_numpy() >= 0)  # see `views`
    for start in range(0, len(rows), _PART):
        own = rows[start : start + _PART]
        faces = [frames.crop(row) for row in own]
        pictures = np.stack(
            [view_of(x, keys[row], view, large[row]) for x, row in zip(faces, own, strict=True)]
        )
        crops = torch.from_numpy(pictures).movedim(-1, 1)
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            values = {
                name: torch.cat([reader(few) for few in crops.split(_AT_ONCE)]).half().numpy()
                for name, reader in readers.items()
            }
        named, told = np.array([keys[row] for row in own]), np.array([*map(frame_digest, faces)])
        yield Statistics(named, values, told, precision)


def open_frames(paths: Sequence[Path]) -> CacheReader:
    """Caches of framed faces.

    Raises:
        ValueError: faces are cut out otherwise, or several share a key.
    """
    frames = CacheReader(paths)
    crop = frames.settings.crop
    if (crop.size, crop.margin, crop.native, crop.detail) != (FRAME_SIDE, FRAME_MARGIN, 1.0, 0):
        raise ValueError(
            f"{paths[0]}: expected faces cut out with --size {FRAME_SIDE} --margin {FRAME_MARGIN} "
            f"--native 1 --detail 0 but got {crop}"
        )
    repeated = [key for key, count in Counter(face_keys(frames)).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{' '.join(map(str, paths))}: expected one face of a picture or frame but got several "
            f"of {repeated[0]} ({len(repeated)} are so): crop with --faces largest, and give files "
            "of several caches names of their own"
        )
    return frames


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__, "cache/frames --out cache/statistics")
    add = parser.add_argument
    add("frames", nargs="+", type=as_path, metavar="FRAMES", help="caches of framed faces")
    add("--out", type=Path, required=True, metavar="STORE")
    add("--readers", default=",".join(READERS), help="(%(default)s)")
    add("--degraded", type=int, default=1, metavar="N", help="views of each face (%(default)s)")
    add(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16: faster on CPUs with AMX or avx512_bf16 (%(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0; 2 for wrong arguments; 130 when stopped, and the next run goes on."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    views = (MATCHED, *(f"P{number}" for number in range(1, args.degraded + 1)))
    try:
        frames = open_frames(args.frames)
        store = Store(args.out, args.readers.split(","))
        keys, digest = face_keys(frames), cache(lambda row: frame_digest(frames.crop(row)))
        missing = {view: store.missing(view, keys, digest, args.precision) for view in views}
    except ValueError as error:
        parser.error(str(error))
    readers = create_readers(store.readers)
    try:
        for view, rows in missing.items():
            with tqdm(total=len(rows), unit="face", desc=view) as bar:
                for part in read_statistics(readers, frames, rows, view, args.precision):
                    store.write(view, part)
                    bar.update(len(part.keys))
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from {args.out}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    finish(main)
