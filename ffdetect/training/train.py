"""ffdetect train CACHE [CACHE ...] --out FILE.safetensors: train the network."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ffdetect.evaluation.matching import spread
from ffdetect.evaluation.metrics import generator_aucs
from ffdetect.evaluation.splits import split_rows
from ffdetect.models.base import Scorer, Trainable
from ffdetect.models.device import pick_device
from ffdetect.models.gated import GatedNetwork, GatedSettings
from ffdetect.models.weights import load_checkpoint, save_checkpoint
from preprocess.arguments import check_outputs
from preprocess.cache.reader import CacheReader
from preprocess.faces.maps import SPECTRUM_TILE
from preprocess.io.alone import alone

from .data import FaceDataset, Mix, PairDataset
from .ranks import Ranks
from .resume import check_checkpoint, keep_made
from .train_options import PROG, make_parser, mix_of, objective_of

# Options that may change when a run is gone on with.
_NOT_OF_THE_RUN = ("out", "resume", "workers", "device", "precision")


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0 when trained, 1 if the weights diverged or cannot be written, 2 for wrong
    arguments or caches, 130 when stopped."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    try:
        import lightning  # noqa: F401
    except ImportError:
        parser.error("training needs the [train] extra: pip install 'ffdetect[train]'")
    try:
        check_outputs({"--out": args.out})
        device = pick_device(args.device)
        run = prepare(args)
        # Of several ranks the first alone writes.
        first = Ranks.of_environment().first
        with alone(_last_checkpoint(args)) if first else contextlib.nullcontext():
            return _fit(args, device, *run)
    except BlockingIOError as error:
        print(
            f"error: {error.filename}: expected no other run but one trains there; let it finish "
            "or stop it, or choose another --out",
            file=sys.stderr,
        )
        return 1
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    except OSError as error:  # no room, no permission
        print(f"error: {error.filename or args.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; --resume keeps what was done", file=sys.stderr)
        return 130


def prepare(args: argparse.Namespace):
    """Read the caches and build network, training and validation data; errors come early."""
    for name, least in (
        ("epochs", 1),
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
    regenerated = CacheReader(args.regenerated) if args.regenerated else None
    if regenerated is not None and regenerated.settings.crop != reader.settings.crop:
        raise ValueError(f"{args.regenerated}: expected pairs cut out as in {args.caches[0]}")
    size = reader.settings.crop.size
    if args.window and not SPECTRUM_TILE <= args.window <= size:
        raise ValueError(f"expected windows of {SPECTRUM_TILE} to {size} px but got {args.window}")
    objective = objective_of(args)
    network = build_network(args, reader)
    _check_descent(args, network)
    if args.resume and (last := _last_checkpoint(args)).exists():
        check_checkpoint(last, network)
    _check_names(args.without, reader, regenerated)
    train, val = split_rows(
        reader.metadata, args.fit_all, fit_fakes=args.fit_fakes, without=args.without
    )
    if reader.metadata["target"].iloc[val].nunique() < 2:
        raise ValueError(
            f"expected real and fake faces to validate on but got {len(val)} of one kind at most; "
            "label a split or add groups"
        )
    # Pairs keep the group and split of their real face, so the same rule keeps sides apart.
    regenerated_rows = None
    if regenerated is not None:
        regenerated_rows = split_rows(regenerated.metadata, args.fit_all, without=args.without)[0]
    mix = mix_of(args)
    names, targets = (reader.metadata[c].to_numpy()[val] for c in ("generator", "target"))
    if not generator_aucs(names, targets, targets, mix.matches):
        raise ValueError("expected reals to validate on that --match allows but got none")
    pairs = PairDataset(
        reader,
        train,
        mix=mix,
        regenerated=regenerated,
        regenerated_rows=regenerated_rows,
        window=args.window or size,
        seed=args.seed,
        policy=args.policy,
        views=2 if objective.consistency else 1,
    )
    val = spread(reader.metadata, val, args.val_limit)
    faces = FaceDataset(reader, val, args.val_jpeg, network.residual)
    return reader, network, pairs, faces, mix


def _check_descent(args: argparse.Namespace, network: Trainable) -> None:
    """Refuse what this network cannot be trained with, and freeze what shall stay."""
    if not 0 <= args.ema < 1:
        raise ValueError(f"expected --ema of at least 0 and below 1 but got {args.ema}")
    if not 0 < args.layer_decay <= 1:
        raise ValueError(f"expected --layer-decay above 0 and at most 1 but got {args.layer_decay}")
    network.parameter_groups(1.0, 1.0, args.layer_decay)  # refuses what it cannot have
    if args.freeze:
        if not (args.init or args.weights):
            raise ValueError("expected --init or --weights: --freeze would keep random weights")
        network.freeze(args.freeze)


def _check_names(without: Sequence[str], *readers: CacheReader | None) -> None:
    known = {name for r in readers if r is not None for name in r.metadata["generator"]} - {""}
    unknown = sorted(set(without) - known)
    if unknown:
        raise ValueError(f"expected --without among {sorted(known)} but got {unknown}")


def _last_checkpoint(args: argparse.Namespace) -> Path:
    return args.out.with_suffix(".run") / "last.ckpt"


def build_network(args: argparse.Namespace, reader: CacheReader) -> Trainable:
    """A new network for the crops of a cache, or that of --weights."""
    if args.weights:
        checkpoint = load_checkpoint(args.weights)
        if checkpoint.crop != reader.settings.crop:
            raise ValueError(
                f"{args.weights}: trained on crops with {checkpoint.crop} "
                f"but the cache has {reader.settings.crop}"
            )
        network = checkpoint.network
        if not isinstance(network, Trainable):
            raise ValueError(
                f"{args.weights}: expected a network that learns by descent but got one of design "
                f"{network.settings.design!r}"
            )
        return network.requires_grad_(True).train()
    settings = GatedSettings(
        backbone=args.backbone,
        size=reader.settings.crop.size,
        residual=args.residual or reader.settings.residual,
        streams=args.streams,
    )
    network = GatedNetwork(settings)
    if args.init:
        network.load_pretrained(args.init)
    return network


def _fit(
    args: argparse.Namespace,
    device: torch.device,
    reader: CacheReader,
    network: Trainable,
    pairs: PairDataset,
    val: FaceDataset,
    mix: Mix,
) -> int:
    import lightning as L

    from .fit import fit
    from .lit import LitDetector

    ranks = Ranks.of_environment()
    L.seed_everything(args.seed + ranks.rank, workers=True)  # each mixes and drops out on its own
    last = _last_checkpoint(args)
    folder = last.parent  # logs and checkpoints of this run
    try:
        with ranks.together():
            if ranks.first:
                told = vars(args).items()
                made = {name: str(value) for name, value in told if name not in _NOT_OF_THE_RUN}
                keep_made(folder, made, args.resume)
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
        objective=objective_of(args),
    )
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
    about = _about(args, network, pairs, fitted.auc)
    try:
        save_checkpoint(args.out, network, reader.settings.crop, about)
    except ValueError as error:
        print(f"error: {error}; the training diverged, a lower --rate may help", file=sys.stderr)
        return 1
    seen = " (trained on it)" if args.fit_all or args.fit_fakes else ""
    print(f"{args.out}: validation AUC {fitted.auc:.4f}{seen}")
    return 0


def _about(
    args: argparse.Namespace, network: Scorer, pairs: PairDataset, auc: float | None
) -> dict:
    unused = {"caches", "regenerated", "out", "init", "weights", "device", "workers"}
    # The cache or --weights may have decided settings, and a network of one stream lacks some.
    decided = network.settings.to_dict()
    unused |= vars(network.settings).keys() - decided.keys()
    recipe = {n: decided.get(n, value) for n, value in vars(args).items() if n not in unused}
    return {
        "date": datetime.date.today().isoformat(),
        "data": pairs.counts,
        "recipe": json.loads(json.dumps(recipe, default=str)),
        "validation_auc": None if auc is None or args.fit_all or args.fit_fakes else round(auc, 4),
    }
