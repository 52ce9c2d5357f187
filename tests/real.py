"""Real data beside the checkout: tests say what they need of it and are skipped without it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest


def needs(path: Path) -> Path:
    """A file or folder of the real data; skips the test where it is missing."""
    if not path.exists():
        pytest.skip(f"needs {path}, which is not there")
    return path


def rows_of(folder: Path, count: int, **wanted: object) -> pd.DataFrame:
    """The first `count` rows of a folder's manifest with these values.

    Skips the test where there are fewer. `file` is the path of each file.
    """
    table = pd.read_csv(needs(folder / "manifest.csv"))
    for column, value in wanted.items():
        table = table[table[column] == value]
    table = table.assign(file=[folder / path for path in table["path"]])
    table = table[[file.is_file() for file in table["file"]]]
    if len(table) < count:
        pytest.skip(f"needs {count} files of {folder} with {wanted} but there are {len(table)}")
    return table.head(count)
