"""python -m benchmarks.clip_scores CLIPS SOUND MANIFEST --init FILE: how are frames pooled, and
face and voice joined?

All logits are of heads that knew neither the method nor the people of a clip, or nothing of the
source of a voice (`cross_method`, `cross_vocoder`). Rules of pooling see the same clips.
For the fusion there are no clips with fake voices, so scores of faces and of voices are paired at
random; what listening costs where all sound is real is measured on the clips' own sound. --save
writes what the fusion needs to know of both scores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from tqdm import tqdm

from ffdetect.evaluation.matching import matched_rows, parse_matches
from ffdetect.scoring.clip import pool
from ffdetect.scoring.fusion import Evidence, Fusion
from ffdetect.voice import VoiceDetector
from ffdetect.voice.statistics import voice_statistics
from ffdetect.voice.train import read_views
from preprocess.cache.reader import CacheReader, SoundCache
from preprocess.io.formats import DecodeError

from .clip_pooling import (
    FOLDS,
    Chosen,
    choose_elsewhere,
    clip_table,
    compare_gathering,
    compare_pooling,
    interval_of,
    mean_auc,
)
from .cross_method import add_heads, held_out_logits, make_network
from .cross_vocoder import held_out_logits as held_out_voices
from .cross_vocoder import with_sources
from .kept import digest, file_digest, kept_scores

SHARES = (1 / 3, 1 / 3, 1 / 3)  # nothing is known of what forgers prefer
CASES = ("face", "voice", "both")
_PAIRS = 300  # drawn for each method, source and case


def mixture(face: np.ndarray, voice: np.ndarray) -> np.ndarray:
    """`Fusion.log_ratio` of arrays."""
    f, v = np.exp(face), np.exp(voice)
    return SHARES[0] * f + SHARES[1] * v + SHARES[2] * f * v


# Of log ratios of face and voice; those called "raw" are of logits as the detectors give them.
JOINING: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "face alone": lambda f, v: f,
    "voice alone": lambda f, v: v,
    "mean of raw probabilities": lambda f, v: expit(f) + expit(v),
    "highest raw probability": np.maximum,
    "highest ratio": np.maximum,
    "product of ratios": np.add,
    "mean over the three cases": mixture,
}


def alike(target: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Weights: of either class every kind counts alike, and the classes do."""
    weight = np.zeros(len(target))
    for value in (0, 1):
        own = target == value
        names, count = np.unique(kind[own], return_counts=True)
        share = dict(zip(names, 1 / (count * len(names)), strict=True))
        weight[own] = [share[name] for name in kind[own]]
    return weight


def compare_joining(clips: pd.DataFrame, voices: pd.DataFrame, rounds: int = 100) -> dict:
    """For each rule and case the AUC against clips real in both, mean over methods and sources.

    Args:
        clips, voices: columns target, kind, unit (what is resampled), logit, ratio.
    """
    rng, draws = np.random.default_rng(0), {name: [] for name in JOINING}
    for number in range(rounds + 1):
        drawn = [clips, voices]
        if number:
            drawn = [_resampled(table, rng) for table in drawn]
        for name, found in _join(*drawn, rng).items():
            draws[name].append(found)
    results = {}
    for name, values in draws.items():
        table = np.array(values)
        table = np.column_stack([table, table.mean(1)])
        results[name] = {
            case: interval_of(table[:, i].mean(), table[1:, i])
            for i, case in enumerate([*CASES, "mean"])
        }
    return results


def _resampled(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    rows_of = list(table.groupby("unit").indices.values())
    drawn = [rows_of[i] for i in rng.integers(0, len(rows_of), len(rows_of))]
    return table.iloc[np.concatenate(drawn)]


def _join(clips: pd.DataFrame, voices: pd.DataFrame, rng: np.random.Generator) -> dict:
    values = {name: [] for name in JOINING}
    for seen in _by_kind(clips):
        for heard in _by_kind(voices):
            # Pairs of real and real, and of each case, as rows (logit, ratio) of either.
            pairs = [
                [table[rng.integers(0, len(table), _PAIRS)] for table in (face, voice)]
                for face, voice in ((seen[0], heard[0]), (seen[1], heard[0]),
                                    (seen[0], heard[1]), (seen[1], heard[1]))
            ]  # fmt: skip
            for name, rule in JOINING.items():
                column = 0 if "raw" in name else 1
                real, *fakes = (rule(f[:, column], v[:, column]) for f, v in pairs)
                values[name].append([_auc(real, fake) for fake in fakes])
    return {name: np.mean(each, 0) for name, each in values.items()}


def _by_kind(table: pd.DataFrame) -> list[list[np.ndarray]]:
    """Logit and ratio of reals and of fakes, float N x 2, of every kind that has both."""
    kind, target = table["kind"].to_numpy(), table["target"].to_numpy()
    numbers = table[["logit", "ratio"]].to_numpy()
    parts = [[numbers[(kind == name) & (target == value)] for value in (0, 1)]
             for name in np.unique(kind)]  # fmt: skip
    return [part for part in parts if all(map(len, part))]


def _auc(real: np.ndarray, fake: np.ndarray) -> float:
    """`metrics.auc`, faster for the many small sets here."""
    real = np.sort(real)
    below, upto = (np.searchsorted(real, fake, side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(real))


def sound_of_clips(paths: Sequence[str], root: Path) -> np.ndarray:
    """Logits of the shipped voice weights, which learnt from no clip; without sound, nan."""
    detector, found = VoiceDetector.load(), []
    for path in tqdm(paths, unit="clip"):
        try:
            score = min(max(detector.score(root / path), 1e-12), 1 - 1e-12)
            found.append(np.log(score / (1 - score)))
        except DecodeError:
            found.append(np.nan)
    return np.array(found)


def statistics_as_stored(cache: SoundCache) -> np.ndarray:
    """Of every row of a cache of sound."""
    rows = tqdm(range(len(cache.metadata)), unit="voice")
    voices = (cache.samples(row).astype(np.float32) / 32767 for row in rows)
    return np.stack([voice_statistics(torch.from_numpy(voice)).numpy() for voice in voices])


def main(argv: Sequence[str] | None = None) -> int:
    name = "python -m benchmarks.clip_scores"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    add = parser.add_argument
    add("clips", type=Path, metavar="CLIPS", help="frames, written by preprocess.crop")
    add("sound", type=Path, metavar="SOUND", help="voices, written by preprocess.sound")
    add("manifest", type=Path, metavar="MANIFEST", help="of both; the clips lie beside it")
    add("--match", action="append", default=[], metavar="FAKE=REAL[,REAL]")
    add_heads(parser)
    add("--work", type=Path, default=Path("cache/clip_scores.run"), help="(%(default)s)")
    add("--out", type=Path, help="write OUT.json and OUT.md")
    add("--save", type=Path, help="write what the fusion needs there")
    args = parser.parse_args(argv)
    reader, matches = CacheReader(args.clips), parse_matches(args.match)
    faces = reader.metadata

    def faces_held_out() -> np.ndarray:
        size, names = reader.settings.crop.size, set(faces["generator"])
        network = make_network(args.init, size, args.face, names)
        left = held_out_logits(network, reader, matches, views=args.views, folds=FOLDS,
                               sureness=args.sureness)  # fmt: skip
        return np.stack([left[method] for method in sorted(left)])

    methods = sorted({"", *matched_rows(faces["generator"], faces["target"], matches)})
    made = {"rows": digest(faces["key"]), "views": args.views, "sureness": args.sureness,
            "face": args.face and file_digest(args.face)}  # fmt: skip
    kept = kept_scores(args.work / "faces.npz", made, faces_held_out)
    clips = clip_table(faces, dict(zip(methods, kept, strict=True)), matches)
    sound = SoundCache(args.sound)
    table = with_sources(sound.metadata, args.manifest)
    rows = np.arange(len(table))
    seen = read_views(args.sound, rows, args.views, 0, folder=args.work, resume=True)
    tested = kept_scores(args.work / "voices.npz", {"rows": len(table)},
                         lambda: statistics_as_stored(sound))  # fmt: skip
    voices = table.assign(logit=held_out_voices(table, seen, {"statistics_stored": tested}))
    paths = sorted(set(clips["path"]))
    logits = kept_scores(args.work / "sound.npz", {"paths": digest(paths)},
                         lambda: sound_of_clips(paths, args.manifest.parent))  # fmt: skip
    own = {path: logit for path, logit in zip(paths, logits, strict=True) if np.isfinite(logit)}

    pooling, chosen = compare_pooling(clips), choose_elsewhere(clips)
    clips = clips.assign(kind=clips["method"], unit=clips["person"],
                         logit=[pool(x) for x in clips["logits"]])  # fmt: skip
    # The clips' sound is real and of other origin than the voices: it counts among the reals.
    real = clips.drop_duplicates("person").assign(logit=lambda t: t["path"].map(own)).dropna()
    source = faces.drop_duplicates("path").set_index("path")["generator"]
    heard = pd.concat([
        voices.assign(kind=voices["source"], unit=voices["path"]),
        real.assign(target=0, kind=real["path"].map(source), unit=real["path"]),
    ])[["target", "kind", "unit", "logit"]].reset_index(drop=True)  # fmt: skip
    evidence = [
        Evidence.fit(t["target"].to_numpy(), t["logit"].to_numpy(),
                     alike(t["target"].to_numpy(), t["kind"].to_numpy()))
        for t in (clips, heard)
    ]  # fmt: skip
    counts = clips.drop_duplicates("path")["target"].value_counts()  # a real serves many methods
    evidence[0] = replace(evidence[0], reals=int(counts[0]), fakes=int(counts[1]))
    command = " ".join([name, *(argv or sys.argv[1:])])
    fusion = Fusion.of(*evidence, SHARES, {"command": command, "date": f"{date.today()}"})
    if args.save:
        fusion.save(args.save)
    # Two numbers for each detector, which keep its ranks, are fitted on the very scores that are
    # joined; in folds they would differ, and fuse scores of several scales.
    for known, worth in ((clips, fusion.face), (heard, fusion.voice)):
        known["ratio"] = [worth.log_ratio(logit) for logit in known["logit"]]
    gathering = compare_gathering(clips)
    joining = compare_joining(clips, heard[heard["kind"].isin(voices["source"])])
    both = clips[clips["path"].isin(own)]
    voice_ratio = np.array([fusion.voice.log_ratio(own[path]) for path in both["path"]])
    cost = {rule: mean_auc(both, JOINING[rule](both["ratio"].to_numpy(), voice_ratio))
            for rule in ("face alone", "product of ratios",
                         "mean over the three cases")}  # fmt: skip
    text = report(command, pooling, chosen, gathering, joining, cost, fusion)
    print(text)
    if args.out:
        called = float(np.mean([logit > 0 for logit in own.values()]))
        values = {"command": command, "pooling": pooling, "chosen_elsewhere": chosen,
                  "gathering": gathering, "joining": joining,
                  "own_sound": cost, "own_sound_called_fake": called}  # fmt: skip
        args.out.with_suffix(".json").write_text(
            json.dumps(values, indent=1, default=lambda x: x.__dict__) + "\n", "utf-8"
        )
        args.out.with_suffix(".md").write_text(text, "utf-8")
    return 0


def report(
    command: str,
    pooling: dict[str, dict],
    chosen: Chosen,
    gathering: dict[str, dict],
    joining: dict[str, dict],
    cost: dict[str, dict],
    fusion: Fusion,
) -> str:
    """Markdown."""
    lines = [f"`{command}`", "", "## Frames to a clip", "",
             "| rule | mean AUC | gain over the first | talking heads | FaceForensics++ | best |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    lines += [f"| {name} | {r['interval']} | {r['gain']} | {r['heads']:.3f} | {r['swaps']:.3f} | "
              f"{r['best']:.0%} |" for name, r in pooling.items()]  # fmt: skip
    lines += ["", "Intervals and the last column: people resampled 200 times.", "",
              f"A rule chosen on three folds of the people has a mean AUC of {chosen.auc:.3f} on "
              f"the fourth, the trimmed mean {chosen.trimmed:.3f}; chosen were "
              f"{', '.join(chosen.rules)}.", "",
              "## Several people to a clip", "",
              "One may be fake, the others are real; put together at random.", "",
              "| rule | " + " | ".join(f"{n} people" for n in next(iter(gathering.values())))
              + " |", "|---" * (1 + len(next(iter(gathering.values())))) + "|"]  # fmt: skip
    lines += [f"| {name} | " + " | ".join(f"{value:.3f}" for value in r.values()) + " |"
              for name, r in gathering.items()]  # fmt: skip
    lines += ["", "## Face and voice to a clip", "", "What is fake, paired at random:", "",
              "| rule | the face | the voice | both | mean |", "|---|---|---|---|---|"]  # fmt: skip
    lines += [f"| {name} | " + " | ".join(map(str, r.values())) + " |"
              for name, r in joining.items()]  # fmt: skip
    lines += ["", "With the clips' own sound, which is real:", "",
              "| rule | mean AUC | talking heads | FaceForensics++ |",
              "|---|---|---|---|"]  # fmt: skip
    lines += [f"| {name} | {r['all']:.3f} | {r['heads']:.3f} | {r['swaps']:.3f} |"
              for name, r in cost.items()]  # fmt: skip
    lines += [
        "",
        "## What logits are worth",
        "",
        "| | temperature | bias | log ratios | reals | fakes |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| {n} | {e.temperature:.2f} | {e.bias:.2f} | {e.low:.2f} to {e.high:.2f} | "
              f"{e.reals} | {e.fakes} |"
              for n, e in (("face", fusion.face), ("voice", fusion.voice))]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
