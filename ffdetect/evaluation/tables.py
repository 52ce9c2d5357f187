"""Tables of Markdown, and values as JSON has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


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


def markdown_of(rows: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table of rows that name their columns, all the same ones in the same order."""
    return markdown(list(rows[0]), [list(row.values()) for row in rows])


def plain(value: Any) -> Any:
    """As JSON has it: lists for tuples, and numbers that name something as text."""
    if isinstance(value, dict):
        return {f"{k:g}" if isinstance(k, float) else k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
