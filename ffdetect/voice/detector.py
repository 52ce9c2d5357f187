"""VoiceDetector: sound in, a probability of a machine's voice out, over time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit

from preprocess.io.formats import SAMPLE_RATE
from preprocess.io.sound import NoSoundError, SoundReader, sound_blocks
from preprocess.work.cores import computing

from .network import VoiceNetwork
from .statistics import SHORTEST, WINDOW

WEIGHTS = Path(__file__).parents[1] / "weights" / "voice.safetensors"
_SILENCE = 1e-4  # peak, -80 dB of full scale
_ACTIVE = 0.1  # of the loudest window's level (-20 dB): quieter ones do not count for the whole


@dataclass(frozen=True)
class VoiceWindow:
    """What was heard in a stretch of sound.

    Attributes:
        start, end: in seconds.
        score: probability of fake, 0 to 1; nan for silence or a rest too short to judge.
        level: root mean square, 0 to 1.
    """

    start: float
    end: float
    score: float
    level: float


@dataclass(frozen=True)
class VoiceScore:
    """The voice of one recording.

    Attributes:
        score: probability of fake, 0 to 1: the mean logit of the windows loud enough to count.
        windows: the whole recording in order, whatever was heard.
        damaged: packets that could not be decoded, and were left out.
        notes: what was damaged or is missing, for people.
    """

    score: float
    windows: tuple[VoiceWindow, ...]
    damaged: int = 0
    notes: tuple[str, ...] = ()


class VoiceDetector:
    """Scores voices, computing with `threads` threads; see `load`."""

    def __init__(self, network: VoiceNetwork, threads: int = 1) -> None:
        self.network = network
        self.threads = threads

    @classmethod
    def load(cls, weights: str | Path | None = None, threads: int = 1) -> VoiceDetector:
        """The shipped weights, or a file written by `ffdetect.voice.train`.

        Args:
            threads: see `ffdetect.Detector.load`.

        Raises:
            WeightsError: the file cannot be used; the message says why.
        """
        with torch.device("cpu"):  # whatever the default is
            return cls(VoiceNetwork.load(weights or WEIGHTS), threads)

    def score(self, source: str | Path | np.ndarray, sample_rate: int = SAMPLE_RATE) -> float:
        """Probability that the voice was made by a machine; see `analyze`."""
        return self.analyze(source, sample_rate).score

    def analyze(
        self,
        source: str | Path | np.ndarray,
        sample_rate: int = SAMPLE_RATE,
        alive: Callable[[], None] = lambda: None,
    ) -> VoiceScore:
        """Score a recording window by window; one window is in memory at a time.

        Args:
            source: a clip or audio file, or samples (float -1 to 1 or int16, N or N x channels).
            sample_rate: of samples, in Hz.
            alive: called after every window.

        Raises:
            DecodeError: neither a clip nor sound, or damaged beyond reading.
            NoSoundError: no audio stream, less than 0.5 s of sound, or silence.
        """
        if isinstance(source, str | Path):
            with SoundReader(source) as reader:
                judged = self._judge(reader.blocks(WINDOW), str(source), alive)
                return replace(judged, damaged=reader.damaged, notes=tuple(reader.notes()))
        return self._judge(sound_blocks(source, sample_rate, WINDOW), "<samples>", alive)

    @torch.inference_mode()
    def _judge(
        self, blocks: Iterator[np.ndarray], name: str, alive: Callable[[], None]
    ) -> VoiceScore:
        windows, logits = [], []
        for number, block in enumerate(blocks):
            logit = float("nan")
            if len(block) >= SHORTEST * SAMPLE_RATE and np.abs(block).max() >= _SILENCE:
                exactly = torch.autocast("cpu", enabled=False)  # thresholds hold for float32 alone
                with computing(self.threads), torch.device("cpu"), exactly:
                    logit = self.network(torch.from_numpy(block))
            logits.append(logit)
            alive()
            start = number * WINDOW
            windows.append(
                VoiceWindow(
                    start,
                    start + len(block) / SAMPLE_RATE,
                    _probability(logit),
                    float(np.sqrt(np.mean(np.square(block, dtype=np.float64)))),
                )
            )
        scores, level = np.array(logits), np.array([window.level for window in windows])
        judged = np.isfinite(scores)
        if not judged.any():
            raise NoSoundError(
                f"expected at least {SHORTEST} s of sound but got less, or silence", name
            )
        loud = judged & (level >= _ACTIVE * level[judged].max())
        return VoiceScore(_probability(float(scores[loud].mean())), tuple(windows))


def _probability(logit: float) -> float:
    return float(expit(logit))
