"""What the container is built of; `make container-check` builds and asks it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("serve", "provenance", "heic")


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins), pins
    return {name.lower().replace("_", "-"): version for name, _, version in map(split, pins)}


def split(pin: str) -> tuple[str, str, str]:
    return pin.partition("==")


def test_the_lock_pins_what_the_project_asks_for():
    requirements = pytest.importorskip("packaging.requirements", reason="reads ranges")
    tomllib = pytest.importorskip("tomllib", reason="of Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in EXTRAS:
        lines += project["optional-dependencies"][extra]
    lines += project["optional-dependencies"]["explain"]  # which serve asks for
    pins = locked()
    for line in lines:
        wanted = requirements.Requirement(line)
        if wanted.name != "ffdetect":
            assert wanted.specifier.contains(pins[wanted.name.lower()]), line


def test_what_is_copied_into_the_image_is_there():
    kept = (ROOT / ".dockerignore").read_text().split()
    names = [line.removeprefix("!") for line in kept if line.startswith("!")]
    assert all((ROOT / name).exists() for name in names)
    installed = (ROOT / "container" / "install.sh").read_text()
    copied = re.search(r"^cp -r (.+) \"\$source\"", installed, re.M)
    assert copied and set(copied[1].split()) <= set(names)


def test_the_test_api_of_a_challenge(tmp_path):
    api = runpy.run_path(str(ROOT / "examples" / "challenge.py"))
    api["score"].__globals__["WEIGHTS"] = "fast"
    portrait = ROOT / "examples" / "portraits" / "generated_female3.jpg"
    (tmp_path / "broken.jpg").write_bytes(portrait.read_bytes()[:2000])
    assert 0 < api["score"](portrait) < 1
    assert api["score"](tmp_path / "broken.jpg") == 0.5
    with pytest.raises(OSError, match="nothing"):
        api["score"](tmp_path / "nothing.jpg")
