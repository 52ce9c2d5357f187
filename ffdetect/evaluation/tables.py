"""Tables of Markdown, records of JSON, and a report in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preprocess.io.storage import write_json, write_whole

from .report import Report


def markdown(columns: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """A Markdown table; bars and ends of lines in a cell stay in it."""
    cells = [
        list(columns),
        ["---"] * len(columns),
        *[
            [" ".join(str(cell).splitlines()).replace("|", r"\|") for cell in line]
            for line in lines
        ],
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def save_record(out: Path, values: Mapping[str, Any], text: str) -> None:
    """Write OUT.json and OUT.md, each whole or not at all.

    Args:
        out: path without suffix; its folder is made.
        values: of JSON's types.
        text: Markdown.
    """
    write_json(out.with_name(out.name + ".json"), values)
    write_whole(out.with_name(out.name + ".md"), (text.rstrip() + "\n").encode())


def report_markdown(report: Report) -> str:
    """Headline figures, then a line a family and a line a real source, the worst first."""
    rates = list(report.pooled_tpr)
    worst, loudest = report.worst_family, report.worst_source
    again = f" Outer folds were run {report.looks} times." if report.looks > 1 else ""
    again += "".join(f" Reason: {reason}." for reason in report.reasons)
    head = [
        f"`{report.command}` ({report.date})",
        f"{report.recipes} recipes were compared inside the outer folds; chosen: "
        f"{', '.join(sorted(set(report.chosen.values())))}.{again}",
        markdown(
            ["", "figure [95 %]"],
            [
                ["mean AUC over families left out", report.mean_auc],
                ["pooled AUC", report.pooled_auc],
                *[[f"pooled TPR at FPR {r:g}", i] for r, i in report.pooled_tpr.items()],
                ["calibration error", f"{report.calibration_error:.3f}"],
                ["worst family", f"{worst.family}, AUC {worst.auc}"],
                [
                    f"worst real source at the threshold for {rates[0]:g}",
                    f"{loudest.source}, {loudest.flagged[rates[0]]:.1%} flagged",
                ],
            ],
        ),
    ]
    caught = [f"caught at {rate:g}" for rate in rates]
    families = markdown(
        ["family", "fakes / reals", "AUC [95 %]", *caught, 'called "real"'],
        [
            [
                f.family,
                f"{f.fakes} / {f.reals}",
                f.auc,
                *[f"{f.caught[r]:.1%}" for r in rates],
                f"{f.called_real:.1%}",
            ]
            for f in report.families
        ],
    )
    flagged = [f"flagged at {rate:g}" for rate in rates]
    sources = markdown(
        ["real source", "reals", *flagged, 'called "real"'],
        [
            [s.source, s.reals, *[f"{s.flagged[r]:.1%}" for r in rates], f"{s.called_real:.1%}"]
            for s in report.sources
        ],
    )
    curve = markdown(
        ["mean score", "share of fakes", "rows"],
        [[f"{said:.2f}", f"{so:.2f}", count] for said, so, count in report.curve],
    )
    return "\n\n".join([*head, families, sources, curve]) + "\n"


def plain(value: Any) -> Any:
    """As JSON has it: lists for tuples, and numbers that name something as text."""
    if isinstance(value, dict):
        return {f"{k:g}" if isinstance(k, float) else k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
