"""How the frames of a clip become one number, and those of several people: rules and their AUCs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

from ffdetect.evaluation.bootstrap import Interval
from ffdetect.evaluation.matching import matched_rows
from ffdetect.evaluation.metrics import auc
from ffdetect.scoring.clip import any_of, pool

POOLING: dict[str, Callable[[np.ndarray], float]] = {
    "mean of logits": np.mean,
    "trimmed mean of logits": pool,
    "median of logits": np.median,
    "mean of probabilities": lambda x: expit(x).mean(),
    "mean of the highest three logits": lambda x: np.sort(x)[-3:].mean(),
    "mean of the lowest three logits": lambda x: np.sort(x)[:3].mean(),
    "highest logit": np.max,
}
# Of log ratios, clips x people.
GATHERING: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean of ratios": lambda x: np.array([any_of(row, np.ones(len(row))) for row in x]),
    "highest ratio": lambda x: x.max(1),
    "product of ratios": lambda x: x.sum(1),
}
FOLDS = 4
_SWAPS = "ffpp"  # how methods of FaceForensics++ are called
_DRAWN = 400  # clips of several people for each method and class


@dataclass(frozen=True)
class Chosen:
    """What choosing a rule by its AUC is worth on people that had no say in it.

    Attributes:
        rules: the choice, fold by fold.
        auc: mean AUC on the fold's own people.
        trimmed: the same of the trimmed mean, which is what `ffdetect.scoring.clip` does.
    """

    rules: tuple[str, ...]
    auc: float
    trimmed: float


def people(faces: pd.DataFrame, folds: int) -> np.ndarray:
    """A fold for every row. The last part of a group's name is the person: several sources hold
    clips of one."""
    person = faces["group"].str.rsplit("/", n=1).str[-1].to_numpy().astype(str)
    names = np.random.default_rng(0).permutation(np.unique(person))
    return np.array([{n: i % folds for i, n in enumerate(names)}[p] for p in person])


def clip_table(
    faces: pd.DataFrame, left: dict[str, np.ndarray], matches: dict[str, tuple[str, ...]]
) -> pd.DataFrame:
    """One row for each method and clip it is judged on: method, path, target, person, logits."""
    names, target = (faces[column].to_numpy() for column in ("generator", "target"))
    fold, rows = people(faces, FOLDS), []
    person = faces["group"].str.rsplit("/", n=1).str[-1].to_numpy(str)
    for method, chosen in matched_rows(names, target, matches).items():
        for path, own in pd.Series(chosen).groupby(faces["path"].to_numpy()[chosen]):
            own = own.to_numpy()
            rows.append(
                (method, path, target[own[0]], person[own[0]], fold[own[0]], left[method][own])
            )
    return pd.DataFrame(rows, columns=["method", "path", "target", "person", "fold", "logits"])


def mean_auc(table: pd.DataFrame, score: np.ndarray) -> dict[str, float]:
    """Mean AUC over methods, and over those of FaceForensics++ and the others."""
    target, each = table["target"].to_numpy(), {}
    for method, rows in table.groupby("method").indices.items():
        if len(np.unique(target[rows])) == 2:  # a resampled method may have lost all its fakes
            each[method] = auc(target[rows], score[rows])
    swaps = [value for name, value in each.items() if name.startswith(_SWAPS)]
    heads = [value for name, value in each.items() if not name.startswith(_SWAPS)]
    groups = {"all": [*swaps, *heads], "heads": heads, "swaps": swaps}
    return {name: float(np.mean(g)) if g else np.nan for name, g in groups.items()}


def compare_pooling(table: pd.DataFrame, rounds: int = 200) -> dict[str, dict]:
    """For each rule its AUCs, its gain over the mean of logits with an interval from resampled
    people, and the share of rounds in which it was best."""
    scores = {name: np.array([rule(x) for x in table["logits"]]) for name, rule in POOLING.items()}
    rng = np.random.default_rng(0)
    rounds_of: list[list[float]] = []
    rows_of = list(table.groupby("person").indices.values())
    for _ in range(rounds):
        rows = np.concatenate([rows_of[i] for i in rng.integers(0, len(rows_of), len(rows_of))])
        drawn = table.iloc[rows]
        rounds_of.append([mean_auc(drawn, score[rows])["all"] for score in scores.values()])
    draws = np.array(rounds_of)
    results, best = {}, np.bincount(draws.argmax(1), minlength=len(scores)) / rounds
    for number, (name, score) in enumerate(scores.items()):
        found = mean_auc(table, score)
        gain = draws[:, number] - draws[:, 0]
        first = mean_auc(table, scores["mean of logits"])["all"]
        low, high = np.quantile(gain, [0.025, 0.975])
        results[name] = {
            **found,
            "interval": interval_of(found["all"], draws[:, number]),
            "gain": Interval(found["all"] - first, low, high),
            "best": float(best[number]),
        }
    return results


def choose_elsewhere(table: pd.DataFrame) -> Chosen:
    """Choose the rule of pooling on three folds of the people, judge it on the fourth."""
    scores = {name: np.array([rule(x) for x in table["logits"]]) for name, rule in POOLING.items()}
    rules, aucs, trimmed = [], [], []
    for fold in range(FOLDS):
        own = (table["fold"] == fold).to_numpy()
        others = {name: mean_auc(table[~own], score[~own])["all"] for name, score in scores.items()}
        rules.append(max(others, key=others.__getitem__))
        aucs.append(mean_auc(table[own], scores[rules[-1]][own])["all"])
        trimmed.append(mean_auc(table[own], scores["trimmed mean of logits"][own])["all"])
    return Chosen(tuple(rules), float(np.mean(aucs)), float(np.mean(trimmed)))


def compare_gathering(table: pd.DataFrame, counts: tuple[int, ...] = (2, 4)) -> dict[str, dict]:
    """AUC of each rule where a clip shows several people of whom one may be fake.

    There are no such clips with labels, so that people are put together at random: of a method's
    fake and of its reals.

    Args:
        table: columns method, target, ratio.
    """
    rng = np.random.default_rng(0)
    found: dict[str, dict] = {name: {} for name in GATHERING}
    for count in counts:
        each: dict[str, list[float]] = {name: [] for name in GATHERING}
        for _, rows in table.groupby("method"):
            target, ratio = rows["target"].to_numpy(), rows["ratio"].to_numpy()
            real = rng.choice(ratio[target == 0], (2 * _DRAWN, count))
            real[_DRAWN:, 0] = rng.choice(ratio[target == 1], _DRAWN)
            fake = np.repeat([0, 1], _DRAWN)
            for name, rule in GATHERING.items():
                each[name].append(auc(fake, rule(real)))
        for name, aucs in each.items():
            found[name][count] = float(np.mean(aucs))
    return found


def interval_of(value: float, draws: np.ndarray) -> Interval:
    return Interval(float(value), *(float(x) for x in np.quantile(draws, [0.025, 0.975])))
