"""The plots of `benchmarks.robustness`: a panel a disturbance, its strengths from left to right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .disturbances import DISTURBANCES, Disturbance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .robustness import Outcome

_COLUMNS = 5
# Okabe and Ito 2008: told apart with most kinds of colour vision.
_REAL, _FAKE = "#0072B2", "#D55E00"
_GENERATORS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#D55E00", "#0072B2")


@dataclass(frozen=True)
class _Sheet:
    """One picture of panels."""

    name: str
    title: str
    y: str
    draw: Callable[[Axes, list[Outcome]], None]


def plot(outcomes: Sequence[Outcome], out: Path) -> list[Path]:
    """Write OUT_auc.png, OUT_shift.png and OUT_crossings.png."""
    files = []
    for sheet in _SHEETS:
        files.append(out.with_name(f"{out.name}_{sheet.name}.png"))
        _panels(outcomes, sheet).savefig(files[-1], dpi=100)
    return files


def _panels(outcomes: Sequence[Outcome], sheet: _Sheet) -> Figure:
    # Figure instead of pyplot: nothing global, and no display is looked for.
    from matplotlib.figure import Figure

    rows = -(-len(DISTURBANCES) // _COLUMNS)
    figure = Figure(figsize=(15, 3.3 * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, sharey=True, squeeze=False)
    for ax, kind in zip(axes.flat, DISTURBANCES, strict=False):
        sheet.draw(ax, _along(kind, outcomes))
        names = ["none" if s is None else f"{s:g}" for s in kind.strengths]
        ax.set_xticks(range(len(names)), names)
        ax.axvline(kind.strengths.index(None), color="0.9", lw=9, zorder=0)
        ax.set_title(kind.name, fontsize=11)
        ax.set_xlabel(kind.unit, fontsize=9)
        ax.grid(axis="y", color="0.88")
        ax.set_axisbelow(True)
    for ax in axes.flat[len(DISTURBANCES) :]:
        ax.remove()
    for ax in axes[:, 0]:
        ax.set_ylabel(sheet.y)
    figure.suptitle(sheet.title, fontsize=13)
    handles, texts = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=len(texts), frameon=False)
    return figure


def _along(kind: Disturbance, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes of one panel in the order of its axis."""
    found = {outcome.condition: outcome for outcome in outcomes}
    return [found[kind.label(strength)] for strength in kind.strengths]


def _draw_auc(ax: Axes, found: list[Outcome]) -> None:
    x = range(len(found))
    for number, name in enumerate(found[0].auc):
        colour = _GENERATORS[number % len(_GENERATORS)]
        ax.plot(x, [o.auc[name] for o in found], ".-", color=colour, lw=1, ms=4, label=name)
    ax.plot(x, [o.mean_auc for o in found], "o-", color="black", lw=2.2, ms=4, label="mean")
    base = found[0].mean_auc - found[0].change.value
    ax.fill_between(
        x,
        [base + o.change.low for o in found],
        [base + o.change.high for o in found],
        color="black",
        alpha=0.15,
        lw=0,
        label="mean, 95 % interval of its change",
    )
    ax.axhline(0.5, color="0.5", ls=":", lw=1, label="chance")


def _draw_shift(ax: Axes, found: list[Outcome]) -> None:
    x = range(len(found))
    for name, colour in (("reals", _REAL), ("fakes", _FAKE)):
        shifts = [getattr(outcome, name) for outcome in found]
        low, high = zip(*[shift.logit_quartiles for shift in shifts], strict=True)
        ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0, label=f"{name}, middle half")
        ax.plot(x, [s.logit for s in shifts], "o-", color=colour, ms=4, label=f"{name}, median")
    ax.axhline(0, color="0.3", lw=1)


def _draw_crossings(ax: Axes, found: list[Outcome]) -> None:
    """Bars of full colour are errors that were made, pale ones errors undone."""
    reals, fakes = [o.reals for o in found], [o.fakes for o in found]
    for shifts, side, colour, label, above, new in (
        (reals, -0.2, _REAL, "reals newly flagged", True, True),
        (reals, -0.2, _REAL, "reals no longer flagged", False, False),
        (fakes, 0.2, _FAKE, "fakes newly caught", True, False),
        (fakes, 0.2, _FAKE, "fakes newly missed", False, True),
    ):
        x = [place + side for place in range(len(found))]
        bars = [100 * s.newly_above if above else -100 * s.newly_below for s in shifts]
        ax.bar(x, bars, 0.38, color=colour, alpha=1 if new else 0.4, label=label)
    ax.axhline(0, color="0.3", lw=1)


_SHEETS = (
    _Sheet(
        "auc",
        "How well fakes are told from reals of their kind, by strength of the disturbance",
        "AUC",
        _draw_auc,
    ),
    _Sheet(
        "shift",
        "How far a disturbance moves the scores of reals and of fakes",
        "change of a face's logit\n← towards real      towards fake →",
        _draw_shift,
    ),
    _Sheet(
        "crossings",
        "Faces that a disturbance takes across the operating point "
        "(full colour: a new error, pale: an error undone)",
        "% of the class\n← now passes as real   now flagged →",
        _draw_crossings,
    ),
)
