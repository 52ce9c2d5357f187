"""Every example runs as its first line says, in a folder like a user's."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

from .place import ROOT

# With a service that runs: tests/ffdetect/serve.
ELSEWHERE = {"client.py"}
EXAMPLES = {
    "score_folder.py": (["pictures"], "1.jpg\n"),
    "challenge.py": (["portrait.jpg"], "portrait.jpg,0."),
    "train.py": (
        "data new.safetensors --backbone test_resnet --epochs 1 --steps 1 --batch 2".split(),
        "| dfdc_swap | 1 / 1 |",
    ),
    "evaluate_generators.py": (["cache/test", "mine.safetensors"], "of 2 fakes, 2 reals\ndfdc: "),
    "read_cache.py": (["cache/test"], "dfdc_swap"),
}


@pytest.fixture(scope="module")
def place(laid_out, tmp_path_factory) -> Path:
    return shutil.copytree(laid_out, tmp_path_factory.mktemp("place") / "copy", symlinks=True)


def test_every_example_is_run() -> None:
    assert {file.name for file in (ROOT / "examples").glob("*.py")} == EXAMPLES.keys() | ELSEWHERE


@pytest.mark.usefixtures("fast_for_best")
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_prints_what_it_is_for(name: str, place: Path, monkeypatch, capsys) -> None:
    arguments, expected = EXAMPLES[name]
    monkeypatch.chdir(place)
    monkeypatch.setattr("preprocess.run.cores", lambda: 0)  # no workers, which take long to start
    monkeypatch.setattr("sys.argv", [f"examples/{name}", *arguments])
    try:
        runpy.run_path(f"examples/{name}", run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, capsys.readouterr().err
    assert expected in capsys.readouterr().out
