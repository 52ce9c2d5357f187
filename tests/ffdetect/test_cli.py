"""The command `ffdetect` finds its parts, and they tell what they can do and how they ended."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

from ffdetect.cli import MODULES, main
from preprocess.cache.reader import CacheReader

ROOT = Path(__file__).parents[2]


def status_of(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_help_lists_the_commands_and_is_quick() -> None:
    program = (
        "import sys\nfrom ffdetect.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(*{'torch', 'numpy', 'pandas', 'av', 'cv2'} & set(sys.modules), 'imported')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert all(f" {name} " in done.stdout for name in MODULES), done.stderr
    assert done.stdout.splitlines()[-1].strip() == "imported"


@pytest.mark.parametrize("name", MODULES)
def test_help_of_a_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "serve":
        pytest.importorskip("uvicorn", reason="needs the [serve] extra")
    assert status_of(name, "--help") == 0
    said = capsys.readouterr().out
    module = import_module(MODULES[name][0])
    assert f"usage: ffdetect {name} " in said and f"examples:\n  ffdetect {name} " in said
    parser = module.make_parser()
    assert f"usage: {module.PROG} " in parser.format_help()
    for example in said.rpartition("examples:\n")[2].partition("\n\n")[0].splitlines():
        parser.parse_args(example.replace(f"ffdetect {name}", "").split())  # exits if it is wrong


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["crop"], ["check", "--no-such-option"]])
def test_wrong_arguments_are_2(arguments: list[str]) -> None:
    assert status_of(*arguments) == 2


def test_faces_are_cropped_and_checked(astronaut_folder, tmp_path, capsys) -> None:
    folder, out = astronaut_folder(real=2, fake=0), tmp_path / "cache"
    assert status_of("crop", folder, "--out", out, "--workers", 0, "--maps", "none") == 0
    assert len(CacheReader(out)) == 2
    assert status_of("check", out) == 0
    Image.new("RGB", (64, 64)).save(tmp_path / "empty.png")
    nothing = (tmp_path / "empty.png", "--out", tmp_path / "none", "--workers", 0)
    assert status_of("crop", *nothing) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize("arguments", [["--help"], ["provenance", "a.png"]])
def test_a_full_standard_output_is_said(tmp_path: Path, arguments: list[str]) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = in_a_process(arguments, tmp_path, stdout=full)
    assert done.returncode == 1 and done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_letters_that_a_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "面.png")
    done = in_a_process(["provenance", "面.png"], tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(r"\u9762.png: ")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_output_keeps_nothing_from_being_done(
    astronaut_folder, tmp_path: Path, closed: str
) -> None:
    """As under daemons; progress is shown on one of them."""
    data, out = astronaut_folder(real=1, fake=0), tmp_path / "cache"
    command = f'"$0" -m ffdetect crop "$1" --out "$2" --workers 0 --maps none {closed}'
    arguments = ["sh", "-c", command, sys.executable, str(data), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(arguments, cwd=tmp_path, env=environment).returncode == 0
    assert len(CacheReader(out)) == 1


def in_a_process(
    arguments: list[str], folder: Path, stdout: object = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ffdetect", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def complete(line: str) -> list[str]:
    environment = {
        **os.environ,
        "_FFDETECT_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    command = [sys.executable, "-m", "ffdetect"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_shells_complete_commands_and_options() -> None:
    assert set(complete("ffdetect c")) >= {"crop", "check", "calibrate"}
    assert complete("ffdetect crop --ma") == ["--margin", "--maps"]
    assert complete("ffdetect crop dat") == []  # left to the shell: names of files
    pytest.importorskip("uvicorn", reason="needs the [serve] extra")
    assert complete("ffdetect serve --po") == ["--port"]


def test_a_command_that_is_stopped_ends_with_130(monkeypatch, capsys) -> None:
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("preprocess.check.main", stop)
    assert status_of("check", "cache") == 130
    assert capsys.readouterr().err == "stopped\n"
