"""What `ffdetect train` can be asked for, and what of it goes together."""

from __future__ import annotations

import argparse
from pathlib import Path

from ffdetect.evaluation.matching import add_match, parse_matches
from ffdetect.fakes.faces import BALANCES
from ffdetect.fakes.sources import SOURCES
from ffdetect.models.gated import STREAMS, GatedSettings
from preprocess.arguments import new_parser
from preprocess.faces.maps import RESIDUALS
from preprocess.io.storage import as_path

from .augment import MIXES, POLICIES
from .data import Mix
from .losses import Objective

PROG = "ffdetect train"
_DOC = f"{PROG} CACHE [CACHE ...] --out FILE.safetensors: train a network by descent."


def mix_of(args: argparse.Namespace) -> Mix:
    """The mix of pairs that options ask for."""
    made = {name: getattr(args, f"share_{name}") for name in SOURCES}
    return Mix(made, parse_matches(args.match), args.balance)


def objective_of(args: argparse.Namespace) -> Objective:
    """What descent makes small."""
    return Objective(args.mix, args.label_smoothing, args.focal_gamma, args.consistency)


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """The options of `ffdetect train`."""
    parser = new_parser(prog, _DOC, "cache/data --backbone resnet18 --out mine.safetensors")
    add = parser.add_argument
    add("caches", nargs="+", type=as_path, metavar="CACHE", help="written by preprocess.crop")
    add("--out", type=Path, required=True, help="the weights file; FILE.run beside it holds logs")
    add("--resume", action="store_true", help="go on from the last epoch of a stopped run")
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    add("--workers", type=int, default=2, help="loader processes (%(default)s)")
    add("--seed", type=int, default=0)

    add = parser.add_argument_group("network").add_argument
    add("--backbone", default=GatedSettings.backbone, help="a timm model (%(default)s)")
    add("--streams", choices=STREAMS, default="both", help="(%(default)s)")
    add("--residual", choices=sorted(RESIDUALS), help="(default: as in the cache)")
    add("--init", type=Path, help="safetensors file to start the backbone from")
    add("--weights", type=Path, help="go on from weights written by this command")

    pairs = parser.add_argument_group("pairs to train on")
    add = pairs.add_argument
    add(
        "--regenerated",
        nargs="+",
        type=as_path,
        metavar="CACHE",
        help="caches of pairs written by ffdetect.fakes.regenerate",
    )
    for name, source in SOURCES.items():
        option = "--share-" + name.replace("_", "-")
        add(option, type=float, default=0.0, help=f"share of pairs {source.about} (%(default)s)")
    add_match(pairs, "pair this generator with these real sources only")
    add(
        "--balance",
        choices=BALANCES,
        default="sqrt",
        help="draw generators by size, its root or equally often (%(default)s)",
    )
    add(
        "--without",
        action="extend",
        default=[],
        metavar="NAME[,NAME]",
        type=lambda names: names.split(","),
        help="leave these generators and real sources out, of --regenerated too",
    )
    add("--fit-all", action="store_true", help="train on validation faces too; keep the last epoch")
    add(
        "--fit-fakes",
        action="store_true",
        help="train on held-out fakes too, but not on swaps; keep the last epoch",
    )

    add = parser.add_argument_group("augmentation, alike for both of a pair").add_argument
    add("--window", type=int, default=0, help="train on windows of this side; 0: whole crops")

    add = parser.add_argument_group("validation").add_argument
    add(
        "--val-jpeg",
        type=int,
        default=85,
        help="validate re-compressed; 0: as cached (%(default)s)",
    )
    add("--val-limit", type=int, default=100, help="validation faces a generator (%(default)s)")

    add = parser.add_argument_group("length and rates").add_argument
    add("--epochs", type=int, default=10, help="(%(default)s)")
    add("--steps", type=int, default=200, help="batches in an epoch (%(default)s)")
    add(
        "--batch",
        type=int,
        default=32,
        help="faces in a batch of all ranks together, half of them fake (%(default)s)",
    )
    add("--rate", type=float, default=1e-3, help="peak learning rate (%(default)s)")
    add("--backbone-rate", type=float, default=0.2, help="its share for --init (%(default)s)")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")

    extras = "extras: off by default, and no claim is made that they help"
    add = parser.add_argument_group(extras).add_argument
    add("--policy", choices=sorted(POLICIES), default="", help="also this one, first of all")
    add(
        "--layer-decay",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="what a layer learns at of the next one's rate (%(default)s)",
    )
    add(
        "--freeze",
        type=int,
        default=0,
        metavar="N",
        help="keep the backbone's stem and first N stages as they are (%(default)s)",
    )
    add("--ema", type=float, default=0.0, help="decay of averaged weights; 0: none (%(default)s)")
    add("--mix", choices=sorted(MIXES), default="", help="mix the faces and targets of a batch")
    add(
        "--label-smoothing",
        type=float,
        default=0.0,
        metavar="E",
        help="share of a target that is spread over both classes (%(default)s)",
    )
    add(
        "--focal-gamma",
        type=float,
        default=0.0,
        metavar="GAMMA",
        help="count hard faces more, with this focal exponent; 0: alike (%(default)s)",
    )
    add(
        "--consistency",
        type=float,
        default=0.0,
        metavar="WEIGHT",
        help="of agreement on a face augmented twice, in twice the time (%(default)s)",
    )
    return parser
