"""The benchmarks use the tiny network of the detector's tests."""

from __future__ import annotations

from ..ffdetect.conftest import tiny_weights

__all__ = ["tiny_weights"]
