"""preprocess.work.cores: no more than affinity and control groups allow; threads of a while."""

from __future__ import annotations

import math
import os
from pathlib import Path

import cv2
import pytest
import torch

from preprocess.work import cores as module
from preprocess.work.cores import computing, cores, quota, threads_allowed


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


@pytest.fixture
def groups(tmp_path: Path) -> tuple[Path, Path]:
    """A file of groups and a mount, as Linux shows them."""
    return tmp_path / "cgroup", tmp_path / "mount"


@pytest.mark.parametrize(("limit", "cores"), [("max 100000", math.inf), ("150000 100000", 1.5)])
def test_a_container_is_told_its_limit_at_the_top(groups, limit, cores):
    write(groups[0], "0::/")
    write(groups[1] / "cpu.max", limit)
    assert quota(*groups) == cores


def test_the_least_of_a_group_and_those_above_it_counts(groups):
    write(groups[0], "0::/service/worker")
    write(groups[1] / "service/cpu.max", "200000 100000")
    write(groups[1] / "service/worker/cpu.max", "max 100000")
    assert quota(*groups) == 2
    write(groups[1] / "service/worker/cpu.max", "50000 100000")
    assert quota(*groups) == 0.5


@pytest.mark.parametrize(("quota_us", "cores"), [("-1", math.inf), ("300000", 3)])
def test_groups_of_the_first_version(groups, quota_us, cores):
    write(groups[0], "4:memory:/elsewhere\n3:cpu,cpuacct:/docker/not-shown-here\n0::/")
    write(groups[1] / "cpu/cpu.cfs_quota_us", quota_us)
    write(groups[1] / "cpu/cpu.cfs_period_us", "100000")
    assert quota(*groups) == cores


def test_without_groups_there_is_no_limit(groups):
    assert quota(*groups) == math.inf


def test_cores_are_those_that_joblib_counts():
    assert cores() == pytest.importorskip("joblib").cpu_count()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_and_quota_bound_the_cores(monkeypatch):
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    for limit, count in ((0.2, 1), (1, 1), (math.inf, len(allowed))):
        monkeypatch.setattr(module, "quota", lambda limit=limit: limit)
        assert cores() == count


def test_threads_are_as_before_afterwards():
    before = torch.get_num_threads(), cv2.getNumThreads()
    with pytest.raises(KeyError), computing(3):
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (3, 3)
        raise KeyError
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


@pytest.mark.parametrize(
    ("said", "threads"), [("3", 3), ("4,2", 4), ("0", 1), ("", math.inf), ("many", math.inf)]
)
def test_the_environment_bounds_the_threads(monkeypatch, said, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads_allowed() == threads
