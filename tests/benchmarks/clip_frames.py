"""Frames of made-up clips, for tests of what is done with their scores."""

from __future__ import annotations

import pandas as pd


def frames_of_clips() -> pd.DataFrame:
    """6 frames each of 2 real and 2 fake clips for each of 12 people."""
    rows = [
        {"path": f"{person}-{kind}-{clip}", "target": int(kind != "real"), "generator": kind,
         "group": f"set/{person}"}
        for person in range(12) for kind, clip in (("real", 0), ("real", 1), ("one", 0), ("two", 0))
        for _ in range(6)
    ]  # fmt: skip
    return pd.DataFrame(rows)
