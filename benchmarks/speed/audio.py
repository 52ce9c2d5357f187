"""python -m benchmarks.speed.audio DATA: how fast does sound become spectrograms, beside the usual
loop (librosa reads, resamples and draws mel spectrograms to PNG, one file at a time)?

`floor` is what cannot be saved of our CPU seconds: FFmpeg decodes every file, and one FFT after
another is computed, each alone and on one thread; `times_usual_loop_floor` is how many times as
fast as the usual loop, in CPU seconds, these two alone would be.

The sound of clips is first written to a WAV file by moviepy, as is usual; `pip install moviepy` in
an environment of its own, it wants an old Pillow.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks._harness import Parser, save_result
from ffdetect.evaluation.tables import markdown
from preprocess.cache.reader import SoundCache
from preprocess.cache.sound import SoundSettings
from preprocess.cache.writer import CacheWriter
from preprocess.io.formats import DecodeError
from preprocess.io.mel import sound_maps
from preprocess.io.sound import SoundReader
from preprocess.io.sources import Item, find_items
from preprocess.listen import Heard, listen
from preprocess.sound import cache_sound
from preprocess.work.cores import computing


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(str(__doc__))
    add = parser.add_argument
    add("data", type=Path, help="a folder of audio files, or of clips")
    add("--clips", action="store_true", help="take the clips with sound there, not audio files")
    add("--files", type=int, default=385, help="at most (%(default)s)")
    add(
        "--repeat",
        type=int,
        nargs="+",
        default=[1, 10],
        help="list each file so often: the "
        "start of worker processes weighs less in more files (%(default)s)",
    )
    add("--rounds", type=int, default=3, help="of both, taking turns (%(default)s)")
    add("--workers", type=int, default=2, help="(%(default)s)")
    parser.add_out("audio_speed")
    args = parser.parse_args(argv)
    items = find_items(args.data, media=("clip",) if args.clips else ("clip", "sound")).items
    items = [item for item in items if has_sound(item.local)][: args.files]
    with tempfile.TemporaryDirectory() as folder:
        usual_loop(items[:2], Path(folder))  # librosa compiles on its first call
        runs = [compare(repeated(items, times), args.rounds, args.workers) for times in args.repeat]
    answer = {
        "cores": os.cpu_count(),
        "workers": args.workers,
        "runs": runs,
        "note": "ours with the start of its worker processes and the writing of the cache; "
        "CPU seconds of all processes together, which other work on the machine does not stretch",
    }
    save_result(args.out, parser.command(argv), answer, table(answer))
    return 0


def table(answer: dict) -> str:
    """Of every figure of several rounds the median."""
    columns = list(answer["runs"][0])
    rows = [[_cell(run[name]) for name in columns] for run in answer["runs"]]
    conditions = f"{answer['cores']} cores, {answer['workers']} workers; {answer['note']}."
    return f"{conditions}\n\n{markdown(columns, rows)}"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return f"{np.median(value):.6g}"


def has_sound(file: Path) -> bool:
    try:
        with SoundReader(file):
            return True
    except DecodeError:
        return False


def repeated(items: Sequence[Item], times: int) -> list[Item]:
    return [replace(item, path=f"{n}/{item.path}") for n in range(times) for item in items]


def compare(items: Sequence[Item], rounds: int, workers: int) -> dict:
    ours, usual = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "cache")
            with Stopwatch() as watch, CacheWriter(out, SoundSettings()) as writer:
                cache_sound(items, writer, workers=workers, quiet=True)
            ours.append(watch)
            seconds = float(SoundCache(out).metadata["seconds"].sum())
            with Stopwatch() as watch:
                usual_loop(items, Path(folder))
            usual.append(watch)
    floor = {"decoding": decoding(items), "spectrograms": spectrograms(items)}
    middle, middle_usual = (np.median([w.seconds for w in watches]) for watches in (ours, usual))
    cpu, cpu_usual = (np.median([w.cpu_seconds for w in watches]) for watches in (ours, usual))
    return {
        "files": len(items),
        "seconds_of_sound": round(seconds, 1),
        "ours_seconds": [round(watch.seconds, 2) for watch in ours],
        "usual_seconds": [round(watch.seconds, 2) for watch in usual],
        "ours_cpu_seconds": [round(watch.cpu_seconds, 2) for watch in ours],
        "usual_cpu_seconds": [round(watch.cpu_seconds, 2) for watch in usual],
        "floor_cpu_seconds": {what: round(spent, 2) for what, spent in floor.items()},
        "times_real_time": round(seconds / middle, 1),
        "times_usual_loop": round(middle_usual / middle, 2),
        "times_usual_loop_cpu": round(cpu_usual / cpu, 2),
        "times_usual_loop_floor": round(cpu_usual / sum(floor.values()), 2),
    }


def decoding(items: Sequence[Item]) -> float:
    """CPU seconds of FFmpeg, with nothing done to what it decodes."""
    import av

    with Stopwatch() as watch:
        for item in items:
            with av.open(str(item.file)) as container:
                for _ in container.decode(audio=0):
                    pass
    return watch.cpu_seconds


def spectrograms(items: Sequence[Item]) -> float:
    """CPU seconds of the maps of what is cached of these files."""
    settings = SoundSettings()
    heard = [listen(item, settings.seconds, settings.windows) for item in items]
    windows = [w for one in heard if isinstance(one, Heard) for _, w in one.windows]
    samples = [torch.from_numpy(window / np.float32(32767))[None] for window in windows]
    with Stopwatch() as watch, computing(1):
        for window in samples:
            sound_maps(window)
    return watch.cpu_seconds


class Stopwatch:
    """Seconds on the wall, and of CPU in this process and those that it started and ended."""

    def __enter__(self) -> Stopwatch:
        self._start = time.monotonic(), _cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._start[0]
        self.cpu_seconds = _cpu_seconds() - self._start[1]


def _cpu_seconds() -> float:
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(who)[:2]) for who in whose)


def usual_loop(items: Sequence[Item], folder: Path) -> None:
    import librosa

    for number, item in enumerate(items):
        file = sound_of_clip(item.local, folder) if item.is_video else item.file
        samples, rate = librosa.load(file, sr=16_000)
        mel = librosa.feature.melspectrogram(
            y=samples, sr=rate, n_fft=512, win_length=400, hop_length=160, n_mels=80
        )
        level = librosa.power_to_db(mel, ref=np.max)
        grey = np.clip((level + 80) / 80 * 255, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), grey)


def sound_of_clip(file: Path, folder: Path) -> Path:
    from moviepy import VideoFileClip

    wav = folder / "sound.wav"
    with VideoFileClip(str(file)) as clip:
        clip.audio.write_audiofile(str(wav), logger=None)
    return wav


if __name__ == "__main__":
    sys.exit(main())
