"""How commands begin and end, wherever they are called and whoever reads on."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMAND = """
import sys
from preprocess.arguments import finish, new_parser
def main():
    new_parser("a command", "it: does").parse_args([])
    print("line\\n" * 50_000)
    return 0
finish(main)
"""


def run(command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PROGRAM": sys.executable, "CODE": COMMAND},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize(
    ("module", "name"),
    [("ffdetect", "ffdetect"), ("ffdetect.predict", "python -m ffdetect.predict")],
)
def test_libraries_do_not_end_a_command_in_a_folder_that_is_gone(module, name):
    gone = "place=$(mktemp -d); cd $place; rmdir $place"
    ended = run(f'{gone}; "$PROGRAM" -m {module} predict x.jpg')
    message = f"{name}: error: expected a current folder but it is gone\n"
    assert (ended.returncode, ended.stderr) == (2, message)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ('"$PROGRAM" -c "$CODE"', 0, ""),
        ('"$PROGRAM" -c "$CODE" | head -1; exit ${PIPESTATUS[0]}', 1, ""),
        ('"$PROGRAM" -c "$CODE" | true; exit ${PIPESTATUS[0]}', 1, ""),
        ('"$PROGRAM" -c "$CODE" > /dev/full', 1, "error: [Errno 28] No space left on device\n"),
        (
            'place=$(mktemp -d); cd $place; rmdir $place; "$PROGRAM" -c "$CODE"',
            2,
            "a command: error: expected a current folder but it is gone\n",
        ),
    ],
    ids=["read", "head", "nobody reads", "full", "folder gone"],
)
def test_a_command_ends_without_a_traceback(command, status, message):
    ended = run(command)
    assert (ended.returncode, ended.stderr) == (status, message)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("ffdetect.solving.solve", ["store", "--manifest", "m.csv", "--out"]),
        ("ffdetect.solving.solve", ["s", "--manifest", "m", "--out", "o", "--report"]),
        ("ffdetect.voice.train", ["cache", "m.csv", "--whisper", "w.safetensors", "--out"]),
        ("ffdetect.scoring.plot_video", ["clip.mp4", "--out"]),
        ("ffdetect.scoring.predict", ["data", "--json"]),
        ("ffdetect.training.calibrate", ["w.safetensors", "cache", "--out"]),
        ("preprocess.gallery", ["cache", "--out"]),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(
    module, arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "data").mkdir()
    main = importlib.import_module(module).main
    for out in ("file/new.png", "."):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, out])
        assert ended.value.code == 2
        assert f"{out}: cannot be written: " in capsys.readouterr().err
    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)  # root may write everywhere
        main([*arguments, "new.png"])
    assert "no permission to write in" in capsys.readouterr().err
