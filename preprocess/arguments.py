"""How every command reads its arguments: one kind of help, with examples under it."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from preprocess.io.alone import check_target

_OF_A_CACHE = re.compile(r"cache\.(json|journal|lock)|failures\.csv|[^/]+\.arrow")


def new_parser(prog: str, doc: str | None, *examples: str) -> argparse.ArgumentParser:
    """A parser without arguments.

    Args:
        prog: as the command is called, such as "python -m preprocess.crop".
        doc: of the command's module: "COMMAND LINE: what it does." and perhaps paragraphs more.
        examples: what may follow `prog`.
    """
    lines = [f"  {prog} {example}" for example in examples]
    parser = argparse.ArgumentParser(
        prog=prog,
        description=(doc or "").partition(": ")[2].strip(),
        epilog="\n".join(["examples:", *lines] if lines else []),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check_folder(prog)
    return parser


def check_folder(prog: str) -> None:
    """End a command in a folder that was removed, before libraries that look for it (oneMKL, when
    PyTorch is imported) end the process without a word that helps."""
    try:
        Path.cwd()
    except OSError:
        print(f"{prog}: error: expected a current folder but it is gone", file=sys.stderr)
        sys.exit(2)


def check_outputs(outputs: dict[str, Path | None], inputs: Iterable[Path | None] = ()) -> None:
    """Refuse what cannot be written before hours are spent on it, and to write a file twice, over
    what is read, or over a cache's own files: nobody means to lose them.

    Args:
        outputs: files by the option that names them; None and what is not there yet are fine.
        inputs: files and folders.

    Raises:
        ValueError: two of them are the same, one is part of a cache, or cannot be written.
    """
    taken = {os.path.realpath(file) for file in inputs if file is not None}
    for option, file in outputs.items():
        if file is None:
            continue
        place = Path(os.path.realpath(file))
        if str(place) in taken or (
            _OF_A_CACHE.fullmatch(place.name) and place.with_name("cache.json").exists()
        ):
            raise ValueError(f"expected a file for {option} that nothing else uses but got {file}")
        taken.add(str(place))
        if reason := _hindrance(place):
            raise ValueError(f"{file}: cannot be written: {reason}")


def _hindrance(file: Path) -> str | None:
    """What keeps a file from being written, as far as it shows before."""
    try:
        check_target(file)
        folder = next(folder for folder in file.parents if folder.exists())
    except OSError as error:
        return error.strerror or str(error)
    if not folder.is_dir():
        return f"{folder} is no folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"no permission to write in {folder}"


def unwritten(file: Path, error: OSError) -> int:
    """Say that a result could not be written after all, as on a full disk; the status of that."""
    print(f"{file}: cannot be written: {error.strerror or error}", file=sys.stderr)
    return 1


def status_of(main: Callable[[], int]) -> int:
    """Run a command; its status, or 130 if it was stopped where it says nothing of that itself."""
    try:
        return main()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def finish(main: Callable[[], int]) -> NoReturn:
    """Run a command and end with its status, or with 1 where nobody reads on (`| head`) or nothing
    more can be printed. Letters that a terminal does not have are printed escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed; what is opened next would take its number, too
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = status_of(main)
        sys.stdout.flush()
    except OSError as error:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 1)  # so that flushing at the end does not fail again
        if not isinstance(error, BrokenPipeError):
            print(f"error: {error}", file=sys.stderr)
        status = 1
    sys.exit(status)
