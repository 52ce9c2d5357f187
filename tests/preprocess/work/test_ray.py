"""A Ray that is not there; `ray_runs` has the tests of one that is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from preprocess import crop

ray = pytest.importorskip("ray", reason="needs Ray, which takes long: pip install '.[ray]'")
RUNS = Path(__file__).with_name("ray_runs.py")


def run(*arguments: object) -> int:
    return crop.main([*map(str, arguments), "--quiet"])


@pytest.mark.skipif(sys.platform != "linux", reason="kills processes by their numbers")
@pytest.mark.parametrize("name", ["rows_of_the_plain_run", "results_come_in_order"])
def test_in_a_process_of_its_own(name):
    """A process that was connected to a Ray ends a minute after that Ray."""
    command = [sys.executable, "-m", "pytest", "-q", str(RUNS), "-k", name]
    done = subprocess.run(command, cwd=RUNS.parents[3], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout[-3000:]


def test_no_cluster_at_the_address_is_an_error(tmp_path, astronaut_folder, monkeypatch, capsys):
    def refuse(address: str, **options: object) -> None:  # Ray itself takes a minute to give up
        raise ConnectionError(f"tried often\nno answer from {address}")

    monkeypatch.setattr(ray, "init", refuse)
    arguments = ("--engine", "ray", "--ray-address", "nowhere:1")
    assert run(astronaut_folder(), "--out", tmp_path / "c", *arguments) == 1
    assert "error: no Ray at nowhere:1: no answer from nowhere:1" in capsys.readouterr().err


def test_ray_needs_a_worker(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, "--engine", "ray", "--workers", 0)
    assert caught.value.code == 2
    assert "expected --workers of at least 1" in capsys.readouterr().err
