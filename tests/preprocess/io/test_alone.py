"""One run at a time writes a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from preprocess.io.alone import alone
from preprocess.io.storage import write_whole

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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_device_is_not_replaced_by_a_file(tmp_path, monkeypatch):
    devices = tmp_path / "devices"
    devices.mkdir()
    monkeypatch.setattr("preprocess.io.alone.DEVICES", (str(devices),))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"0")
    (devices / "stdout").symlink_to(tmp_path / "file")  # as where output goes to a file
    for name, reason in (
        (tmp_path / "pipe", "it is a pipe or device"),
        (devices / "stdout", "it is a pipe or device"),
        (devices, "it is a folder"),
        (Path(), "it is a folder"),
        (Path("/"), "it is a folder"),
    ):
        with pytest.raises(OSError, match=reason):
            write_whole(name, b"1")
        with pytest.raises(OSError, match=reason), alone(name):
            pass
    assert (tmp_path / "pipe").is_fifo()
    assert (devices / "stdout").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"0"
