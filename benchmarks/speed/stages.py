"""What every stage of `ffdetect crop` takes, maps too; `benchmarks.speed.preprocess` prints it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import cv2

from preprocess import crop, extract
from preprocess.cache.faces import MAPS, CacheSettings
from preprocess.cache.writer import CacheWriter
from preprocess.faces import mtcnn, mtcnn_interface, tracks
from preprocess.faces.detect import FaceDetector
from preprocess.io.clips import key_frames
from preprocess.io.sources import find_items


def time_stages(folder: Path, frames: int, out: Path) -> dict[str, float]:
    """CPU milliseconds a picture that every stage takes in one process with one thread."""
    spent: defaultdict[str, float] = defaultdict(float)
    looks = 0

    def timed(stage: str, function: Callable) -> Callable:
        def run(*args, **options):
            start = time.thread_time()  # the writer has a thread of its own
            try:
                return function(*args, **options)
            finally:
                spent[stage] += time.thread_time() - start

        return run

    def timed_frames(*args, **options):
        stream = key_frames(*args, **options)
        while (frame := timed("decode", next)(stream, None)) is not None:
            yield frame

    def counted(search: Callable) -> Callable:
        def run(*args):
            nonlocal looks
            looks += 1
            return search(*args)

        return run

    settings = CacheSettings(maps=MAPS, frames=frames)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    with ExitStack() as stack:

        def watch(owner: object, name: str, stage: str) -> None:
            stack.enter_context(patch.object(owner, name, timed(stage, getattr(owner, name))))

        watch(extract, "decode_image", "decode")
        stack.enter_context(patch.object(tracks, "key_frames", timed_frames))
        for search in ("detect", "largest"):
            watch(FaceDetector, search, "detect")
            counting = counted(getattr(FaceDetector, search))
            stack.enter_context(patch.object(FaceDetector, search, counting))
        watch(mtcnn._Sums, "__init__", "sums")
        watch(mtcnn._Sums, "scaled", "pyramid")
        watch(mtcnn._Sums, "cut", "candidates")
        watch(mtcnn_interface.Networks, "propose", "PNet")
        watch(mtcnn_interface.Networks, "refine", "RNet")
        watch(mtcnn_interface.Networks, "finish", "ONet")
        watch(extract, "crop_face", "align")
        watch(tracks, "crop_face", "align")
        watch(extract, "spectrum", "maps")
        watch(extract, "residual", "maps")
        watch(extract, "to_table", "encode")
        watch(CacheWriter, "add_table", "write")
        start = time.process_time()
        with CacheWriter(out, settings, overwrite=True) as writer:
            crop.crop_items(find_items(folder).items, writer, quiet=True)
        spent["all"] = time.process_time() - start
    cv2.setNumThreads(threads)
    parts = ("sums", "pyramid", "PNet", "candidates", "RNet", "ONet")
    spent["boxes"] = spent.pop("detect") - sum(spent[part] for part in parts)
    order = ("decode", *parts, "boxes", "align", "maps", "encode", "write")
    spent["rest"] = spent["all"] - sum(spent[stage] for stage in order)
    return {stage: spent[stage] / max(looks, 1) * 1000 for stage in (*order, "rest", "all")}
