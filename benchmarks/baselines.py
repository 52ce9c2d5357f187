"""python -m benchmarks.baselines MATCHED [...] --runs DIR --out OUT: is it better than the usual?

The usual challenge recipe and any weights files, all judged on the same faces of a cache by
`evaluation.framing`: the recipe learns from its train split, every way is judged on the rest; with
--without it learns from all other generators and every way is judged on those left out. What one
way adds to another is a paired bootstrap: both see the same faces.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ffdetect.evaluation.bootstrap import Interval
from ffdetect.evaluation.breakdown import GeneratorResult, break_down
from ffdetect.evaluation.framing import RAW, framing
from ffdetect.evaluation.kept import Store
from ffdetect.evaluation.matching import judged_rows
from ffdetect.evaluation.splits import split_rows
from ffdetect.evaluation.tables import markdown
from ffdetect.models.base import Logits, Scorer
from ffdetect.models.device import pick_device
from ffdetect.models.weights import load_checkpoint
from ffdetect.scoring.detector import Detector
from preprocess.cache.reader import CacheReader

from . import challenge_recipe
from ._harness import Parser, cache_digest, save_result, weights_digest
from .paired import mean_aucs

ROUNDS = 1000  # of the bootstrap


@dataclass(frozen=True)
class Way:
    """One way of telling fakes: what it is, what decides its scores, and how to compute them."""

    name: str
    what: str
    made: dict
    compute: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Measured:
    """A way's results, and its mean AUC with its interval."""

    what: str
    results: list[GeneratorResult]
    mean: Interval


@dataclass(frozen=True)
class Difference:
    """Mean AUC of one way minus that of another, on the same faces."""

    way: str
    than: str
    auc: Interval


def chosen_rows(faces: pd.DataFrame, without: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from and rows to judge by.

    Raises:
        ValueError: unknown generators, or nothing to learn from or to judge by.
    """
    generator, target = faces["generator"], faces["target"]
    known = sorted(set(generator[target == 1]))
    if set(without) - set(known):
        raise ValueError(
            f"expected --without among {known} but got {sorted(set(without) - set(known))}"
        )
    train, test = split_rows(faces, fit_fakes=bool(without), without=without)
    if without:
        rows = judged_rows(faces)
        left_out = generator.iloc[rows].isin(list(without)).to_numpy()
        test = rows[left_out | (target.iloc[rows] == 0).to_numpy()]
    for what, rows in (("train", train), ("test", test)):
        if target.iloc[rows].nunique() < 2:
            raise ValueError(
                f"expected real and fake faces to {what} on but got {len(rows)} of one kind at most"
            )
    return train, test


def _recipes(
    args: argparse.Namespace, reader: CacheReader, train: np.ndarray, test: np.ndarray
) -> list[Way]:
    inits = _files(args.init, "--init")
    models = args.models.split(",") if args.models else []
    if inits.keys() - set(models):
        raise ValueError(
            f"expected --init for one of {models} but got {sorted(inits.keys() - set(models))}"
        )
    device = pick_device(args.device)
    ways = []
    for name in models:
        init = inits.get(name)
        classifier = challenge_recipe.create_classifier(name, init)  # errors come early

        def compute(classifier=classifier) -> np.ndarray:
            return challenge_recipe.train_and_score(
                classifier,
                reader,
                train,
                test,
                epochs=args.epochs,
                device=device,
                workers=args.workers,
            )

        start = f"from {init.name}" if init else "from random weights"
        epochs = f"{args.epochs} epoch{'s' * (args.epochs > 1)}"
        made = {"epochs": args.epochs, "init": weights_digest(init) if init else None}
        ways.append(Way(name, f"challenge recipe, {start}, {epochs}", made, compute))
    return ways


def _detectors(args: argparse.Namespace, reader: CacheReader, test: np.ndarray) -> list[Way]:
    files, ways = _files(args.weights, "--weights"), []
    if unknown := sorted(set(args.streams) - files.keys()):
        raise ValueError(f"expected --streams among {sorted(files)} but got {unknown}")
    for name, file in files.items():
        detector = Detector.load(file, args.device, threads=None)
        detector.check_cache(reader)
        recipe = detector.about.get("recipe", {})
        known = [option for option in ("fit_all", "fit_fakes") if recipe.get(option)]
        if args.without:
            trained = set(detector.about.get("data", {})) & set(args.without)
            known = sorted(trained) + [option for option in known if option == "fit_all"]
        if known:
            raise ValueError(
                f"{file}: expected weights that have not seen the tested faces but "
                f"they were trained with {', '.join(known)}"
            )

        def compute(detector=detector) -> np.ndarray:
            return detector.score_cache(reader, test)

        made = {"weights": weights_digest(file)}
        ways.append(Way(name, f"weights {file.name}", made, compute))
        if name in args.streams:
            ways += _streams(name, load_checkpoint(file).network, made, reader, test)
    return ways


def _streams(
    name: str, network: Scorer, made: dict, reader: CacheReader, test: np.ndarray
) -> list[Way]:
    @functools.cache
    @torch.inference_mode()
    def read() -> Logits:
        batches = np.array_split(test, 1 + len(test) // 32)
        parts = [network.stream_logits(reader.crops(rows)) for rows in batches]
        return Logits(*(torch.cat(logits) for logits in zip(*parts, strict=True)))

    def of(stream: str) -> np.ndarray:
        return getattr(read(), stream).sigmoid().numpy()

    return [
        Way(
            f"{name}-{stream}",
            f"its {stream} stream alone",
            {**made, "stream": stream},
            functools.partial(of, stream),
        )
        for stream in ("rgb", "frequency")
    ]


def _files(pairs: Sequence[str], option: str) -> dict[str, Path]:
    files = {}
    for pair in pairs:
        name, _, file = pair.partition("=")
        if not name or not file:
            raise ValueError(f"expected {option} NAME=FILE but got {pair!r}")
        files[name] = Path(file)
    return files


def _pairs(pairs: Sequence[str], names: Sequence[str]) -> list[tuple[str, str]]:
    split = []
    for pair in pairs:
        first, _, second = pair.partition(",")
        if first not in names or second not in names:
            raise ValueError(f"expected --pair A,B of {list(names)} but got {pair!r}")
        split.append((first, second))
    return split


def measure(
    faces: pd.DataFrame,
    ways: dict[str, str],
    scores: dict[str, np.ndarray],
    pairs: Sequence[tuple[str, str]],
) -> tuple[dict[str, Measured], list[Difference]]:
    """Results of every way on the same faces, and of pairs of them.

    Args:
        faces: as `CacheReader.metadata`.
        ways: name -> what it is.
        scores: name -> float N.
        pairs: names whose difference is wanted, the first minus the second.
    """
    means, differences = mean_aucs(faces, scores, pairs)
    measured = {
        name: Measured(what, _generators(faces, scores[name]), means[name])
        for name, what in ways.items()
    }
    return measured, [Difference(a, b, interval) for (a, b), interval in differences.items()]


def _generators(faces: pd.DataFrame, score: np.ndarray) -> list[GeneratorResult]:
    unit = faces["generator"].to_numpy().astype(str)
    found = break_down(faces["target"].to_numpy(), score, unit, rounds=ROUNDS).generators
    return sorted(found, key=lambda result: result.generator)


def baselines_table(measured: dict[str, Measured], differences: Sequence[Difference]) -> str:
    """Markdown: one line a way, one column a generator, then the differences."""
    first = next(iter(measured.values())).results
    names = [f"{r.generator} ({r.fakes} / {r.reals})" for r in first]
    lines = [
        [name, way.what, *(result.auc for result in way.results), f"**{way.mean}**"]
        for name, way in measured.items()
    ]
    parts = [
        "AUC [95 %] by generator (fakes / reals)",
        markdown(["way", "what", *names, "mean"], lines),
    ]
    if differences:
        pairs = [[f"{d.way} minus {d.than}", d.auc.signed()] for d in differences]
        parts.append(markdown(["difference of mean AUC", "[95 %], paired"], pairs))
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 when done, 2 for wrong arguments or files, 130 when stopped."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        if args.epochs < 1:
            raise ValueError(f"expected --epochs of at least 1 but got {args.epochs}")
        reader = CacheReader(args.matched)
        train, test = chosen_rows(reader.metadata, args.without)
        ways = [
            *_recipes(args, reader, train, test),
            *_detectors(args, reader, test),
        ]
        names = [way.name for way in ways]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"expected ways with names of their own but got {names}")
        pairs = _pairs(args.pair, names)
        store = Store(
            args.kept, cache=cache_digest(reader), train=train.tolist(), test=test.tolist()
        )
        scores = {}
        for way in ways:
            print(f"{way.name}: {way.what}")
            scores[way.name] = store.array(f"baseline-{way.name}", way.compute, **way.made)
        faces = reader.metadata.iloc[test]
        what = {way.name: way.what for way in ways}
        measured, differences = measure(faces, what, scores, pairs)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("stopped; the same command goes on with the next baseline", file=sys.stderr)
        return 130
    text, protocol = baselines_table(measured, differences), framing(reader.metadata)
    if protocol == RAW:
        text = f"**{RAW}** (real and fake differ in size, framing or compression)\n\n{text}"
    values = {
        "protocol": protocol,
        "without": args.without,
        "ways": {way.name: {"made": way.made, **asdict(measured[way.name])} for way in ways},
        "differences": [asdict(difference) for difference in differences],
    }
    save_result(args.out, parser.command(argv), values, text)
    return 0


def _parser() -> Parser:
    parser = Parser(str(__doc__))
    add = parser.add_argument
    add("matched", nargs="+", metavar="MATCHED", help="written by evaluation.framing")
    parser.add_kept()
    parser.add_out()
    add(
        "--without",
        type=lambda names: names.split(","),
        default=[],
        metavar="NAME[,NAME]",
        help="learn from all other generators, judge on these",
    )
    add(
        "--models",
        default="resnet18,efficientnet_b0",
        help="timm models of the challenge recipe, '' for none (%(default)s)",
    )
    add(
        "--init",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="start this model from safetensors",
    )
    add("--epochs", type=int, default=1, help="of the recipe (%(default)s)")
    add(
        "--weights",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="score weights of ffdetect.train",
    )
    add(
        "--streams",
        action="append",
        default=[],
        metavar="NAME",
        help="also the RGB and the frequency stream of these weights alone",
    )
    add(
        "--pair",
        action="append",
        default=[],
        metavar="A,B",
        help="also the difference A minus B of two ways",
    )
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    add("--workers", type=int, default=2, help="loader processes (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
