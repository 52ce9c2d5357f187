"""Several pictures in one batch: the same faces and scores as one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from ffdetect.provenance import read_provenance
from ffdetect.scoring.analysis import analyze_pictures
from preprocess.io.decode import Picture, decode_image

from ..helpers import encode


@pytest.fixture(scope="module")
def pictures(astronaut: np.ndarray, noise: np.ndarray) -> list[Picture]:
    """Two faces of different size, none, and one as a poor JPEG."""
    two = np.zeros((512, 800, 3), np.uint8)
    two[:, :512], two[:288, 512:] = astronaut, astronaut[64:352, 80:368]
    return [decode_image(x) for x in (two, noise, encode(astronaut, "JPEG", quality=20))]


def test_a_batch_says_what_each_picture_says_alone(tiny, pictures):
    together = analyze_pictures(tiny, pictures)
    for analysis, picture in zip(together, pictures, strict=True):
        alone = tiny.analyze(picture.pixels)
        assert (analysis.width, analysis.height) == (alone.width, alone.height)
        for face, other in zip(analysis.faces, alone.faces, strict=True):
            np.testing.assert_array_equal(face.box, other.box)
            assert face.score == pytest.approx(other.score, abs=1e-4)
            assert face.verdict == other.verdict
    assert [len(analysis.faces) for analysis in together] == [2, 0, 1]
    assert together[2].faces[0].quality.jpeg_quality == 20
    assert any("JPEG quality" in reason for reason in together[2].faces[0].reasons)


def test_the_largest_faces_are_scored_and_the_others_counted(tiny, pictures):
    every = analyze_pictures(tiny, pictures)
    largest = analyze_pictures(tiny, pictures, most_faces=1)
    assert [analysis.left_out for analysis in every] == [0, 0, 0]
    assert [analysis.left_out for analysis in largest] == [1, 0, 0]
    np.testing.assert_array_equal(largest[0].faces[0].box, every[0].faces[0].box)


def test_without_verdicts_scores_are_the_same(tiny, pictures):
    for plain, full in zip(
        analyze_pictures(tiny, pictures, verdicts=False),
        analyze_pictures(tiny, pictures),
        strict=True,
    ):
        for face, other in zip(plain.faces, full.faces, strict=True):
            assert face.score == pytest.approx(other.score, abs=1e-4)
            assert (face.verdict, face.reasons) == ("", ())


def test_one_picture_is_held_at_a_time(tiny, pictures, monkeypatch):
    looked: list[int] = []
    detect = tiny.face_detector.detect
    monkeypatch.setattr(
        tiny.face_detector, "detect", lambda pixels: looked.append(len(pixels)) or detect(pixels)
    )

    def lazily() -> Iterator[Picture]:
        for number, picture in enumerate(pictures):
            assert len(looked) == number
            yield picture

    assert len(analyze_pictures(tiny, lazily())) == len(looked) == len(pictures)


def test_everything_but_the_crop_is_json(tiny, pictures, tmp_path):
    file = tmp_path / "two.jpg"
    file.write_bytes(encode(pictures[0].pixels, "JPEG", quality=60))
    (largest,) = analyze_pictures(tiny, [decode_image(file)], most_faces=1)
    said = read_provenance(file)
    told = json.loads(json.dumps(replace(largest, provenance=said).to_dict()))
    (face,) = largest.faces
    q = face.quality
    assert said.jpeg and q.jpeg_quality == 60
    assert told == {
        "name": str(file),
        "width": 800,
        "height": 512,
        "faces": [
            {
                "box": [float(x) for x in face.box],
                "landmarks": [[float(x), float(y)] for x, y in face.landmarks],
                "probability": face.probability,
                "score": face.score,
                "verdict": face.verdict,
                "reasons": [*face.reasons],
                "quality": {
                    "side": q.side,
                    "blur": q.blur,
                    "blocks": q.blocks,
                    "jpeg_quality": 60,
                    "format": "jpeg",
                },
            }
        ],
        "left_out": 1,
        "provenance": json.loads(json.dumps(said.to_dict())),
    }
    assert tiny.analyze(pictures[0].pixels).to_dict()["provenance"] is None
