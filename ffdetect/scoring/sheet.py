"""Sheets for people: a matplotlib figure with a title and a caution, saved whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from preprocess.io.storage import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_sheet(width: float, height: float, title: str, caution: str) -> Figure:
    """An empty sheet of width x height inches, 110 px each.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure  # without pyplot: no window, no global state
    except ImportError as error:
        raise ImportError("drawing needs matplotlib: pip install 'ffdetect[explain]'") from error
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=13, parse_math=False)  # names of files may hold a $
    figure.supxlabel(caution, fontsize=10)
    return figure


def save_sheet(figure: Figure, file: str | Path) -> None:
    """Write it as PNG; an older file stays until the new one is complete.

    Raises:
        OSError: the file cannot be written.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    write_whole(file, drawn.getvalue())
