"""The package as others meet it: what an import costs, what a wheel has, what -OO leaves."""

from __future__ import annotations

import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

import ffdetect
from ffdetect.cli import MODULES

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("preprocess", "ffdetect")  # benchmarks stay in the repository


def modules_after(statement: str) -> set[str]:
    """Top-level modules of a fresh interpreter after a statement."""
    code = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_importing_the_package_costs_nothing():
    loaded = modules_after("import ffdetect")
    assert "ffdetect" in loaded
    assert not loaded & {"torch", "torchvision", "lightning", "timm", "pandas", "numpy", "cv2"}


def test_scoring_needs_nothing_of_training_or_benchmarks():
    commands = (
        "import ffdetect.scoring.predict, ffdetect.training.train, ffdetect.fakes.regenerate, "
        "ffdetect.scoring.explain"
    )
    loaded = modules_after(f"from ffdetect import Detector; {commands}")
    assert "torch" in loaded
    assert not loaded & {
        "lightning",
        "pytorch_lightning",
        "torchmetrics",
        "sklearn",
        "matplotlib",
        "spandrel",
        "skimage",
        "captum",
        "benchmarks",
    }


def test_the_public_names_are_there():
    names = "Analysis Detector FrameScore NoFaceError OnnxDetector ScoredFace TrackScore VideoScore"
    assert dir(ffdetect) == names.split()
    for name in dir(ffdetect):
        assert getattr(ffdetect, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Classifier'"):
        ffdetect.Classifier  # noqa: B018


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> set[str]:
    """The names in a wheel built from a copy of the tree."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")

    def copy(file: str, to: str) -> None:
        if file.endswith(".safetensors"):  # large, and their names are all that counts
            Path(to).touch()
        else:
            shutil.copy2(file, to)

    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored, copy_function=copy)
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(target)]
    try:
        import setuptools

        if int(setuptools.__version__.split(".")[0]) >= 77:  # brings its own wheel command
            command.append("--no-build-isolation")
    except ImportError:
        pass
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    with zipfile.ZipFile(next(target.glob("ffdetect-*.whl"))) as archive:
        return set(archive.namelist())


def test_a_wheel_brings_every_module(wheel):
    expected = {
        file.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for file in (ROOT / name).rglob("*.py")
    }
    assert expected and expected <= wheel
    assert {"preprocess/py.typed", "ffdetect/py.typed"} <= wheel


def test_a_wheel_brings_the_weights_and_their_card(wheel):
    folders = [ROOT / "ffdetect" / "weights", ROOT / "preprocess" / "faces" / "weights"]
    kinds = (".safetensors", ".onnx", ".md")
    files = [file for folder in folders for file in folder.iterdir() if file.suffix in kinds]
    assert {".safetensors", ".onnx", ".md"} == {file.suffix for file in files}
    assert {file.relative_to(ROOT).as_posix() for file in files} <= wheel


def test_a_wheel_brings_no_tests_and_no_caches(wheel):
    tops = {name.split("/")[0] for name in wheel}
    assert {name for name in tops if not name.endswith(".dist-info")} == set(PACKAGES)
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


COMMANDS = [*(module for module, _ in MODULES.values()), "ffdetect.voice.train"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_without_docstrings_and_assertions(name, monkeypatch, capsys):
    """As with PYTHONOPTIMIZE=2, which compiles all of PyTorch anew: so the command alone."""
    module = types.ModuleType(name)
    module.__package__ = name.rpartition(".")[0]
    file = ROOT.joinpath(*name.split(".")).with_suffix(".py")
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(file.read_text("utf-8"), file, "exec", optimize=2), vars(module))
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert module.__doc__ is None and not ended.value.code
    assert capsys.readouterr().out.startswith("usage: ")
