"""Training by several ranks and loader workers: every pair once, and one weights file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from ffdetect.training.data import EpochSampler
from ffdetect.training.ranks import Ranks

pytest.importorskip("lightning", reason="training needs the [train] extra")
ROOT = Path(__file__).parents[3]


OPTIONS = ["--device", "cpu", "--workers", "1", "--val-limit", "2"]


def train_by_two(cache: Path, out: Path, notes: Path, *more: str) -> subprocess.CompletedProcess:
    notes.mkdir()
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [
        sys.executable,
        *launch,
        "-m",
        "tests.ffdetect.training.ranked_train",
        str(notes),
        str(cache),
    ]
    done = subprocess.run(
        [*command, "--out", str(out), *OPTIONS, *more],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def drawn(notes: Path, kind: str) -> list[list[int]]:
    return [[int(n) for n in f.read_text().split()] for f in sorted(notes.glob(f"{kind}-*"))]


def test_ranks_and_workers_draw_every_number_once():
    for workers in (0, 2):
        numbers = []
        for epoch in range(2):
            for rank in range(3):
                sampler = EpochSampler(4, rank, 3)
                sampler.set_epoch(epoch)
                loader = DataLoader(range(24), 2, sampler=sampler, num_workers=workers)
                numbers += [int(n) for batch in loader for n in batch]
            assert sorted(numbers) == list(range(12 * (epoch + 1)))
    assert list(EpochSampler(4)) == list(range(4))


def test_one_process_is_one_rank(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Ranks.of_environment() == Ranks(0, 1, 1) and Ranks().first
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Ranks.of_environment() == Ranks(3, 4, 1) and not Ranks.of_environment().first


def test_descent_by_two_ranks(faces_cache, tmp_path):
    more = "--backbone test_resnet --epochs 2 --steps 2 --batch 8 --precision fp32".split()
    out, notes = tmp_path / "net.safetensors", tmp_path / "notes"
    done = train_by_two(faces_cache, out, notes, *more)
    pairs = drawn(notes, "pairs")
    assert [len(numbers) for numbers in pairs] == [8, 8]
    assert sorted(pairs[0] + pairs[1]) == list(range(16))
    faces = drawn(notes, "faces")  # in each of two epochs, each face by one rank
    assert not set(faces[0]) & set(faces[1])
    assert sorted(faces[0] + faces[1]) == sorted(2 * [*range(len(faces[0] + faces[1]) // 2)])
    assert done.stdout.count("validation AUC") == 1
    assert all(value.isfinite().all() for value in load_file(out).values())
