"""One run at a time writes a file."""

from __future__ import annotations

import subprocess
import sys

import pytest

from preprocess.io.alone import alone

HOLD = """
import sys, time
from pathlib import Path
from preprocess.io.alone import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_until_the_first_ends(tmp_path):
    file = tmp_path / "new" / "out.txt"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(BlockingIOError, match=r"another run is writing it: .*out.txt"),
            alone(file),
        ):
            pass
        other.kill()  # however it ends
    with alone(file), alone(tmp_path / "new" / "other.txt"):
        pass
    assert list(file.parent.iterdir()) == []


def test_where_nothing_can_be_written_it_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), alone(tmp_path / "file" / "out.txt"):
        pass
