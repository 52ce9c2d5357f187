"""python -m benchmarks.audio_speed DATA: how fast does sound become spectrograms, beside the usual
loop (librosa reads, resamples and draws mel spectrograms to PNG, one file at a time)?"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from preprocess.audio import cache_sound
from preprocess.sound import SOUND_SUFFIXES
from preprocess.sound_cache import SoundCache, SoundSettings, SoundWriter
from preprocess.sources import Item, find_items


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audio_speed", description=__doc__)
    add = parser.add_argument
    add("data", type=Path, help="a folder of audio files")
    add("--files", type=int, default=385, help="at most (%(default)s)")
    add("--repeat", type=int, default=10, help="list each so often, so that the start of worker "
        "processes does not drown the rest (%(default)s)")  # fmt: skip
    add("--rounds", type=int, default=3, help="of both, taking turns (%(default)s)")
    add("--workers", type=int, default=2, help="(%(default)s)")
    add("--out", type=Path, default=Path("benchmarks/results/audio_speed.json"))
    args = parser.parse_args(argv)
    items = find_items(args.data, suffixes=SOUND_SUFFIXES).items[: args.files]
    items = [replace(item, path=f"{number}/{item.path}") for number in range(args.repeat)
             for item in items]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        usual_loop(items[:2], Path(folder))  # librosa compiles on its first call
        ours, usual = [], []
        for number in range(args.rounds):
            out = Path(folder, str(number))
            with SoundWriter(out, SoundSettings()) as writer:
                start = time.monotonic()
                cache_sound(items, writer, workers=args.workers, quiet=True)
            ours.append(time.monotonic() - start)
            start = time.monotonic()
            usual_loop(items, Path(folder))
            usual.append(time.monotonic() - start)
        seconds = float(SoundCache(out).metadata["seconds"].sum())
    answer = {
        "files": len(items),
        "seconds_of_sound": round(seconds, 1),
        "cores": os.cpu_count(),
        "workers": args.workers,
        "ours_seconds": [round(t, 2) for t in ours],
        "usual_seconds": [round(t, 2) for t in usual],
        "times_real_time": round(seconds / float(np.median(ours)), 1),
        "times_usual_loop": round(float(np.median(usual) / np.median(ours)), 2),
        "note": "ours with the start of its worker processes and the writing of the cache",
    }
    args.out.write_text(json.dumps(answer, indent=1) + "\n", "utf-8")
    print(json.dumps(answer, indent=1))
    return 0


def usual_loop(items: Sequence[Item], folder: Path) -> None:
    import librosa

    for number, item in enumerate(items):
        samples, rate = librosa.load(item.file, sr=16_000)
        mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=512, win_length=400,
                                             hop_length=160, n_mels=80)  # fmt: skip
        level = librosa.power_to_db(mel, ref=np.max)
        grey = np.clip((level + 80) / 80 * 255, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), grey)


if __name__ == "__main__":
    sys.exit(main())
