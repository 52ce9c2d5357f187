"""ffdetect plot CLIP --out FILE.png: the scores of a clip over time.

The scores of each track and of the voice, the frames with the highest and the lowest scores,
numbered as in the curves, and the mel spectrogram below. It shows what the scores are, not that
they are right.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from preprocess.arguments import check_outputs, new_parser, unwritten
from preprocess.io.formats import HOP, SAMPLE_RATE, DecodeError
from preprocess.io.mel import sound_maps
from preprocess.io.sound import SoundReader

from .clip import FrameScore, VideoScore
from .detector import Detector
from .sheet import new_sheet, save_sheet

PROG = "ffdetect plot"
FRAMES = 24
_SHOWN = 6  # frames as pictures
MOST_COLUMNS = 8000  # of a spectrogram; longer ones are halved
_BLOCK = 4.0  # seconds of sound at once
_TRACKS = 8  # with a colour of their own
_CAUTION = "Scores are no proof. They do not see whether lips and sound fit, nor who speaks."


def mel_over_time(clip: str | Path) -> tuple[np.ndarray, float]:
    """The log-mel spectrogram of a clip of any length.

    Returns:
        float32 80 x T in dB, and seconds of a column; T is 0 without sound.
    """
    columns: list[np.ndarray] = []
    count, pooled = 0, 1
    try:
        with SoundReader(clip) as reader:
            for block in reader.blocks(_BLOCK):
                mel = sound_maps(torch.from_numpy(block)[None])[0][0].numpy()
                mel = mel[:, : max(len(block) // HOP, 1)]
                columns.append(_pool(mel, pooled))
                count += columns[-1].shape[1]
                if count > MOST_COLUMNS:
                    columns, pooled = [_pool(np.concatenate(columns, 1), 2)], 2 * pooled
                    count = columns[0].shape[1]
    except DecodeError:
        if not columns:
            return np.zeros((80, 0), np.float32), HOP / SAMPLE_RATE
    return np.concatenate(columns, 1), pooled * HOP / SAMPLE_RATE


def _pool(mel: np.ndarray, columns: int) -> np.ndarray:
    starts = np.arange(0, mel.shape[1], columns)
    return np.maximum.reduceat(mel, starts, axis=1)


def frames_that_matter(seen: VideoScore, most: int = _SHOWN) -> list[FrameScore]:
    """The frames with the highest scores and as many with the lowest, in order of time."""
    ordered = sorted(seen.frames, key=lambda frame: -frame.score)
    if len(ordered) > most:
        ordered = [*ordered[: most - most // 2], *ordered[len(ordered) - most // 2 :]]
    return sorted(ordered, key=lambda frame: (frame.time, frame.track))


def plot_video(seen: VideoScore, file: str | Path) -> None:
    """Draw what `Detector.score_video` found as one PNG, about 1300 x 900; whole or not at all.

    The clip is read again for its sound.

    Raises:
        ImportError: matplotlib is missing.
        OSError: the file cannot be written.
    """
    figure = new_sheet(12, 8.2, _title(seen), _CAUTION)
    mel, step = mel_over_time(seen.name)
    shown = frames_that_matter(seen)
    end = max([mel.shape[1] * step, *(frame.time for frame in seen.frames), 0.1])
    parts = figure.subfigures(3, 1, squeeze=False, height_ratios=[2.6, 1.7, 2])
    top, middle, bottom = parts[:, 0]
    _draw_curves(top.subplots(), seen, shown, end)
    _draw_frames(middle, shown)
    _draw_sound(bottom.subplots(), mel, mel.shape[1] * step, end)
    save_sheet(figure, file)


def _title(seen: VideoScore) -> str:
    def number(score: float | None) -> str:
        return "none" if score is None or math.isnan(score) else f"{score:.2f}"

    parts = [
        f"{Path(seen.name).name[-80:]}: score {number(seen.score)}",
        f"face {number(seen.face)}",
        f"voice {number(seen.voice)}",
    ]
    notes = ["no face, scored whole"] if seen.whole else []
    notes += [*seen.notes, *([f"no voice: {seen.no_voice}"] if seen.no_voice else [])]
    return ", ".join([*parts, *(note[:80] for note in notes)])


def _draw_curves(axes, seen: VideoScore, shown: Sequence[FrameScore], end: float) -> None:
    for track in seen.tracks:
        times, scores = ([getattr(f, name) for f in track.frames] for name in ("time", "score"))
        colour, label = "0.7", None
        if track.track < _TRACKS:
            colour, label = f"C{track.track}", f"face, track {track.track}: {track.score:.2f}"
        axes.plot(times, scores, marker="o", markersize=4, color=colour, label=label)
    heard = [window for window in seen.windows if math.isfinite(window.score)]
    if heard:
        axes.hlines(
            [w.score for w in heard],
            [w.start for w in heard],
            [w.end for w in heard],
            color="black",
            linewidth=2,
            linestyle=":",
            label=f"voice: {seen.voice:.2f}",
        )
    for number, frame in enumerate(shown, 1):
        axes.annotate(
            str(number),
            (frame.time, frame.score),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axes.axhline(0.5, color="0.6", linewidth=0.8)
    axes.set(xlim=(0, end), ylim=(0, 1), xlabel="time [s]", ylabel="score (0.5 says nothing)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", fontsize=9)


def _draw_frames(figure, shown: Sequence[FrameScore]) -> None:
    for number, axes in enumerate(figure.subplots(1, _SHOWN), 1):
        axes.set_axis_off()
        if number <= len(shown):
            frame = shown[number - 1]
            axes.imshow(frame.crop)
            axes.set_title(
                f"{number}: {frame.time:.2f} s, track {frame.track}, {frame.score:.2f}", fontsize=9
            )


def _draw_sound(axes, mel: np.ndarray, seconds: float, end: float) -> None:
    axes.set(xlim=(0, end), xlabel="time [s]", ylabel="mel band (0 to 8 kHz)")
    if not mel.size:
        axes.text(0.5, 0.5, "no sound", ha="center", va="center", transform=axes.transAxes)
        axes.set_yticks([])
        return
    high = float(mel.max())
    axes.imshow(
        mel,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=high - 80,
        vmax=high,
        extent=(0, seconds, 0, len(mel)),
    )


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__, "clip.mp4 --out scores.png")
    add = parser.add_argument
    add("clip", type=Path, metavar="CLIP")
    add("--out", type=Path, required=True, metavar="FILE.png")
    add("--weights", type=Path, help="of faces: a file, or best or fast (default: best)")
    add("--frames", type=int, default=FRAMES, help="key frames to look at (%(default)s)")
    add("--no-voice", action="store_true", help="do not listen")
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0; 1 if the clip cannot be read or the plot not be written; 2 for wrong
    arguments."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    if args.frames < 1:
        parser.error(f"expected --frames of at least 1 but got {args.frames}")
    try:
        check_outputs({"--out": args.out}, (args.clip,))
        detector = Detector.load(args.weights, args.device)
    except ValueError as error:
        parser.error(str(error))
    try:
        seen = detector.score_video(args.clip, frames=args.frames, voice=not args.no_voice)
        plot_video(seen, args.out)
    except ImportError as error:
        parser.error(str(error))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        return unwritten(args.out, error)
    print(f"{seen.score:.2f} {args.out}")
    return 0
