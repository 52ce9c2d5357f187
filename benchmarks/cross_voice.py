"""python -m benchmarks.cross_voice CACHE MANIFEST --whisper FILE: are voices told whose makers, and
whose recordings, had no part in training?

Sources are left out in turn, real and fake, with every speaker and recording that they share with
others. The recipe is chosen anew for each fold, by folds inside its training rows; what the sources
left out say is read once. Plain ridge lines stand beside it as baselines. Disturbed, a part of the
recordings is judged by the same heads.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from scipy.special import expit
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from ffdetect.evaluation.bootstrap import Interval, auc_interval, bootstrap
from ffdetect.evaluation.metrics import auc, balanced_weights, tpr_at_fpr
from ffdetect.evaluation.splits import Fold
from ffdetect.evaluation.tables import markdown
from ffdetect.evaluation.thresholds import left_out_alarms
from ffdetect.models.heads import OUTLIER
from ffdetect.scoring.fusion import Evidence
from ffdetect.voice.augment import add_noise, limit_band, recode
from ffdetect.voice.features import FeatureCache, with_sources
from ffdetect.voice.network import LAYERS
from ffdetect.voice.recipes import (
    VIEWS,
    Head,
    KernelRidge,
    Recipe,
    Voices,
    choose,
    folds_of,
    within_sources,
)
from ffdetect.voice.statistics import STATISTICS
from ffdetect.voice.train import add_inputs, calibrate

from ._harness import Parser, save_result


@dataclass(frozen=True)
class Line:
    """A recipe: ridge regression of the classes (Hoerl and Kennard 1970) on standardised features.

    Attributes:
        states: which hidden states it reads, 0 for what enters the first layer.
        change: whether it reads how they change in time, beside mean and deviation.
        statistics: whether it reads `voice_statistics`, which then have the same weight in the
            penalty as all states together.
        ridge: the penalty.
        views: see `Recipe`.
    """

    states: tuple[int, ...] = ()
    change: bool = True
    statistics: bool = True
    ridge: float = 0.7
    views: int = 1

    def columns(self, features: int) -> list[np.ndarray]:
        """Which of so many `voice_features` it reads, in blocks that count alike."""
        size = (features - STATISTICS) // (1 + LAYERS)
        pooled = size if self.change else size * 2 // 3
        states = [np.arange(size * state, size * state + pooled) for state in self.states]
        blocks = [np.concatenate(states)] if states else []
        if self.statistics:
            blocks.append(np.arange(features - STATISTICS, features))
        return blocks

    def solve(self, features: np.ndarray, target: np.ndarray, share: np.ndarray) -> Head:
        """Args are those of `VoiceHead.solve`."""
        blocks = self.columns(features.shape[1])
        columns = np.concatenate(blocks)
        sizes = [len(block) for block in blocks]
        reach = np.repeat(np.float32(len(blocks) * np.array(sizes)) ** -0.5, sizes)
        scaler = StandardScaler().fit(features[:, columns], sample_weight=share)

        def read(seen: np.ndarray) -> np.ndarray:
            return np.clip(scaler.transform(seen[:, columns]), -OUTLIER, OUTLIER) * reach

        line = Ridge(self.ridge).fit(read(features), 2 * target - 1, sample_weight=share)
        return lambda seen: torch.from_numpy(line.predict(read(seen.numpy())))


EVERY = (0, 1, 2, 3, 4)
BASELINES: dict[str, Recipe] = {
    "Whisper, layers 1 to 4, ridge": Line((1, 2, 3, 4), change=False, statistics=False),
    "statistics, ridge": Line(),
    "both, ridge, as stored": Line(EVERY),
    "both, ridge, two views": Line(EVERY, views=2),
}
CANDIDATES: dict[str, Recipe] = {
    "both, ridge, two views": BASELINES["both, ridge, two views"],
    "kernels, two views": KernelRidge(views=2),
    "kernels, three views": KernelRidge(views=3),
    "kernels of reach 0.25, three views": KernelRidge(reach=0.25, views=3),
}
_ROUNDS = 200
_FPRS = (0.1, 0.01)


def _noise(samples: np.ndarray, row: int, others: list) -> np.ndarray:
    return add_noise(samples, 15, 1.0, row).astype(np.float32)


def _mp3(samples: np.ndarray, row: int, others: list) -> np.ndarray:
    return recode(samples, "mp3", 24_000).astype(np.float32)


def _telephone(samples: np.ndarray, row: int, others: list) -> np.ndarray:
    return recode(limit_band(samples, 300, 3400), "amr", 12_200).astype(np.float32)


DISTURBANCES: dict[str, Callable] = {
    "pink noise at 15 dB": _noise,
    "MP3 of 24 kbit/s": _mp3,
    "telephone, AMR of 12.2 kbit/s": _telephone,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(str(__doc__))
    add_inputs(parser)
    parser.add_argument(
        "--disturbed", type=int, default=500, help="recordings judged so (%(default)s)"
    )
    parser.add_out()
    args = parser.parse_args(argv)
    cache = FeatureCache.open(args.cache, args.manifest, args.whisper, args.work, args.workers)
    table = with_sources(cache.table, args.manifest, ("source", "group", "speaker", "kind"))
    voices = Voices(cache.views(VIEWS), table)
    some = np.arange(0, len(table), max(len(table) // args.disturbed, 1))
    disturbed = {name: cache.read(name, disturb, some) for name, disturb in DISTURBANCES.items()}
    answer = measure(voices, some, disturbed, args.workers)
    save_result(args.out, parser.command(argv), answer, page(answer))
    return 0


def measure(
    voices: Voices, some: np.ndarray, disturbed: dict[str, np.ndarray], workers: int
) -> dict:
    """One run over the outer folds.

    Args:
        some: int, which recordings were disturbed.
        disturbed: name -> their features, float16 len(some) x F.
        workers: processes, each of which takes a fold.
    """
    folds = folds_of(voices)
    with ProcessPoolExecutor(max(workers, 1), get_context("spawn")) as executor:
        judged = list(executor.map(partial(judge, voices, some, disturbed), folds))
    return gather(voices, some, folds, judged)


@dataclass(frozen=True)
class Judged:
    """What a fold says.

    Attributes:
        chosen: name of the recipe.
        inside: name -> what each recipe reached inside the training rows.
        logit: row of the table -> logits of tested recordings, float.
        disturbed: the same, name of a disturbance -> logits of those of them that it was done to.
    """

    chosen: str
    inside: dict[str, float]
    logit: dict[str, np.ndarray]
    disturbed: dict[str, dict[str, np.ndarray]]


def judge(voices: Voices, some: np.ndarray, disturbed: dict[str, np.ndarray], fold: Fold) -> Judged:
    """Choose inside, then score once what the fold leaves out; see `measure`."""
    torch.set_num_threads(1)
    name, inside = choose(voices, fold, CANDIDATES)
    tested = voices.features[fold.test, 0]
    solved = {
        row: recipe.solve(*voices.learnt(fold.train, recipe.views))
        for row, recipe in {**BASELINES, "chosen": CANDIDATES[name]}.items()
    }
    logit = {row: _score(head, tested) for row, head in solved.items()}
    own = np.isin(some, fold.test)
    changed = {
        row: {n: _score(head, features[own]) for n, features in disturbed.items()}
        for row, head in solved.items()
    }
    return Judged(name, inside, logit, changed)


def gather(
    voices: Voices, some: np.ndarray, folds: Sequence[Fold], judged: Sequence[Judged]
) -> dict:
    """The figures of all folds together."""
    count, tested = len(voices.table), [fold.test for fold in folds]
    rows = [*BASELINES, "chosen"]
    logit = {row: _joined(count, tested, [j.logit[row] for j in judged]) for row in rows}
    own = [np.flatnonzero(np.isin(some, fold.test)) for fold in folds]
    changed = {"as stored": {row: values[some] for row, values in logit.items()}} | {
        name: {
            row: _joined(len(some), own, [j.disturbed[row][name] for j in judged]) for row in rows
        }
        for name in judged[0].disturbed["chosen"]
    }
    chosen = logit["chosen"]
    part = Voices(voices.features[some], voices.table.iloc[some].reset_index(drop=True))
    calibration, real = calibrate(voices, chosen), voices.target == 0
    calibrated = chosen / calibration.temperature + calibration.bias
    score, weight = expit(calibrated), balanced_weights(voices.target, voices.source)
    alarms = left_out_alarms(score[real], voices.source[real], _FPRS)
    return {
        "recipes": len(CANDIDATES),
        "folds": [{"chosen": j.chosen, "inside": j.inside} for j in judged],
        "rows": {name: figures(voices, values) for name, values in logit.items()},
        "within": within_sources(voices.target, chosen, voices.source),
        "disturbed": {
            name: {row: figures(part, values) for row, values in found.items()}
            for name, found in changed.items()
        },
        "calibration": calibration.to_dict(),
        "evidence": asdict(Evidence.fit(voices.target, calibrated, weight)),  # for the fusion
        "false_alarms": {f"{fpr:g}": [vars(a) for a in found] for fpr, found in alarms.items()},
        "kinds": _kinds(voices, chosen),
    }


def _score(head: Head, features: np.ndarray) -> np.ndarray:
    return head(torch.from_numpy(features.astype(np.float32))).numpy()


def _joined(count: int, rows: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> np.ndarray:
    whole = np.full(count, np.nan)
    whole[np.concatenate(rows)] = np.concatenate(values)
    return whole


def figures(voices: Voices, logit: np.ndarray) -> dict:
    """AUC within sources (mean, interval over sources, worst) and pooled, and TPR."""
    within = within_sources(voices.target, logit, voices.source)
    values = np.array(list(within.values()))
    mean = bootstrap(lambda rows: values[rows].mean(), np.zeros(len(values)), rounds=_ROUNDS)
    pooled = auc_interval(voices.target, logit, rounds=_ROUNDS)
    worst = min(within, key=within.__getitem__)
    return {
        "within": mean.value,
        "within_interval": [mean.low, mean.high],
        "sources": len(values),
        "worst": within[worst],
        "worst_source": worst,
        "pooled": pooled.value,
        "pooled_interval": [pooled.low, pooled.high],
        "tpr": {f"{fpr:g}": tpr_at_fpr(voices.target, logit, fpr) for fpr in _FPRS},
    }


def _kinds(voices: Voices, logit: np.ndarray) -> dict[str, float]:
    """AUC of each kind of fake against all reals."""
    kind, real = voices.table["kind"].to_numpy(str), voices.target == 0
    found = {}
    for name in np.unique(kind[~real]):
        rows = real | (kind == name)
        found[str(name)] = auc(voices.target[rows], logit[rows])
    return found


def page(answer: dict) -> str:
    """The answer for people."""
    within = sorted(answer["within"].items(), key=lambda pair: pair[1])
    head = ["", "within sources, mean [95 %]", "worst source", "pooled [95 %]"]
    head += [f"TPR at FPR {fpr:.0%}" for fpr in _FPRS]
    rows, disturbed = answer["rows"], answer["disturbed"]
    chosen = Counter(fold["chosen"] for fold in answer["folds"]).most_common()
    parts = [
        f"{answer['recipes']} recipes were compared inside each fold's training rows. "
        f"{rows['chosen']['sources']} sources have enough of both classes to be judged alone.",
        markdown(head, [[name, *_cells(row)] for name, row in rows.items()]),
        "Chosen inside: "
        + "; ".join(f"{name} ({n} of {len(answer['folds'])} folds)" for name, n in chosen)
        + ".",
        "## Disturbed",
        "Pooled [95 %] of a part of the recordings:",
        markdown(
            ["", *rows],
            [[n, *(_cells(row)[2] for row in found.values())] for n, found in disturbed.items()],
        ),
        "## Kinds of fakes, against all reals",
        markdown(["kind", "AUC"], [[n, f"{v:.3f}"] for n, v in answer["kinds"].items()]),
        "## Sources",
        markdown(["source", "AUC"], [[name, f"{value:.3f}"] for name, value in within]),
        "## Operating points",
        "Thresholds come from the other sources; the share of a left-out source's reals that "
        "they flag. Worst first; sources with 10 reals or more.",
    ]
    for fpr, alarms in answer["false_alarms"].items():
        mean = np.mean([alarm["rate"] for alarm in alarms])
        shown = [[a["source"], a["reals"], f"{a['rate']:.0%}"] for a in alarms if a["reals"] >= 10]
        parts.append(f"For {float(fpr):.0%}: mean over sources {mean:.1%}.")
        parts.append(markdown(["source", "reals", "flagged"], shown[:8]))
    return "\n\n".join(parts)


def _cells(row: dict) -> list[str]:
    return [
        str(Interval(row["within"], *row["within_interval"])),
        f"{row['worst']:.2f} ({row['worst_source']})",
        str(Interval(row["pooled"], *row["pooled_interval"])),
        *(f"{tpr:.2f}" for tpr in row["tpr"].values()),
    ]


if __name__ == "__main__":
    sys.exit(main())
