"""ffdetect provenance FILE ...: what files say of themselves, and who says so.

Nothing of it is part of a score, nothing is fetched, and what is missing proves nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from preprocess.arguments import new_parser
from preprocess.io.sources import printable
from preprocess.io.storage import to_json

from .read import read_provenance
from .readers.c2pa_manifest import check_trust_list
from .report import Provenance

PROG = "ffdetect provenance"


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__, "portrait.jpg clip.mp4", "portrait.jpg --json")
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="a picture, a clip or a sound")
    add("--json", action="store_true", help="one JSON object a line")
    add("--trust-list", type=Path, metavar="PEM", help="certificates whose signatures are trusted")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0, 1 if no file could be read, 2 for wrong arguments."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    try:
        if args.trust_list:
            check_trust_list(args.trust_list)
    except ValueError as error:
        parser.error(printable(str(error)))
    return show(args.files, as_json=args.json, trust_list=args.trust_list)


def show(files: Iterable[Path], *, as_json: bool = False, trust_list: Path | None = None) -> int:
    """Print what each file says of itself; 1 if none of them could be read."""
    read = 0
    for file in files:
        try:
            found = read_provenance(file, trust_list=trust_list)
        except ValueError as error:
            print(printable(str(error)), file=sys.stderr)
            continue
        read += 1
        print(to_json(found.to_dict()) if as_json else printable(as_text(found)))
    return 0 if read else 1


def as_text(found: Provenance) -> str:
    """A report for people, several lines."""
    lines = [f"{found.name}: {found.summary}"]
    for claim in found.claims:
        signer = f", signed by {claim.signer}" if claim.signer else ""
        lines.append(
            f"  {claim.says.value}: {claim.text} [{claim.source}{signer}: {claim.trust.value}]"
        )
    if found.jpeg:
        lines.append(
            f"  saved last with {found.jpeg.family} tables of quality {found.jpeg.quality}"
        )
    if found.container:
        about = found.container
        facts = (
            ("created", about.created),
            ("handlers", ", ".join(about.handlers)),
            ("codecs", ", ".join(about.codecs)),
            ("edits", len(about.edits) or ""),
        )
        told = "; ".join(f"{name} {value}" for name, value in facts if value)
        lines.append(f"  {about.format}{': ' if told else ''}{told}")
    lines += [f"  not readable: {error.source}: {error.message}" for error in found.errors]
    lines += [f"  {note}" for note in found.not_read]
    return "\n".join(lines)
