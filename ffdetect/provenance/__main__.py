"""python -m ffdetect.provenance FILE ...: what files say of themselves."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from .read import read_provenance
from .report import Provenance


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ffdetect.provenance", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--trust-list", type=Path, metavar="PEM", help="certificates whose signatures are trusted"
    )
    args = parser.parse_args(argv)
    return show(args.files, as_json=args.json, trust_list=args.trust_list)


def show(files: Iterable[Path], *, as_json: bool = False, trust_list: Path | None = None) -> int:
    """Print what each file says of itself; 1 if none of them could be read."""
    read = 0
    for file in files:
        try:
            found = read_provenance(file, trust_list=trust_list)
        except ValueError as error:
            print(error, file=sys.stderr)
            continue
        read += 1
        print(json.dumps(found.to_dict()) if as_json else as_text(found))
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


if __name__ == "__main__":
    sys.exit(main())
