"""benchmarks.speed.cost: the work and memory of every process of a command are counted."""

from __future__ import annotations

import sys

import pytest

from benchmarks.speed.cost import Cost

_WORK = (
    "import time; held = bytearray(b'x') * (200 * 2**20)\n"
    "while time.process_time() < 0.5: sum(held[:1000])"
)
_LEFT_BEHIND = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"


def test_the_work_of_orphans_is_counted():
    start = [sys.executable, "-c"]
    here, left = Cost.of([[*start, _WORK]]), Cost.of([[*start, _LEFT_BEHIND, _WORK]] * 2)
    assert here.cpu >= 0.5 and left.cpu >= 1
    assert here.peak > 200 and left.peak > 200


def test_a_command_that_fails_is_an_error():
    with pytest.raises(RuntimeError, match="expected commands that succeed but one failed"):
        Cost.of([[sys.executable, "-c", "raise SystemExit(3)"]])
