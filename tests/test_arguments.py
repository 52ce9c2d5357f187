"""How commands begin and end, wherever they are called and whoever reads on."""

from __future__ import annotations

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
