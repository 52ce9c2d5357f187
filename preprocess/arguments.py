"""How every command reads its arguments: one kind of help, with examples under it."""

from __future__ import annotations

import argparse


def new_parser(prog: str, doc: str | None, *examples: str) -> argparse.ArgumentParser:
    """A parser without arguments.

    Args:
        prog: as the command is called, such as "python -m preprocess.crop".
        doc: of the command's module: "COMMAND LINE: what it does." and perhaps paragraphs more.
        examples: what may follow `prog`.
    """
    lines = [f"  {prog} {example}" for example in examples]
    return argparse.ArgumentParser(
        prog=prog,
        description=(doc or "").partition(": ")[2].strip(),
        epilog="\n".join(["examples:", *lines] if lines else []),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
