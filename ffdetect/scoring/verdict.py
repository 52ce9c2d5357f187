"""Real, fake or uncertain: what may be said of one face, and why not more.

The rule errs towards "uncertain": to call a face fake accuses somebody. It takes thresholds that
were measured on real faces, every view of the face on the same side of them, and a face that is
large, sharp and clean enough for the score to mean anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .quality import Quality

FAKE_FPR = 0.01  # "fake": of real faces one in a hundred scores as high
REAL_FPR = 0.1  # "real": lower than the score that one real face in ten passes

# Measured by `benchmarks.limits` on 42 real and 70 drawn portraits, damaged step by step, with the
# shipped weights, which had seen them undamaged (AUC .80; with so few faces all is rough). "Above"
# is the score that 7 % of the undamaged reals pass, far below that of "fake".
MIN_SIDE = 96  # pixels. At 96 px AUC is .76; at 64 px .69, and only 4 % of fakes come above.
MAX_BLUR = 0.64  # Median at a Gaussian blur of 1.4 px: AUC .68, 88 % of reals come above.
MIN_JPEG_QUALITY = 30  # AUC .70 at 30, .65 at 20; from 40 down no fake comes above.
MAX_BLOCKS = 1.0  # Median at JPEG 20 is .95; for files saved anew, whose tables tell nothing.

# Measured by `benchmarks.robustness`: at WebP 70, 33 % of the reals come above the score that one
# in ten passes undisturbed. The file does not tell its quality.
SMOOTHING_FORMATS = ("webp",)


@dataclass(frozen=True)
class Verdict:
    """Attributes:
    verdict: "real", "fake" or "uncertain".
    reasons: why it is uncertain, in words; empty if it is not.
    """

    verdict: str
    reasons: tuple[str, ...] = ()


def judge(
    score: float,
    views: Sequence[float],
    quality: Quality,
    thresholds: Mapping[float, float] | None,
) -> Verdict:
    """The verdict on one face.

    Args:
        score: calibrated, 0 to 1.
        views: calibrated scores of the face's views (`ffdetect.scoring.tta`).
        quality: of the face.
        thresholds: false-positive rate -> score (`Detector.thresholds`). Without them nobody
            knows how often a real face scores as high, and every face is uncertain.
    """
    reasons = quality_reasons(quality)
    if thresholds is None:
        reasons = ("uncalibrated: how often a real face scores as high is not known", *reasons)
        return Verdict("uncertain", reasons)
    side = _side(score, thresholds)
    if side == "uncertain":
        low, high = thresholds[REAL_FPR], thresholds[FAKE_FPR]
        reasons = (f"score {score:.3f} lies between {low:.3f} (real) and {high:.3f} (fake)",
                   *reasons)  # fmt: skip
    elif any(_side(view, thresholds) != side for view in views):
        span = f"{min(views):.3f} to {max(views):.3f}"
        reasons = (f"views of the face disagree: scores {span}", *reasons)
    return Verdict("uncertain", reasons) if reasons else Verdict(side)


def quality_reasons(quality: Quality) -> tuple[str, ...]:
    """What is wrong with a face, in words; empty if it is good enough to be judged."""
    reasons = []
    if quality.side < MIN_SIDE:
        reasons.append(f"face of {quality.side:.0f} px is smaller than {MIN_SIDE} px")
    if quality.blur > MAX_BLUR:
        reasons.append(f"blur {quality.blur:.2f} is above {MAX_BLUR:g}")
    if 0 <= quality.jpeg_quality < MIN_JPEG_QUALITY:
        reasons.append(f"JPEG quality {quality.jpeg_quality} is below {MIN_JPEG_QUALITY}")
    if quality.blocks > MAX_BLOCKS:
        reasons.append(f"JPEG blocks of {quality.blocks:.1f} are above {MAX_BLOCKS:g}")
    if quality.format in SMOOTHING_FORMATS:
        reasons.append(f"{quality.format} file: its coding makes real faces look fake")
    return tuple(reasons)


def _side(score: float, thresholds: Mapping[float, float]) -> str:
    if score >= thresholds[FAKE_FPR]:
        return "fake"
    return "real" if score < thresholds[REAL_FPR] else "uncertain"
