"""python -m benchmarks.cross_vocoder CACHE MANIFEST: are voices told whose makers, and whose
recordings, had no part in training?

Each source is left out in turn, real and fake, then the train split is judged on the dev split.
Fakes of a source are compared with its own reals. Twice: as stored, and "matched", where both go
through the same band limit, noise and MP3, so that neither bandwidth nor noise floor nor an older
codec can tell. The probe beside it is the usual one: mean and deviation of 80 log-mel bands, and
logistic regression.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from ffdetect.evaluation.bootstrap import auc_interval
from ffdetect.evaluation.metrics import auc, eer
from ffdetect.voice.augment import add_noise, limit_band, recode
from ffdetect.voice.statistics import voice_statistics
from ffdetect.voice.train import read_views, solve_views
from preprocess.cache.reader import SoundCache
from preprocess.io.mel import sound_maps

PROCESSINGS = ("stored", "matched")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cross_vocoder", description=__doc__)
    add = parser.add_argument
    add("cache", type=Path, help="made by preprocess.sound")
    add("manifest", type=Path, help="says which source each path is of")
    add("--work", type=Path, default=Path("cache/cross_vocoder.run"), help="(%(default)s)")
    add("--out", type=Path, default=Path("benchmarks/results"), help="(%(default)s)")
    add("--views", type=int, default=2, help="augmented versions to learn from (%(default)s)")
    add("--workers", type=int, default=1, help="processes (%(default)s)")
    args = parser.parse_args(argv)
    table = with_sources(SoundCache(args.cache).metadata, args.manifest)
    rows = np.arange(len(table))
    views = read_views(args.cache, rows, args.views, 0, folder=args.work, resume=True,
                       workers=args.workers)  # fmt: skip
    tested = _read_tested(args.cache, rows, args.work / "tested.npz", args.workers)
    results = {p: measure(table, views, tested, p) for p in PROCESSINGS}
    answer = {"command": "python -m benchmarks.cross_vocoder " + " ".join(argv or sys.argv[1:]),
              "views": args.views, "results": results}  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "cross_vocoder.json").write_text(json.dumps(answer, indent=1) + "\n", "utf-8")
    text = markdown(answer)
    (args.out / "cross_vocoder.md").write_text(text, "utf-8")
    print(text)
    return 0


def measure(
    table: pd.DataFrame, views: np.ndarray, tested: dict[str, np.ndarray], processing: str
) -> list[dict]:
    """One entry for each fold and source: sizes, AUC with interval and EER, ours and the probe's.

    Args:
        table: columns target, generator, group, split and source, N rows.
        views: augmented statistics, N x V x F.
        tested: "statistics_P" N x F and "mel_P" N x 160 for a processing P.
    """
    target, kinds = table["target"].to_numpy(), table["generator"].to_numpy(str)
    entries = []
    for fold, learnt, judged in folds(table):
        head = solve_views([(views[learnt], target[learnt], kinds[learnt])])
        score = head(torch.from_numpy(tested[f"statistics_{processing}"][judged])).numpy()
        # The probe learns from recordings in the processing that it is judged in.
        mel = tested[f"mel_{processing}"]
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        probe.fit(mel[learnt], target[learnt])
        entries.append({
            "fold": fold,
            "real": int((target[judged] == 0).sum()),
            "fake": int((target[judged] == 1).sum()),
            **_figures(target[judged], score),
            "probe_auc": auc(target[judged], probe.decision_function(mel[judged])),
        })  # fmt: skip
    return entries


def held_out_logits(
    table: pd.DataFrame, views: np.ndarray, tested: dict[str, np.ndarray]
) -> np.ndarray:
    """Logits of every recording, as stored, by heads that knew nothing of its source, N.

    Args: see `measure`.
    """
    target, kinds = table["target"].to_numpy(), table["generator"].to_numpy(str)
    logit = np.full(len(table), np.nan)
    for fold, learnt, judged in folds(table):
        if fold.startswith("without"):
            head = solve_views([(views[learnt], target[learnt], kinds[learnt])])
            logit[judged] = head(torch.from_numpy(tested["statistics_stored"][judged])).numpy()
    return logit


def folds(table: pd.DataFrame) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(name, rows to learn from, rows to judge).

    In the folds that leave a source out, nothing of it is learnt, nor of sources that show the
    same recordings (the same `group`). Train to dev, the split decides, and sources are judged
    apart and together.
    """
    source, split = table["source"].to_numpy(str), table["split"].to_numpy(str)
    group, made = table["group"].to_numpy(str), []
    for name in np.unique(source):
        known = np.setdiff1d(group[source == name], ["", "nan"])  # the manifest's "no group"
        kin = np.union1d(source[np.isin(group, known)], [name])
        made.append((f"without {name}", np.flatnonzero(~np.isin(source, kin)),
                     np.flatnonzero(source == name)))  # fmt: skip
    train = np.flatnonzero(split == "train")
    for name in np.unique(source[split == "dev"]):
        judged = np.flatnonzero((split == "dev") & (source == name))
        made.append((f"train to dev, {name}", train, judged))
    made.append(("train to dev, all", train, np.flatnonzero(split == "dev")))
    target = table["target"].to_numpy()
    return [fold for fold in made if len(np.unique(target[fold[2]])) == 2]


def _figures(target: np.ndarray, score: np.ndarray) -> dict:
    interval = auc_interval(target, score)
    return {"auc": interval.value, "low": interval.low, "high": interval.high,
            "eer": eer(target, score)}  # fmt: skip


def with_sources(table: pd.DataFrame, manifest: Path) -> pd.DataFrame:
    """The cache's rows with the manifest's source, by file name."""
    listed = pd.read_csv(manifest)
    names = {Path(p).name: s for p, s in zip(listed["path"], listed["source"], strict=True)}
    return table.assign(source=[names[Path(path).name] for path in table["path"]])


def matched(samples: np.ndarray, seed: int) -> np.ndarray:
    """The processing that no recording's own format survives: 60 Hz to 6.5 kHz, pink noise at
    35 dB, MP3 of 48 kbit/s."""
    limited = limit_band(samples, 60, 6500)
    return recode(add_noise(limited, 35, 1.0, seed), "mp3", 48).astype(np.float32)


def _tested(job: tuple[Path, int]) -> dict[str, np.ndarray]:
    torch.set_num_threads(1)
    cache, row = job
    samples = SoundCache(cache).samples(row).astype(np.float32) / 32767
    found = {}
    for name, x in zip(PROCESSINGS, (samples, matched(samples, row)), strict=True):
        voice = torch.from_numpy(np.ascontiguousarray(x))
        found[f"statistics_{name}"] = voice_statistics(voice).numpy()
        mel = sound_maps(voice[None])[0][0]
        found[f"mel_{name}"] = torch.cat([mel.mean(1), mel.std(1)]).numpy()
    return found


def _read_tested(cache: Path, rows: np.ndarray, file: Path, workers: int) -> dict:
    if not file.exists():
        with ProcessPoolExecutor(workers, get_context("spawn")) as executor:
            jobs = [(cache, int(row)) for row in rows]
            found = list(tqdm(executor.map(_tested, jobs, chunksize=8), total=len(jobs)))
        np.savez(file, **{name: np.stack([f[name] for f in found]) for name in found[0]})
    with np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def markdown(answer: dict) -> str:
    lines = ["# Voices of unseen sources", "", f"`{answer['command']}`", ""]
    for processing, entries in answer["results"].items():
        lines += [f"## {processing}", "",
                  "| fold | real | fake | AUC [95 % interval] | EER | probe AUC |",
                  "|---|---|---|---|---|---|"]  # fmt: skip
        lines += [
            f"| {e['fold']} | {e['real']} | {e['fake']} | {e['auc']:.3f} [{e['low']:.3f}, "
            f"{e['high']:.3f}] | {e['eer']:.3f} | {e['probe_auc']:.3f} |"
            for e in entries
        ]
        left = [e for e in entries if e["fold"].startswith("without")]
        lines += [f"| **mean over sources left out** | | | **{_mean(left, 'auc'):.3f}** | "
                  f"{_mean(left, 'eer'):.3f} | {_mean(left, 'probe_auc'):.3f} |", ""]  # fmt: skip
    return "\n".join(lines)


def _mean(entries: Sequence[dict], name: str) -> float:
    return float(np.mean([entry[name] for entry in entries]))


if __name__ == "__main__":
    sys.exit(main())
