"""When a run counts as the same, and whose processes are found."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.cluster import crop, differing, processes
from tests.preprocess.rows import write_cache


def test_faces_that_are_missing_or_of_another_file_differ(tmp_path):
    whole = write_cache(tmp_path / "whole", range(5))
    assert differing(whole, write_cache(tmp_path / "again", [3, 1, 4, 0, 2])) == 0
    assert differing(whole, write_cache(tmp_path / "less", range(4))) == 1
    assert differing(whole, write_cache(tmp_path / "more", range(7))) == 2
    assert differing(whole, write_cache(tmp_path / "other", [0, 1, 2, 3, 9])) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_are_found_by_name_with_their_parents_and_the_dead_are_not():
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        pairs = [(pid, parent) for pid, parent, _ in processes("sleep")]
        assert (sleeping.pid, os.getpid()) in pairs
        sleeping.kill()
        while sleeping.pid in [pid for pid, _, _ in processes("sleep")]:
            pass


def test_a_run_that_fails_is_no_result(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(RuntimeError, match="expected a run that succeeds but got status 2"):
        crop(tmp_path / "pictures", tmp_path / "out", "no engine", 1, None)
