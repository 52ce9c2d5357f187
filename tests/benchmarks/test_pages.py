"""Committed results are still read: their values make the page that is committed beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import cross_family, cross_voice
from benchmarks.speed import audio, largest_face, onnx, preprocess, scale, service_load

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks/results"
PAGES: dict[str, Callable[[dict], str]] = {
    "audio_speed": audio.table,
    "audio_speed_clips": audio.table,
    "cross_family": cross_family.page,
    "cross_voice": cross_voice.page,
    "largest_face": lambda values: largest_face.table(values["results"]),
    "onnx_best": onnx.table,
    "preprocess_speed": preprocess.report,
    "scale": scale.table,
    "service_load": service_load.page,
    "service_load_best": service_load.page,
    "service_memory": service_load.page,
}


def cells(text: str) -> list[str]:
    """Lines without what formats them."""
    lines = re.sub(r"\*\*|(?<=\|) +| +(?=\|)", "", text).splitlines()
    return [line for line in lines if line and not set(line) <= set("|-")]


@pytest.mark.parametrize("name", PAGES)
def test_values_make_the_committed_page(name):
    values = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    page = cells((RESULTS / f"{name}.md").read_text("utf-8"))
    made = cells(PAGES[name](values))
    assert made and page[-len(made) :] == made
