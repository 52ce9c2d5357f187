"""python -m ffdetect.train CACHE [CACHE ...] --out FILE.safetensors: train the network."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from preprocess.cache import CacheReader
from preprocess.maps import RESIDUALS, SPECTRUM_TILE
from preprocess.matching import parse_matches
from preprocess.storage import as_path

from .augment import MIXES, POLICIES
from .backbones import freeze_stages
from .checkpoint import load_checkpoint, save_checkpoint
from .data import BALANCES, FaceDataset, Mix, PairDataset, split_rows
from .device import pick_device
from .losses import Objective
from .network import DESIGNS, STREAMS, DualStream, NetworkSettings, Scorer, create_network
from .ranks import Ranks
from .resume import check_checkpoint, keep_made

# Options that one design alone looks at: others refuse them, and do not record them.
_OF_DESIGN = {
    "gated": ("backbone", "streams", "epochs", "steps", "batch", "rate", "backbone_rate",
              "layer_decay", "freeze", "ema", "precision", "mix", "label_smoothing", "hard",
              "consistency"),
    "traces": ("trace_pairs",),
}  # fmt: skip
# Options that leave the statistics of a pair as they are.
_NOT_OF_STATISTICS = ("out", "resume", "workers", "device", "trace_pairs", "val_limit", "val_jpeg",
                      "own_reals")  # fmt: skip
# Options that may change when a run by descent is gone on with.
_NOT_OF_DESCENT = ("out", "resume", "workers", "device", "precision")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 when trained, 2 for wrong arguments or caches, 130 when stopped."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        import lightning  # noqa: F401
    except ImportError:
        parser.error("training needs the [train] extra: pip install 'ffdetect[train]'")
    try:
        device = pick_device(args.device)
        run = _prepare(args)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    return _fit(args, device, *run)


def read_options(argv: Sequence[str]) -> dict[str, object]:
    """Every option of a command by its name, defaults included; exits with 2 if one is wrong."""
    return vars(_parser().parse_args(argv))


def read_mix(argv: Sequence[str]) -> Mix:
    """The mix of pairs that a command asks for; exits with 2 if an option is wrong."""
    return _mix(_parser().parse_args(argv))


def _prepare(args: argparse.Namespace):
    """Read the caches and build network, training and validation data; errors come early."""
    for name, least in (
        ("epochs", 1),
        ("trace_pairs", 16),
        ("steps", 1),
        ("batch", 2),
        ("val_limit", 1),
    ):
        if getattr(args, name) < least:
            option = "--" + name.replace("_", "-")
            raise ValueError(f"expected {option} of at least {least} but got {getattr(args, name)}")
    ranks = Ranks.of_environment().count
    if args.batch // 2 % ranks:
        raise ValueError(
            f"expected a --batch that {ranks} ranks can share in pairs but got {args.batch}"
        )
    torch.manual_seed(args.seed)  # new layers start alike
    reader = CacheReader(args.caches)
    twins = CacheReader(args.twins) if args.twins else None
    if twins is not None and twins.settings.crop != reader.settings.crop:
        raise ValueError(f"{args.twins}: expected pairs cut out as in {args.caches[0]}")
    size = reader.settings.crop.size
    if args.window and not SPECTRUM_TILE <= args.window <= size:
        raise ValueError(f"expected windows of {SPECTRUM_TILE} to {size} px but got {args.window}")
    objective = _objective(args)
    network = _network(args, reader)
    _check_design(args, network.settings.design)
    if network.settings.design == "gated":
        _check_descent(args, network)
    _check_resume(args, network)
    _check_names(args.without, reader, twins)
    train, val = split_rows(
        reader.metadata, args.fit_all, fit_fakes=args.fit_fakes, without=args.without
    )
    if reader.metadata["target"].iloc[val].nunique() < 2:
        raise ValueError(
            f"expected real and fake faces to validate on but got {len(val)} of one kind at most; "
            "label a split or add groups"
        )
    # Twins keep the group and split of their real face, so the same rule keeps sides apart.
    twin_rows = None
    if twins is not None:
        twin_rows = split_rows(twins.metadata, args.fit_all, without=args.without)[0]
    mix = _mix(args)
    pairs = PairDataset(
        reader, train, mix=mix, twins=twins, twin_rows=twin_rows,
        window=args.window or network.settings.size, seed=args.seed, mild=args.mild,
        policy=args.policy, views=2 if objective.consistency else 1,
    )  # fmt: skip
    val = _limit(reader, val, args.val_limit)
    faces = FaceDataset(reader, val, args.val_jpeg, network.settings.residual)
    return reader, network, pairs, faces, mix


def _mix(args: argparse.Namespace) -> Mix:
    swapped = tuple(n for n in args.swaps.split(",") if n and n not in args.without)
    swaps, blends = args.share_swaps, args.share_blends
    if args.swaps and not swapped:  # all left out: blends stand in
        swaps, blends = 0.0, blends + swaps
    return Mix(
        twins=args.share_twins,
        blends=blends,
        matches=parse_matches(args.match),
        swaps=swaps,
        swapped=swapped,
        made_swaps=args.share_made_swaps,
        regions=args.share_regions,
        balance=args.balance,
    )


def _objective(args: argparse.Namespace) -> Objective:
    return Objective(args.mix, args.label_smoothing, args.hard, args.consistency)


def _of_other_designs(design: str) -> set[str]:
    return {name for other, names in _OF_DESIGN.items() if other != design for name in names}


def _check_design(args: argparse.Namespace, design: str) -> None:
    others, parser = _of_other_designs(design), _parser()
    given = [n for n, v in vars(args).items() if n in others and v != parser.get_default(n)]
    if given:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ValueError(f"expected options of the design {design!r} but got {options}")


def _check_descent(args: argparse.Namespace, network: DualStream) -> None:
    """Refuse what this network cannot be trained with, and freeze what shall stay."""
    if not 0 <= args.ema < 1:
        raise ValueError(f"expected --ema of at least 0 and below 1 but got {args.ema}")
    if not 0 < args.layer_decay <= 1:
        raise ValueError(f"expected --layer-decay above 0 and at most 1 but got {args.layer_decay}")
    if network.settings.streams == "frequency" and (args.freeze or args.layer_decay < 1):
        raise ValueError(
            "--freeze and --layer-decay: expected a backbone but got --streams frequency"
        )
    if args.freeze:
        if not (args.init or args.weights):
            raise ValueError("expected --init or --weights: --freeze would keep random weights")
        freeze_stages(network.rgb.backbone, args.freeze)


def _check_names(without: Sequence[str], *readers: CacheReader | None) -> None:
    known = {name for r in readers if r is not None for name in r.metadata["generator"]} - {""}
    unknown = sorted(set(without) - known)
    if unknown:
        raise ValueError(f"expected --without among {sorted(known)} but got {unknown}")


def _last_checkpoint(args: argparse.Namespace) -> Path:
    return args.out.with_suffix(".run") / "last.ckpt"


def _check_resume(args: argparse.Namespace, network: Scorer) -> None:
    last = _last_checkpoint(args)
    if args.resume and last.exists():
        check_checkpoint(last, network)


def _network(args: argparse.Namespace, reader: CacheReader) -> Scorer:
    if args.weights:
        checkpoint = load_checkpoint(args.weights)
        if checkpoint.crop != reader.settings.crop:
            raise ValueError(
                f"{args.weights}: trained on crops with {checkpoint.crop} "
                f"but the cache has {reader.settings.crop}"
            )
        return checkpoint.network.requires_grad_(True).train()
    settings = {
        "backbone": args.backbone,
        "size": reader.settings.crop.size,
        "residual": args.residual or reader.settings.residual,
        "streams": args.streams,
        "design": args.design,
    }
    network = create_network(NetworkSettings(**settings))
    if args.init:
        network.load_pretrained(args.init)
    return network


def _fit(
    args: argparse.Namespace,
    device: torch.device,
    reader: CacheReader,
    network: Scorer,
    pairs: PairDataset,
    val: FaceDataset,
    mix: Mix,
) -> int:
    if network.settings.design == "traces":
        return _solve(args, reader, network, pairs, val)
    import lightning as L

    from .fit import fit
    from .lit import LitDetector

    ranks = Ranks.of_environment()
    L.seed_everything(args.seed + ranks.rank, workers=True)  # each mixes and drops out on its own
    folder = args.out.with_suffix(".run")  # logs and checkpoints of this run
    try:
        with ranks.together():
            if ranks.first:
                keep_made(folder, _made(args, _NOT_OF_DESCENT), args.resume, "checkpoints")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    module = LitDetector(
        network,
        epochs=args.epochs,
        steps=args.steps,
        rate=args.rate,
        backbone_rate=args.backbone_rate,
        generators=reader.metadata["generator"].to_numpy(),
        matches=mix.matches,
        layer_decay=args.layer_decay,
        objective=_objective(args),
    )
    last = _last_checkpoint(args)
    if not args.resume and ranks.first:
        last.unlink(missing_ok=True)  # else a stop in the first epoch would go on from an old run
    resume = last if args.resume and last.exists() else None
    if resume and ranks.first:
        print(f"going on from {last}")
    try:
        fitted = fit(args, device, module, pairs, val, folder, resume)
    except KeyboardInterrupt:
        print(f"stopped; --resume goes on from {last}", file=sys.stderr)
        return 130
    if not ranks.first:
        return 0
    network.load_state_dict(fitted.state)
    about = _about(args, network.settings, pairs, fitted.auc)
    save_checkpoint(args.out, network, reader.settings.crop, about)
    seen = " (trained on it)" if args.fit_all or args.fit_fakes else ""
    print(f"{args.out}: validation AUC {fitted.auc:.4f}{seen}")
    return 0


def _solve(
    args: argparse.Namespace,
    reader: CacheReader,
    network: Scorer,
    pairs: PairDataset,
    val: FaceDataset,
) -> int:
    """A `traces` network: no descent through it, its heads are solved."""
    from .solve import read_statistics, validation_auc

    folder = args.out.with_suffix(".run")
    ranks = Ranks.of_environment()
    try:
        with ranks.together():
            if ranks.first:
                keep_made(folder, _made(args, _NOT_OF_STATISTICS), args.resume)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        seen = read_statistics(
            network, pairs, args.trace_pairs, folder, resume=args.resume, workers=args.workers
        )
    except KeyboardInterrupt:
        print(f"stopped; --resume goes on from {folder}", file=sys.stderr)
        return 130
    if not ranks.first:
        return 0
    network.solve(seen, args.seed, own_reals=args.own_reals)
    names = reader.metadata["generator"].to_numpy()
    aucs = validation_auc(network, val, names, pairs.mix.matches)
    auc = float(np.mean(list(aucs.values())))
    print("  ".join(f"{name} {value:.3f}" for name, value in aucs.items()))
    about = _about(args, network.settings, pairs, auc)
    save_checkpoint(args.out, network, reader.settings.crop, about)
    print(f"{args.out}: validation AUC {auc:.4f}" + (" (trained on it)" if args.fit_all else ""))
    return 0


def _made(args: argparse.Namespace, aside: Sequence[str]) -> dict[str, str]:
    return {name: str(value) for name, value in vars(args).items() if name not in aside}


def _about(
    args: argparse.Namespace, network: NetworkSettings, pairs: PairDataset, auc: float | None
) -> dict:
    unused = {"caches", "twins", "out", "init", "weights", "device", "workers"}
    unused |= _of_other_designs(network.design)
    recipe = {name: value for name, value in vars(args).items() if name not in unused}
    # The cache or --weights may have decided these.
    recipe |= {name: value for name, value in network.to_dict().items() if name in recipe}
    return {
        "date": datetime.date.today().isoformat(),
        "data": pairs.counts,
        "recipe": json.loads(json.dumps(recipe, default=str)),
        "validation_auc": None if auc is None or args.fit_all or args.fit_fakes else round(auc, 4),
    }


def _limit(reader: CacheReader, rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many faces of each generator, evenly spread, in their order."""
    names = reader.metadata["generator"].to_numpy()[rows]
    kept = [rows[names == name] for name in np.unique(names)]
    kept = [r[np.linspace(0, len(r) - 1, min(most, len(r))).round().astype(int)] for r in kept]
    return np.sort(np.concatenate(kept))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ffdetect.train", description=__doc__)
    add = parser.add_argument
    add("caches", nargs="+", type=as_path, metavar="CACHE", help="written by preprocess.crop")
    add("--out", type=Path, required=True, help="the weights file; FILE.run beside it holds logs")
    add("--resume", action="store_true", help="go on from the last epoch of a stopped run")
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    add("--workers", type=int, default=2, help="loader processes (%(default)s)")
    add("--seed", type=int, default=0)

    add = parser.add_argument_group("network").add_argument
    add("--design", choices=DESIGNS, default="gated", help="of the network (%(default)s)")
    add("--backbone", default=NetworkSettings.backbone, help="of --design gated (%(default)s)")
    add("--streams", choices=STREAMS, default="both", help="of --design gated (%(default)s)")
    add("--residual", choices=sorted(RESIDUALS), help="(default: as in the cache)")
    add("--init", type=Path, help="safetensors file to start the backbone from")
    add("--weights", type=Path, help="go on from weights written by this command")

    add = parser.add_argument_group("pairs to train on").add_argument
    add("--twins", nargs="+", type=as_path, help="caches of pairs written by ffdetect.regenerate")
    add("--share-twins", type=float, default=0.0, help="share of re-generated pairs (%(default)s)")
    add("--share-blends", type=float, default=0.0, help="share of self-blended pairs (%(default)s)")
    add("--swaps", default="", help="generators that swap faces, comma-separated")
    add("--own-reals", action="store_true",
        help="traces: swaps are learnt against their own reals alone")  # fmt: skip
    add("--share-swaps", type=float, default=0.0, help="share of pairs by them (%(default)s)")
    add("--share-made-swaps", type=float, default=0.0,
        help="share of pairs with another real face pasted in (%(default)s)")  # fmt: skip
    add("--share-regions", type=float, default=0.0,
        help="share of pairs with a part from --twins (%(default)s)")  # fmt: skip
    add("--match", action="append", default=[], metavar="FAKE=REAL[,REAL]",
        help="pair this generator with these real sources only")  # fmt: skip
    add("--balance", choices=BALANCES, default="sqrt",
        help="draw generators by size, its root or equally often (%(default)s)")  # fmt: skip
    add("--without", action="extend", default=[], metavar="NAME[,NAME]",
        type=lambda names: names.split(","),
        help="leave these generators and real sources out, of twins too")  # fmt: skip
    add("--fit-all", action="store_true", help="train on validation faces too; keep the last epoch")
    add("--fit-fakes", action="store_true",
        help="train on held-out fakes too, but not on swaps; keep the last epoch")  # fmt: skip

    add = parser.add_argument_group("augmentation, alike for both of a pair").add_argument
    add("--window", type=int, default=0, help="train on windows of this side; 0: whole crops")
    add("--mild", type=float, default=0.0, help="share of pairs hardly augmented (%(default)s)")
    add("--policy", choices=sorted(POLICIES), default="", help="also this one, first of all")

    add = parser.add_argument_group("validation").add_argument
    add("--val-jpeg", type=int, default=85,
        help="validate re-compressed; 0: as cached (%(default)s)")  # fmt: skip
    add("--val-limit", type=int, default=100, help="validation faces a generator (%(default)s)")

    add = parser.add_argument_group("--design traces").add_argument
    add("--trace-pairs", type=int, default=4000, help="to solve its heads from (%(default)s)")

    add = parser.add_argument_group("length and rates of descent (--design gated)").add_argument
    add("--epochs", type=int, default=10, help="(%(default)s)")
    add("--steps", type=int, default=200, help="batches in an epoch (%(default)s)")
    add("--batch", type=int, default=32,
        help="faces in a batch of all ranks together, half of them fake (%(default)s)")  # fmt: skip
    add("--rate", type=float, default=1e-3, help="peak learning rate (%(default)s)")
    add("--backbone-rate", type=float, default=0.2, help="its share for --init (%(default)s)")
    add("--layer-decay", type=float, default=1.0, metavar="SHARE",
        help="what a layer learns at of the next one's rate (%(default)s)")  # fmt: skip
    add("--freeze", type=int, default=0, metavar="N",
        help="keep the backbone's stem and first N stages as they are (%(default)s)")  # fmt: skip
    add("--ema", type=float, default=0.0, help="decay of averaged weights; 0: none (%(default)s)")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")

    add = parser.add_argument_group("loss of descent (--design gated)").add_argument
    add("--mix", choices=sorted(MIXES), default="", help="mix the faces and targets of a batch")
    add("--label-smoothing", type=float, default=0.0, metavar="E",
        help="share of a target that is spread over both classes (%(default)s)")  # fmt: skip
    add("--hard", type=float, default=0.0, metavar="GAMMA",
        help="count hard faces more, with this focal exponent; 0: alike (%(default)s)")  # fmt: skip
    add("--consistency", type=float, default=0.0, metavar="WEIGHT",
        help="of agreement on a face augmented twice, in twice the time (%(default)s)")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
