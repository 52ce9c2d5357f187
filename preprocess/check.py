"""python -m preprocess.check CACHE: is every part of a cache what was written?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from preprocess.arguments import finish, new_parser
from preprocess.cache.check import Findings, check_cache, repair
from preprocess.cache.errors import CacheError
from preprocess.cache.reader import Reader
from preprocess.io.sources import printable
from preprocess.io.storage import as_path

PROG = "python -m preprocess.check"


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__, "cache/data", "cache/data --repair")
    parser.add_argument(
        "caches",
        nargs="+",
        type=as_path,
        metavar="CACHE",
        help="several are also looked through for common rows",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="set damaged parts aside, so that "
        "preprocess.crop, or preprocess.sound, does their files again",
    )
    return parser


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0 if all caches are whole, or were repaired; 1 if not; 2 for wrong arguments."""
    args = make_parser(prog).parse_args(argv)
    good = True
    for path in args.caches:
        try:
            found = repair(path) if args.repair else check_cache(path)
        except CacheError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            good = False
            continue
        if args.repair and not found.whole:
            print(_repaired(found))
        else:
            print(found.report())
            good &= found.whole
    if good and len(args.caches) > 1:
        try:
            Reader(args.caches)
        except CacheError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            good = False
    return 0 if good else 1


def _repaired(found: Findings) -> str:
    rows = f"{sum(found.faces.values())} {found.settings.rows}"
    lines = [f"{found.path}: {rows} in {len(found.faces)} whole parts"]
    lines += [f"  set aside: {name}.damaged: {reason}" for name, reason in found.damaged.items()]
    lines += [f"  no longer listed: {name}" for name in found.missing]
    lines.append(f"now run: python -m {found.settings.made_by} DATA --out {found.path}")
    return printable("\n".join(lines))


if __name__ == "__main__":
    finish(main)
