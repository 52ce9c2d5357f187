"""A matrix of AUCs as a picture: rows are trainings, columns are generators."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

# How much of a tested generator a training had seen, and how its cell is drawn.
UNSEEN, NEW_PICTURES, SEEN = "unseen", "new pictures", "seen in training"
_FADED = {UNSEEN: 1.0, NEW_PICTURES: 0.5, SEEN: 0.25}


def draw_heat_map(aucs: pd.DataFrame, seen: pd.DataFrame, title: str, file: Path) -> None:
    """Write a PNG with every AUC in its cell; cells of unseen generators are framed.

    Args:
        aucs: floats in 0..1; one row a training, one column a generator.
        seen: of the same shape, `UNSEEN`, `NEW_PICTURES` or `SEEN`.
        title: may have several lines.
    """
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    rows, columns = aucs.shape
    figure = Figure(figsize=(3.2 + 0.95 * columns, 2.9 + 0.55 * rows), layout="constrained")
    axes = figure.subplots()
    colours = plt.get_cmap("RdYlBu")
    for y, x in np.ndindex(rows, columns):
        value, kind = aucs.iat[y, x], seen.iat[y, x]
        alpha = _FADED[kind]
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colours(value), alpha=alpha, linewidth=0))
        dark = alpha == 1 and not 0.2 < value < 0.8
        style = {"weight": "bold"} if kind == UNSEEN else {"color": "0.25"}
        if dark:
            style["color"] = "white"
        text = f"({value:.3f})" if kind == SEEN else f"{value:.3f}"
        axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", **style)
    for y, x in np.ndindex(rows, columns):  # above every neighbour's colour
        if seen.iat[y, x] == UNSEEN:
            frame = Rectangle((x, y), 1, 1, fill=False, edgecolor="black", linewidth=2)
            axes.add_patch(frame).set_clip_on(False)
    axes.set(xlim=(0, columns), ylim=(rows, 0), xlabel="tested on", ylabel="trained without")
    axes.set_xticks(np.arange(columns) + 0.5, list(aucs.columns), rotation=35, ha="right")
    axes.set_yticks(np.arange(rows) + 0.5, list(aucs.index))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10)
    names = {
        UNSEEN: "generator unseen",
        NEW_PICTURES: "generator seen, pictures new",
        SEEN: "(these pictures seen in training)",
    }
    present = [kind for kind in names if (seen == kind).any(axis=None)]
    handles = [
        Patch(
            facecolor=colours(0.85),
            alpha=None if kind == UNSEEN else _FADED[kind],
            edgecolor="black" if kind == UNSEEN else "none",
            linewidth=2,
            label=names[kind],
        )
        for kind in present
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False,
                  fontsize=9)  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
