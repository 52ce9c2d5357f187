"""What is told of two runtimes that were measured."""

from __future__ import annotations

import pytest

from benchmarks.speed.onnx import agreement, fastest, table


def face(left: float, score: float, verdict: str | None) -> list[dict]:
    return [{"box": [left, 0, 10, 10], "score": score, "verdict": verdict}]


def test_largest_differences_are_of_faces_that_both_found():
    one = [face(0, 0.5, "real"), face(1, 0.2, "fake"), face(2, 0.9, "fake"), face(3, 0.4, None), []]
    other = [face(0.5, 0.503, "real"), face(1, 0.1, "uncertain"), [], face(3, 0.4, None), []]
    found = agreement(one, other)
    assert (found["pictures"], found["faces"], found["found_by_one_alone"]) == (5, 3, 1)
    assert found["largest_difference_of_boxes_px"] == 0.5
    assert found["largest_difference_of_scores"] == pytest.approx(0.1)
    assert (found["verdicts"], found["other_verdicts"]) == (2, 1)


def test_of_several_rounds_the_fastest_counts():
    def of(runtime: str, detect: float, score: float) -> dict:
        rates = {"detect_per_second": detect, "score_per_second": score}
        return {"runtime": runtime, "threads": 1, **rates}

    speeds = fastest([of("torch", 1, 4), of("onnx", 2, 2), of("torch", 3, 1)])
    assert speeds == [of("torch", 3, 4), of("onnx", 2, 2)]
    shown = table({**agreement([[]], [[]]), "speed": speeds})
    assert "| torch | 1 | 3 | 4 |" in shown
