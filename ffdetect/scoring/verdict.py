"""Real, fake or uncertain: what may be said of one face, and why not more.

The rule errs towards "uncertain": to call a face fake accuses somebody, to call it real clears it.
It takes thresholds that were measured on real and fake faces, every view of the face on the same
side of them, and a face that is large, sharp and clean enough for the score to mean anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ffdetect.models.calibration import Calibration

from .quality import Quality

FAKE_FPR = 0.01  # "fake": of real faces one in a hundred scores as high
REAL_FPR = 0.1  # "real": few fakes score as low, nor do nine real faces in ten score higher

# Below these, traces are gone, or damage looks like one. A WebP file does not tell its quality.
MIN_SIDE = 96  # pixels
MAX_BLUR = 0.64
MIN_JPEG_QUALITY = 30
MAX_BLOCKS = 1.0  # for files saved anew, whose tables tell nothing
SMOOTHING_FORMATS = ("webp",)


class Doubt(Enum):
    """The kinds of reasons why a face is uncertain."""

    UNCALIBRATED = "uncalibrated"
    SCORE = "score"
    VIEWS = "views"
    SMALL = "small"
    BLURRED = "blurred"
    JPEG_QUALITY = "jpeg_quality"
    BLOCKS = "blocks"
    FORMAT = "format"


class Reason(str):
    """Why a face is uncertain, in words.

    Attributes:
        doubt: which kind of reason it is.
    """

    doubt: Doubt

    def __new__(cls, text: str, doubt: Doubt) -> Reason:
        reason = super().__new__(cls, text)
        reason.doubt = doubt
        return reason

    def __getnewargs__(self) -> tuple[str, Doubt]:  # type: ignore[override]
        return str(self), self.doubt


@dataclass(frozen=True)
class Verdict:
    """Attributes:
    verdict: "real", "fake" or "uncertain".
    reasons: why it is uncertain; empty if it is not.
    """

    verdict: str
    reasons: tuple[Reason, ...] = ()


def judge(
    score: float, views: Sequence[float], quality: Quality, calibration: Calibration | None
) -> Verdict:
    """The verdict on one face.

    Args:
        score: calibrated, 0 to 1.
        views: calibrated scores of the face's views (`ffdetect.scoring.tta`).
        quality: of the face.
        calibration: of the weights. Without it nobody knows how often a real face scores as high,
            and every face is uncertain; without its threshold of real, none is real.
    """
    reasons = quality_reasons(quality)
    if calibration is None:
        unknown = "uncalibrated: how often a real face scores as high is not known"
        return Verdict("uncertain", (Reason(unknown, Doubt.UNCALIBRATED), *reasons))
    low, high = _ends(calibration)
    side = _side(score, low, high)
    if side == "uncertain":
        if low is None:
            between = f"is below {high:.3f} (fake), and how many fakes score as low is not known"
        else:
            between = f"lies between {low:.3f} (real) and {high:.3f} (fake)"
        reasons = (Reason(f"score {score:.3f} {between}", Doubt.SCORE), *reasons)
    elif any(_side(view, low, high) != side for view in views):
        span = f"{min(views):.3f} to {max(views):.3f}"
        reasons = (Reason(f"views of the face disagree: scores {span}", Doubt.VIEWS), *reasons)
    return Verdict("uncertain", reasons) if reasons else Verdict(side)


def quality_reasons(quality: Quality) -> tuple[Reason, ...]:
    """What is wrong with a face; empty if it is good enough to be judged."""
    found = {}
    if quality.side < MIN_SIDE:
        found[Doubt.SMALL] = f"face of {quality.side:.0f} px is smaller than {MIN_SIDE} px"
    if quality.blur > MAX_BLUR:
        found[Doubt.BLURRED] = f"blur {quality.blur:.2f} is above {MAX_BLUR:g}"
    if 0 <= quality.jpeg_quality < MIN_JPEG_QUALITY:
        told = f"JPEG quality {quality.jpeg_quality} is below {MIN_JPEG_QUALITY}"
        found[Doubt.JPEG_QUALITY] = told
    if quality.blocks > MAX_BLOCKS:
        found[Doubt.BLOCKS] = f"JPEG blocks of {quality.blocks:.1f} are above {MAX_BLOCKS:g}"
    if quality.format in SMOOTHING_FORMATS:
        found[Doubt.FORMAT] = f"{quality.format} file: its coding makes real faces look fake"
    return tuple(Reason(text, doubt) for doubt, text in found.items())


def _ends(calibration: Calibration) -> tuple[float | None, float]:
    """Up to where a score is real, and from where it is fake."""
    high = calibration.thresholds[FAKE_FPR]
    if calibration.real_threshold is None:
        return None, high
    return min(calibration.thresholds[REAL_FPR], calibration.real_threshold), high


def _side(score: float, low: float | None, high: float) -> str:
    if score >= high:
        return "fake"
    return "real" if low is not None and score <= low else "uncertain"
