"""python -m ffdetect.train CACHE [CACHE ...] --out FILE.safetensors: train the network."""

from __future__ import annotations

import argparse
import datetime
import json
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from preprocess.cache import CacheReader
from preprocess.maps import RESIDUALS, SPECTRUM_TILE
from preprocess.matching import parse_matches

from .checkpoint import load_checkpoint, save_checkpoint
from .data import EpochSampler, FaceDataset, Mix, PairDataset, split_rows
from .device import has_fast_bf16, pick_device
from .network import DESIGNS, STREAMS, NetworkSettings, Scorer, create_network

# Options that one design alone looks at.
_OF_DESIGN = {
    "gated": ("backbone", "streams", "epochs", "steps", "batch", "rate", "backbone_rate", "ema",
              "precision"),
    "traces": ("trace_pairs",),
}  # fmt: skip
# Options that leave the statistics of a pair as they are.
_NOT_OF_STATISTICS = ("out", "resume", "workers", "device", "trace_pairs", "val_limit", "val_jpeg")


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
    torch.manual_seed(args.seed)  # new layers start alike
    reader = CacheReader(args.caches)
    twins = CacheReader(args.twins) if args.twins else None
    if twins is not None and twins.settings.crop != reader.settings.crop:
        raise ValueError(f"{args.twins}: expected pairs cut out as in {args.caches[0]}")
    size = reader.settings.crop.size
    if args.window and not SPECTRUM_TILE <= args.window <= size:
        raise ValueError(f"expected windows of {SPECTRUM_TILE} to {size} px but got {args.window}")
    network = _network(args, reader)
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
    )  # fmt: skip
    val = _limit(reader, val, args.val_limit)
    faces = FaceDataset(reader, val, args.val_jpeg, network.settings.residual)
    return reader, network, pairs, faces, mix


def _mix(args: argparse.Namespace) -> Mix:
    swapped = tuple(n for n in args.swaps.split(",") if n and n not in args.without)
    swaps, blends = args.share_swaps, args.share_blends
    if args.swaps and not swapped:  # all left out: blends stand in
        swaps, blends = 0.0, blends + swaps
    made = {"made_swaps": args.share_made_swaps, "regions": args.share_regions}
    return Mix(args.share_twins, blends, parse_matches(args.match), swaps, swapped, **made)


def _check_names(without: Sequence[str], *readers: CacheReader | None) -> None:
    known = {name for r in readers if r is not None for name in r.metadata["generator"]} - {""}
    unknown = sorted(set(without) - known)
    if unknown:
        raise ValueError(f"expected --without among {sorted(known)} but got {unknown}")


def _last_checkpoint(args: argparse.Namespace) -> Path:
    return args.out.with_suffix(".run") / "last.ckpt"


def _check_resume(args: argparse.Namespace, network: Scorer) -> None:
    last = _last_checkpoint(args)
    if not (args.resume and last.exists()):
        return
    try:
        state = torch.load(last, map_location="cpu", weights_only=True)["state_dict"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(f"{last}: expected a checkpoint of this command") from error
    own = {f"network.{name}": tensor.shape for name, tensor in network.state_dict().items()}
    if {name: state[name].shape for name in state if name.startswith("network.")} != own:
        raise ValueError(f"{last}: expected this run's network but it holds another one's weights")


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
    from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
    from lightning.pytorch.loggers import CSVLogger

    from .lit import LitDetector

    L.seed_everything(args.seed, workers=True)
    folder = args.out.with_suffix(".run")  # logs and checkpoints of this run
    module = LitDetector(
        network,
        epochs=args.epochs,
        steps=args.steps,
        rate=args.rate,
        backbone_rate=args.backbone_rate,
        generators=reader.metadata["generator"].to_numpy(),
        matches=mix.matches,
    )
    best = ModelCheckpoint(
        folder, "best", monitor="val_auc", mode="max", enable_version_counter=False
    )
    # Every epoch, also those that are not better: --resume loses one epoch at most.
    last = ModelCheckpoint(folder, "last", enable_version_counter=False)
    callbacks = [best, last, TQDMProgressBar(refresh_rate=5)]
    if args.ema:
        callbacks.append(EMAWeightAveraging(decay=args.ema))
    trainer = L.Trainer(
        max_epochs=args.epochs,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision=_precision(args.precision, device),
        callbacks=callbacks,
        logger=CSVLogger(folder, name="log"),
        log_every_n_steps=20,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
    )
    options = {"num_workers": args.workers, "persistent_workers": args.workers > 0}
    batches = DataLoader(
        pairs, args.batch // 2, sampler=EpochSampler(args.steps * (args.batch // 2)), **options
    )
    whole = DataLoader(val, args.batch, **options)
    file = _last_checkpoint(args)
    resume = str(file) if file.exists() and args.resume else None
    if resume:
        print(f"going on from {file}")
    # weights_only: a checkpoint is data, nothing in it is run
    try:
        trainer.fit(module, batches, whole, ckpt_path=resume, weights_only=True)
    except SystemExit:  # how Lightning ends after Ctrl-C
        print(f"stopped; --resume goes on from {file}", file=sys.stderr)
        return 130
    seen = args.fit_all or args.fit_fakes  # then the validation AUC chooses nothing
    chosen = last.best_model_path if seen else best.best_model_path
    state = torch.load(chosen, map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict({n.removeprefix("network."): t for n, t in state.items()
                             if n.startswith("network.")})  # fmt: skip
    auc = float(best.best_model_score)
    save_checkpoint(
        args.out, network, reader.settings.crop, _about(args, network.settings, pairs, auc)
    )
    print(f"{args.out}: validation AUC {auc:.4f}" + (" (trained on it)" if seen else ""))
    return 0


def _solve(
    args: argparse.Namespace,
    reader: CacheReader,
    network: Scorer,
    pairs: PairDataset,
    val: FaceDataset,
) -> int:
    """A `traces` network: no descent through it, its heads are solved."""
    from .solve import keep_made, read_statistics, validation_auc

    folder = args.out.with_suffix(".run")
    made = {n: str(v) for n, v in vars(args).items() if n not in _NOT_OF_STATISTICS}
    try:
        keep_made(folder, made, args.resume)
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
    network.solve(seen, args.seed)
    names = reader.metadata["generator"].to_numpy()
    aucs = validation_auc(network, val, names, pairs.mix.matches)
    auc = float(np.mean(list(aucs.values())))
    print("  ".join(f"{name} {value:.3f}" for name, value in aucs.items()))
    save_checkpoint(
        args.out, network, reader.settings.crop, _about(args, network.settings, pairs, auc)
    )
    print(f"{args.out}: validation AUC {auc:.4f}" + (" (trained on it)" if args.fit_all else ""))
    return 0


def _precision(wanted: str, device: torch.device) -> str:
    if wanted == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else has_fast_bf16()
        wanted = "bf16" if fast else "fp32"
    return {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[wanted]


def _about(
    args: argparse.Namespace, network: NetworkSettings, pairs: PairDataset, auc: float | None
) -> dict:
    unused = {"caches", "twins", "out", "init", "weights", "device", "workers"}
    for design, options in _OF_DESIGN.items():
        unused |= set(options) if design != network.design else set()
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
    add("caches", nargs="+", type=Path, metavar="CACHE", help="written by preprocess.crop")
    add("--out", type=Path, required=True, help="the weights file; FILE.run beside it holds logs")
    add("--backbone", default=NetworkSettings.backbone, help="of the RGB stream (%(default)s)")
    add("--init", type=Path, help="safetensors file to start the backbone from")
    add("--weights", type=Path, help="go on from weights written by this command")
    add("--design", choices=DESIGNS, default="gated", help="of the network (%(default)s)")
    add("--streams", choices=STREAMS, default="both", help="(%(default)s)")
    add("--residual", choices=sorted(RESIDUALS), help="(default: as in the cache)")
    add("--window", type=int, default=0, help="train on windows of this side; 0: whole crops")
    add("--twins", nargs="+", type=Path, help="caches of pairs written by ffdetect.regenerate")
    add("--share-twins", type=float, default=0.0, help="share of re-generated pairs (%(default)s)")
    add("--share-blends", type=float, default=0.0, help="share of self-blended pairs (%(default)s)")
    add("--swaps", default="", help="generators that swap faces, comma-separated")
    add("--share-swaps", type=float, default=0.0, help="share of pairs by them (%(default)s)")
    add("--share-made-swaps", type=float, default=0.0,
        help="share of pairs with another real face pasted in (%(default)s)")  # fmt: skip
    add("--share-regions", type=float, default=0.0,
        help="share of pairs with a part from --twins (%(default)s)")  # fmt: skip
    add("--mild", type=float, default=0.0, help="share of pairs hardly augmented (%(default)s)")
    add("--match", action="append", default=[], metavar="FAKE=REAL[,REAL]",
        help="pair this generator with these real sources only")  # fmt: skip
    add("--epochs", type=int, default=10, help="(%(default)s)")
    add("--trace-pairs", type=int, default=4000, help="of --design traces (%(default)s)")
    add("--steps", type=int, default=200, help="batches in an epoch (%(default)s)")
    add("--batch", type=int, default=32, help="faces in a batch, half of them fake (%(default)s)")
    add("--rate", type=float, default=1e-3, help="peak learning rate (%(default)s)")
    add("--backbone-rate", type=float, default=0.2, help="its share for --init (%(default)s)")
    add("--ema", type=float, default=0.0, help="decay of averaged weights; 0: none (%(default)s)")
    add(
        "--val-jpeg",
        type=int,
        default=85,
        help="validate re-compressed; 0: as cached (%(default)s)",
    )
    add("--val-limit", type=int, default=100, help="validation faces a generator (%(default)s)")
    add("--fit-all", action="store_true", help="train on validation faces too; keep the last epoch")
    add("--fit-fakes", action="store_true",
        help="train on held-out fakes too, but not on swaps; keep the last epoch")  # fmt: skip
    add("--without", action="extend", default=[], metavar="NAME[,NAME]",
        type=lambda names: names.split(","),
        help="leave these generators and real sources out, of twins too")  # fmt: skip
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    add("--workers", type=int, default=2, help="loader processes (%(default)s)")
    add("--seed", type=int, default=0)
    add("--resume", action="store_true", help="go on from the last epoch of a stopped run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
