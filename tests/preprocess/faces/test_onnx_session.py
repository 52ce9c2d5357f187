"""ONNX Runtime sends nothing to its maker."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SAID = "ORT_DISABLE_TELEMETRY"
OTHERS = ("CI", "ORT_RUNNING_UNIT_TESTS")  # it is silent under these, too


def run(code: str, **more: str) -> list[str]:
    surroundings = {name: v for name, v in os.environ.items() if name not in (SAID, *OTHERS)}
    command = [sys.executable, "-c", code]
    told = subprocess.run(
        command, env=surroundings | more, capture_output=True, text=True, check=True
    )
    return told.stdout.split()


@pytest.mark.parametrize(
    "code",
    [
        "import ffdetect; ffdetect.Detector.load('fast')",
        "from preprocess.faces.detect import FaceDetector; FaceDetector()",
        "import ffdetect.scoring.onnx.detector",
        "from ffdetect.models.frozen import lite_onnx",
    ],
)
def test_it_keeps_no_identifier_whatever_is_imported_first(tmp_path, code):
    home = str(tmp_path)
    assert run(f"{code}; import sys; print('onnxruntime' in sys.modules)", HOME=home) == ["True"]
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in str(path)]


def test_it_is_asked_before_it_is_imported_and_who_wants_it_is_obeyed():
    code = "import os; from preprocess.faces import onnx_session; print(os.environ['" + SAID + "'])"
    assert run(code) == ["1"] and run(code, **{SAID: "0"}) == ["0"]
