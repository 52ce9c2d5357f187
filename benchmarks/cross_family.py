"""python -m benchmarks.cross_family STORE --manifest FILE --out OUT: families never seen.

Every family of generators is left out of training together with a third of the real sources, and
the recipe is chosen among `RECIPES` by folds inside the rest. Faces are framed and coded alike
(`ffdetect.solving.views.matched`). Products of statistics are standardised over all faces, without
labels. Pictures alone: frames of clips, the lines for them, and regenerated pairs take no part.
Swaps in video frames are known to training and their videos are not; they are also judged with
their family left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ffdetect.evaluation.bootstrap import Interval, auc_interval, bootstrap
from ffdetect.evaluation.metrics import auc
from ffdetect.evaluation.protocol import NestedProtocol, Outcome
from ffdetect.evaluation.splits import Fold, Rows, group_folds, inner_folds
from ffdetect.evaluation.tables import markdown
from ffdetect.evaluation.thresholds import false_alarms, threshold_over_units
from ffdetect.solving.recipes import BEST, FAST, Lines, Recipe, Solver
from ffdetect.solving.ridge import RidgeSettings
from ffdetect.solving.solve import add_recipe, read_faces

from ._harness import Parser, save_result

_PLAIN = RidgeSettings(1e-2, 0.0)
_CLIP = BEST.kinds["generated"].rgb
BASELINE = Recipe.plain(("clip_resized",), degraded=0, ridge=_PLAIN)
_STILLS = {"generated": Lines("generated", _CLIP), "early": BEST.kinds["early"]}
_SWAPS = {**_STILLS, "swap": BEST.kinds["swap"]}
_RESIDUAL = {**_SWAPS, "generated": BEST.kinds["generated"]}
RECIPES = {
    "ridge on CLIP blocks 5 to 8": BASELINE,
    "penalty between real sources, a degraded view, the inner face": Recipe.plain(_CLIP),
    "early generators apart, no swaps": Recipe(_STILLS),
    "swaps apart too": Recipe(_SWAPS),
    "and the residual": Recipe(_RESIDUAL),
    "and frames of video told apart": Recipe(_RESIDUAL, BEST.frames),
}
FAST_RECIPES = {
    "one line a reader": Recipe.plain(("lite_rgb",), ("lite_residual",)),
    "early generators and swaps apart": Recipe(
        {name: FAST.kinds[name] for name in ("generated", "early", "swap")}
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(str(__doc__))
    add_recipe(parser)
    add = parser.add_argument
    parser.add_out()
    add("--fast", action="store_true", help="recipes of the fast network")
    add("--inner", type=int, default=3, help="inner folds (%(default)s)")
    add("--reason", default="", help="why outer folds are run again with other recipes")
    args = parser.parse_args(argv)
    recipes = FAST_RECIPES if args.fast else RECIPES
    try:
        faces = read_faces(args, max(recipe.degraded for recipe in recipes.values()))
        if len(faces.pairs):
            raise ValueError(
                f"expected stores without pairs but got {len(faces.pairs)} of their faces"
            )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    solver, rows = Solver(faces), faces.rows
    protocol = NestedProtocol(
        rows,
        lambda index: index,
        inner=lambda rows, fold: inner_folds(rows, fold, count=args.inner),
        ledger=args.out.with_name(args.out.name + ".ledger.json"),
    )
    outcome = protocol.run(recipes, solver.fit, solver.score, args.reason)
    result = judge(solver, rows, outcome, recipes)
    save_result(args.out, parser.command(argv), result, page(result))
    return 0


def judge(
    solver: Solver, rows: Rows, outcome: Outcome, recipes: dict[str, Recipe]
) -> dict[str, Any]:
    """Figures of the outer folds, and of the baseline and each stream on the same folds."""
    families = {}
    baseline = next(iter(recipes.values()))
    rates: dict[float, list[tuple[float, float]]] = {0.1: [], 0.01: []}
    alarms: dict[str, list[float]] = {}
    for fold in outcome.folds:
        own = outcome.outer.fold == fold.name
        index, score = outcome.outer.row[own], outcome.outer.score[own]
        recipe = recipes[outcome.choices[fold.name].recipe]
        families[fold.name] = {
            "recipe": outcome.choices[fold.name].recipe,
            "fakes": int((rows.target[index] == 1).sum()),
            "reals": int((rows.target[index] == 0).sum()),
            "auc": auc_interval(rows.target[index], score, rows.unit[index]).rounded(),
            **_beside(solver, recipe, baseline, fold, rows),
        }
        inner = outcome.choices[fold.name].inner
        known = rows.target[inner.row] == 0
        for fpr, found in rates.items():
            line = threshold_over_units(
                inner.score[known], rows.unit[inner.row][known], fpr, confidence=0.5
            )
            real = rows.target[index] == 0
            flagged = score >= line
            found.append((float(flagged[~real].mean()), float(flagged[real].mean())))
            if fpr == 0.1:
                for alarm in false_alarms(score[real], rows.unit[index][real], line):
                    if alarm.reals >= 20:
                        alarms.setdefault(alarm.source, []).append(alarm.rate)
    worst = {name: float(np.mean(values)) for name, values in alarms.items()}
    return {
        "recipes compared inside": outcome.recipes,
        "looks at the outer folds": outcome.looks,
        "recipe chosen by most": outcome.recipe,
        "mean": _mean_interval(rows, outcome).rounded(),
        "families": families,
        "swaps of known makers, unseen videos": known_swaps(solver, rows, recipes[outcome.recipe]),
        "at inner thresholds": {
            f"{fpr:g}": {
                "tpr": float(np.mean([t for t, _ in found])),
                "fpr": float(np.mean([f for _, f in found])),
            }
            for fpr, found in rates.items()
        },
        "false alarms by source at 0.1": dict(sorted(worst.items(), key=lambda x: -x[1])),
    }


def _beside(
    solver: Solver, recipe: Recipe, baseline: Recipe, fold: Fold, rows: Rows
) -> dict[str, float]:
    """AUC of the baseline, of each stream, and of the fused score on a degraded view."""
    target = rows.target[fold.test]
    plain = solver.scores(baseline, solver.solve(baseline, fold.train), fold.test)
    lines = solver.solve(recipe, fold.train)
    seen = solver.scores(recipe, lines, fold.test)
    found = {"baseline": auc(target, plain["fused"])}
    found |= {s: auc(target, seen[s]) for s in ("rgb", "frequency") if s in seen}
    if recipe.degraded:
        score = solver.scores(recipe, lines, fold.test, 1)["fused"]
        known = np.isfinite(score)  # a face may lack that view
        found["degraded"] = auc(target[known], score[known])
    return found


def known_swaps(solver: Solver, rows: Rows, recipe: Recipe) -> list[float]:
    """AUC over swaps whose maker trained and whose videos did not, with its interval."""
    index, scores = [], []
    for fold in group_folds(rows, ["dfdc_swap"]):
        index.append(fold.test)
        scores.append(solver.scores(recipe, solver.solve(recipe, fold.train), fold.test)["fused"])
    tested = np.concatenate(index)
    group = rows.ties[0][tested]
    return auc_interval(rows.target[tested], np.concatenate(scores), group=group).rounded()


def _mean_interval(rows: Rows, outcome: Outcome) -> Interval:
    """Mean AUC over families, drawn within each unit of each fold."""
    index, score, fold = outcome.outer.row, outcome.outer.score, outcome.outer.fold
    target = rows.target[index]
    stratum = np.char.add(np.char.add(fold.astype(str), "/"), rows.unit[index])

    def figure(drawn: np.ndarray) -> float:
        parts = [drawn[fold[drawn] == name] for name in np.unique(fold)]
        return float(np.mean([auc(target[part], score[part]) for part in parts]))

    return bootstrap(figure, stratum, rounds=300)


def page(result: dict[str, Any]) -> str:
    """The result for people."""
    families = result["families"]
    columns = ["baseline", "rgb", "frequency", "degraded"]
    lines = [
        [name, row["fakes"], row["reals"], Interval(*row["auc"])]
        + [f"{row[c]:.3f}" if c in row else "" for c in columns]
        for name, row in families.items()
    ]
    means = [[row[c] for row in families.values() if c in row] for c in columns]
    mean = [f"{np.mean(values):.3f}" if values else "" for values in means]
    lines.append(["**mean**", "", "", Interval(*result["mean"]), *mean])
    alarms = result["false alarms by source at 0.1"].items()
    return "\n\n".join(
        [
            f"Recipes compared inside: {result['recipes compared inside']}; looks at the outer "
            f"folds: {result['looks at the outer folds']}; chosen by most: "
            f"{result['recipe chosen by most']}.",
            markdown(["family left out", "fakes", "reals", "AUC", *columns], lines),
            "DFDC swaps, videos unseen: "
            f"{Interval(*result['swaps of known makers, unseen videos'])}.",
            *[
                f"At the inner folds' threshold for {fpr}: TPR {rates['tpr']:.3f}, false "
                f"alarms on sources left out {rates['fpr']:.3f}."
                for fpr, rates in result["at inner thresholds"].items()
            ],
            "False alarms at 0.1 by source left out: "
            + ", ".join(f"{name} {rate:.2f}" for name, rate in alarms)
            + ".",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
