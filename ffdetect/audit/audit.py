"""python -m ffdetect.audit DATA: does anything but the forgery give the label away?

Collected real and fake pictures differ in file format, JPEG quality, size, sharpness and framing.
A detector that learns these differences scores high and knows nothing. This says, before any
training, how well each of them alone and all together predict the label, and which pictures are
there twice, across splits or under two labels.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ffdetect.evaluation.matching import add_match, parse_matches
from preprocess.arguments import check_outputs, new_parser, unwritten
from preprocess.cache.reader import CacheReader
from preprocess.io.sources import find_items, printable
from preprocess.io.storage import write_json

from .cues import Measurements, measure_cache, measure_items
from .duplicates import RADIUS, leaking_pairs, near_duplicates
from .leakage import Comparison, Leak, comparisons, folds, measure_leak

PROG = "python -m ffdetect.audit"
ALL_CUES = "all cues"
_ADVICE = {
    "file format": "recode",
    "JPEG setting": "recode",
    "bytes per pixel": "recode",
    "picture size": "frame",
    "face size": "frame",
    "sharpness": "sharpen",
    "colour": "match",
}
_STEPS = {
    "recode": "save real and fake again in one format with one setting (evaluation.framing)",
    "frame": "cut both to the face at one size (evaluation.framing, or preprocess.crop) and "
    "train on windows of the crop (ffdetect train --window 160)",
    "sharpen": "compare and pair fakes with reals as sharp as they are (--match FAKE=REAL, here "
    "and in ffdetect train); one size does not make them so",
    "match": "compare and pair fakes with reals of their own kind (--match FAKE=REAL)",
}


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        measurements: the cues of every file.
        compared: all fakes against all reals, then each generator.
        leaks: (cue, name of the comparison) -> its AUC; none where there are too few files.
        duplicates: see `ffdetect.audit.duplicates.leaking_pairs`; rows of the measurements' table.
    """

    measurements: Measurements
    compared: list[Comparison]
    leaks: dict[tuple[str, str], Leak]
    duplicates: dict[str, np.ndarray]

    @property
    def cues(self) -> list[str]:
        """The cues that were measured, all of them together last."""
        return [*self.measurements.cues(), ALL_CUES]

    def worst(self, cue: str) -> tuple[str, Leak] | None:
        """Where a cue tells most, by the lower end of the interval; None if nowhere measured."""
        found = [(c.name, self.leaks[cue, c.name]) for c in self.compared if not c.too_few]
        return max(found, key=lambda item: item[1].low) if found else None


def audit(measurements: Measurements, matches: dict[str, tuple[str, ...]], seed: int = 0) -> Audit:
    """Judge every cue alone and all together; show progress.

    Raises:
        ValueError: no real or no fake file, or names in `matches` that are not there.
        ImportError: scikit-learn is not installed; the message names the extra.
    """
    _need_sklearn()
    table = measurements.table
    reals, fakes = (int((table["target"] == value).sum()) for value in (0, 1))
    if not reals or not fakes:
        raise ValueError(
            f"expected real and fake files but got {reals} real, {fakes} fake "
            f"and {len(measurements.unreadable)} unreadable"
        )
    compared = comparisons(table, matches)
    columns = measurements.cues()
    columns[ALL_CUES] = [name for names in columns.values() for name in names]
    leaks = {}
    usable = [comparison for comparison in compared if not comparison.too_few]
    with tqdm(total=len(usable) * len(columns), desc="judge", unit="cue") as bar:
        for comparison in usable:
            fold = folds(comparison, seed)
            for cue, names in columns.items():
                features = table[names].to_numpy(float)[comparison.rows]
                leaks[cue, comparison.name] = measure_leak(features, comparison, fold, seed)
                bar.update()
    pairs = leaking_pairs(table, near_duplicates(measurements.hashes))
    return Audit(measurements, compared, leaks, pairs)


def _need_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "expected scikit-learn, which the audit judges with; pip install 'ffdetect[bench]'"
        ) from error


def report(found: Audit, examples: int = 5) -> str:
    """The tables, the verdicts and what to do, for people."""
    parts = [_cue_table(found), _generator_table(found), _notes(found)]
    parts += [_duplicates(found, examples), _verdict(found)]
    return printable("\n\n".join(part for part in parts if part))


def _cue_table(found: Audit) -> str:
    rows = []
    for cue in found.cues:
        leak, worst = found.leaks.get((cue, "all")), found.worst(cue)
        where, verdict = "-", "unclear: too few files"
        if worst:
            where, most = worst
            verdict = f"AUC {_interval(most)}: {most.verdict}"
        rows.append([cue, _interval(leak) if leak else "too few files", where, verdict])
    columns = ["cue", "AUC [95 %], all fakes", "worst for", "verdict"]
    return pd.DataFrame(rows, columns=columns).to_string(index=False)


def _generator_table(found: Audit) -> str:
    """AUC of each cue for each generator, the counts beside."""
    rows = []
    for c in found.compared:
        row = {"fakes": c.name, "fake": c.fakes, "real": c.reals}
        told = {cue: _short(found.leaks[cue, c.name].value) for cue in found.cues if not c.too_few}
        rows.append({**row, **told, **({"": c.too_few} if c.too_few else {})})
    return pd.DataFrame(rows).to_string(index=False, na_rep="")


def _notes(found: Audit) -> str:
    lines = []
    by_file = found.compared[0].by_file
    if by_file:
        lines.append(
            "Too few groups for folds, so these are dealt out file by file, which flatters cues "
            f"if their files are alike: {', '.join(by_file)}"
        )
    unlabelled = int((found.measurements.table["target"] == -1).sum())
    if unlabelled:
        lines.append(f"{unlabelled} files without a label are looked at for duplicates only.")
    unreadable = found.measurements.unreadable
    if unreadable:
        lines.append(f"unreadable: {len(unreadable)}")
        lines += [f"  {reason}" for _, reason in unreadable[:10]]
        lines += [f"  and {len(unreadable) - 10} more"] if len(unreadable) > 10 else []
    return "\n".join(lines)


def _duplicates(found: Audit, examples: int) -> str:
    path = found.measurements.table["path"].to_numpy()
    lines = [f"near-duplicates (hashes that differ in at most {RADIUS} bits)"]
    for kind, pairs in found.duplicates.items():
        lines.append(f"  {kind}: {len(pairs)}")
        if kind != "fake and original":
            lines += [f"    {path[a]}  {path[b]}" for a, b in pairs[:examples]]
            if len(pairs) > examples:
                lines.append(f"    and {len(pairs) - examples} more (--json lists more)")
    return "\n".join(lines)


def _verdict(found: Audit) -> str:
    """One sentence, then the steps that the leaking cues call for."""
    joint = found.worst(ALL_CUES)
    if joint is None:
        return "Verdict: too few files to tell; nothing is known about leaks."
    name, leak = joint
    where = "all fakes" if name == "all" else f"the fakes of {name}"
    lines = [
        f"Verdict: all cues together tell {where} at AUC {_short(leak.value)}: {leak.verdict}."
    ]
    steps = []
    worst = {cue: found.worst(cue) for cue in found.measurements.cues()}
    for verdict in ("leaks the label", "weak"):
        cues = [cue for cue, at in worst.items() if at and at[1].verdict == verdict]
        if cues:
            lines.append(f"{verdict}: {', '.join(cues)}")
        steps += [_STEPS[_ADVICE[cue]] for cue in cues]
    if steps:
        lines.append("A detector can learn these instead of forgery. Before training:")
        lines += [f"  - {step}" for step in dict.fromkeys(steps)]
        lines.append("Then audit the new cache, and measure under a matched protocol only.")
        lines.append(
            "Sharpness and colour can be the camera's or the generator's doing; what they reach "
            "is what a detector must beat."
        )
    if len(found.duplicates["across splits"]):
        lines.append("Give near-duplicates across splits one group and one split, or drop one.")
    if len(found.duplicates["across labels"]):
        lines.append("Look at near-duplicates across labels: a wrong label, or a missing group.")
    return "\n".join(lines)


def _interval(leak: Leak) -> str:
    return f"{_short(leak.value)} [{_short(leak.low)}, {_short(leak.high)}]"


def _short(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"


def record(found: Audit, command: str, examples: int = 20) -> dict:
    """Everything of the report as JSON values."""
    path = found.measurements.table["path"].to_numpy()
    results = []
    for c in found.compared:
        cues = {cue: found.leaks[cue, c.name] for cue in found.cues if not c.too_few}
        results.append(
            {
                "fakes_of": c.name,
                "fakes": c.fakes,
                "reals": c.reals,
                "too_few": c.too_few,
                "folds_by_file": list(c.by_file),
                "auc": {
                    cue: {**asdict(leak), "verdict": leak.verdict} for cue, leak in cues.items()
                },
            }
        )
    return {
        "command": command,
        "files": len(path),
        "unreadable": [
            {"path": name, "reason": reason} for name, reason in found.measurements.unreadable
        ],
        "results": results,
        "duplicates": {
            kind: {"count": len(pairs), "pairs": [[path[a], path[b]] for a, b in pairs[:examples]]}
            for kind, pairs in found.duplicates.items()
        },
        "verdict": _verdict(found).splitlines(),
    }


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0 after an audit; 1 if --fail-above is exceeded, or --json could not be written;
    2 if no audit was possible."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    try:
        _need_sklearn()
        if args.fail_above is not None and not 0 <= args.fail_above <= 1:
            raise ValueError(f"expected --fail-above from 0 to 1 but got {args.fail_above:g}")
        check_outputs({"--json": args.json}, (args.data, args.labels))
        found = audit(_measure(args), parse_matches(args.match), args.seed)
    except (ValueError, OSError, ImportError) as error:
        parser.error(printable(str(error)))
    print(report(found))
    if args.json:
        shown = " ".join([prog, *(sys.argv[1:] if argv is None else argv)])
        try:
            write_json(args.json, record(found, shown))
        except OSError as error:
            return unwritten(args.json, error)
    joint = found.worst(ALL_CUES)
    if args.fail_above is None:
        return 0
    if joint is None:  # a gate that could not measure must not open
        print("--fail-above: too few files to measure the joint AUC", file=sys.stderr)
    return int(joint is None or joint[1].value > args.fail_above)


def _measure(args: argparse.Namespace) -> Measurements:
    if (args.data / "cache.json").is_file():
        if args.labels or args.faces:
            raise ValueError(f"{args.data}: a cache has labels and faces; expected a data folder")
        return measure_cache(CacheReader(args.data))
    listing = find_items(args.data, args.labels)
    print(listing.report())
    detector = None
    if args.faces:
        from preprocess.faces.detect import FaceDetector

        detector = FaceDetector()
    return measure_items(listing.items, detector)


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__, "data/ --json audit.json", "cache/data --fail-above 0.7")
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="a folder of pictures and clips, or a cache")
    add("--labels", type=Path, help="label file (default: looked for beside and in DATA)")
    add_match(parser, "compare this generator with these real sources only")
    add("--faces", action="store_true", help="find faces for their size; slow, a cache has them")
    add("--json", type=Path, metavar="FILE", help="write everything there")
    add(
        "--fail-above",
        type=float,
        metavar="AUC",
        help="exit with 1 if all cues together tell "
        "all fakes, or those of any generator, better than this",
    )
    add("--seed", type=int, default=0, help="of folds and intervals (%(default)s)")
    return parser
