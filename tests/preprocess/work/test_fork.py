"""A process that has found faces may be forked, as multiprocessing does by default on Linux."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal
import numpy as np
import torch
torch.set_num_threads(2)
from preprocess.faces.detect import FaceDetector
detector, pixels = FaceDetector(), np.zeros((200, 200, 3), np.uint8)
big = torch.rand(1000, 1000)
big @ big, detector.detect(pixels)
if not (child := os.fork()):
    signal.alarm(200)  # a child that waits for threads of its parent waits for ever
    big @ big, detector.detect(pixels)
    os._exit(0)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_finds_faces_too():
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=False)
    assert done.returncode == 0
