"""Snippets of README and docs run, page by page from top to bottom, and print what they say.

One that cannot run here stands below a line `<!-- not run: WHY -->`.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from ffdetect.fakes.sources import SOURCES
from ffdetect.weights import SHIPPED
from preprocess.faces.maps import RESIDUALS

from .ffdetect.voice.voices import write_encoder, write_voices
from .place import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPET = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What installs, builds, needs a service or never ends.
OUTSIDE = (
    "pip",
    "python -m pytest",
    "make",
    "docker",
    "curl",
    "ffdetect serve",
    "python examples/client.py",
)


# What a command that takes long is told to take less time.
SHORT = {
    ("ffdetect", "train"): "--epochs 1 --steps 1 --batch 2 --workers 0 --window 128".split(),
}


def snippets(page: Path) -> list[tuple[bool, str, str]]:
    """Whether it runs, its language, its text."""
    return [(not skip, kind, text) for skip, kind, text in SNIPPET.findall(page.read_text("utf-8"))]


def shell(text: str) -> str:
    """What the lines of a shell print; they run in this process, which saves loading all again."""
    printed = io.StringIO()
    lines = text.replace("\\\n", " ").replace("&&", "\n").splitlines()
    for line in map(str.strip, lines):
        words = shlex.split(line, comments=True)
        if not words or line.startswith(OUTSIDE):
            continue
        with contextlib.redirect_stdout(printed):
            _run(words)
    return printed.getvalue()


def _run(words: list[str]) -> None:
    command, *rest = words
    rest += SHORT.get((command, rest[0]), [])
    expected = "expected ffdetect, python -m MODULE or python FILE"
    assert command in ("ffdetect", "python"), f"{expected} but got {words}"
    try:
        if command == "ffdetect":
            with patch("sys.argv", [command, *rest]):
                runpy.run_module("ffdetect", run_name="__main__")
        elif rest[0] == "-m":
            with patch("sys.argv", rest[1:]):
                runpy.run_module(rest[1], run_name="__main__")
        else:
            with patch("sys.argv", rest):
                runpy.run_path(rest[0], run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, f"{shlex.join(words)} ended with {ended.code}"


@pytest.fixture
def registries() -> Iterator[None]:
    """Whose entries, made by a page on how to make some, are gone afterwards."""
    before = [(registry, dict(registry)) for registry in (RESIDUALS, SOURCES)]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


def voices(place: Path, _: pytest.MonkeyPatch) -> None:
    shutil.rmtree(place / "data")
    write_voices(place / "data")
    write_encoder(place / "whisper_tiny_encoder.safetensors")


def onnx(place: Path, patches: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript", reason="needs the [onnx] extra")
    patches.setitem(SHIPPED, "best", str(place / "mine.safetensors"))  # is exported in less time


def training(place: Path, _: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning", reason="needs the [train] extra")
    (place / "cache/data").symlink_to("test")
    (place / "phase1/trainset").symlink_to("../data")


PREPARED = {"voices": voices, "onnx": onnx, "training": training, "challenge": training}


@pytest.mark.usefixtures("fast_for_best", "registries")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_snippets_run_and_print_what_they_say(page, laid_out, tmp_path, monkeypatch):
    runs = [(kind, text) for wanted, kind, text in snippets(page) if wanted]
    if not runs:
        pytest.skip("no snippets")
    shutil.copytree(laid_out, tmp_path, symlinks=True, dirs_exist_ok=True)
    if prepare := PREPARED.get(page.stem):
        prepare(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("preprocess.run.cores", lambda: 0)  # no workers, which take long to start
    names = {"paths": ["portrait.jpg", "group.jpg"], "samples": np.zeros(48_000, np.int16)}
    names["samples"][::7] = 9_000
    check = doctest.OutputChecker().check_output
    for kind, text in runs:
        if kind == "python":
            exec(compile(text, page.name, "exec"), names)
        elif kind == "sh":
            shell(text)
        else:
            assert kind == "console", f"expected python, sh or console but got {kind}"
            for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
                printed = shell(command)
                assert check(output, printed, doctest.ELLIPSIS), f"{command} printed\n{printed}"


def test_most_snippets_run():
    """Two of the others do where their library is there (`preprocess/cache/test_datasets.py`)."""
    skipped = [text for page in PAGES for wanted, _, text in snippets(page) if not wanted]
    assert len(skipped) <= 6, "\n".join(skipped)


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_readme_is_a_page():
    assert len(PAGES[0].read_text("utf-8").splitlines()) <= 150
