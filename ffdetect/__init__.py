"""Scores how likely a face is to be a deepfake: ``Detector.load().score("picture.jpg")``.

Everything is imported on first use, so that ``import ffdetect`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .scoring.analysis import NoFaceError
    from .scoring.clip import FrameScore, TrackScore, VideoScore
    from .scoring.detector import Detector
    from .scoring.onnx.detector import OnnxDetector
    from .scoring.results import Analysis, ScoredFace

__all__ = [
    "Analysis",
    "Detector",
    "FrameScore",
    "NoFaceError",
    "OnnxDetector",
    "ScoredFace",
    "TrackScore",
    "VideoScore",
]


def __getattr__(name: str) -> Any:
    if name in ("FrameScore", "TrackScore", "VideoScore"):
        from .scoring import clip

        return getattr(clip, name)
    if name in ("Analysis", "ScoredFace"):
        from .scoring import results

        return getattr(results, name)
    if name == "OnnxDetector":
        from .scoring.onnx.detector import OnnxDetector

        return OnnxDetector
    if name in __all__:
        from .scoring import detector

        return getattr(detector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
