"""Scores how likely a face is to be a deepfake: ``Detector.load().score("picture.jpg")``.

Everything is imported on first use, so that ``import ffdetect`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
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
_HOMES = {
    "results": ("Analysis", "ScoredFace"),
    "detector": ("Detector",),
    "clip": ("FrameScore", "TrackScore", "VideoScore"),
    "analysis": ("NoFaceError",),
    "onnx.detector": ("OnnxDetector",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".scoring.{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
