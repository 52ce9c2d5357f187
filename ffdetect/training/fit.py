"""Training by descent: Lightning's trainer, its checkpoints, and which of them is kept."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from ffdetect.models.device import has_fast_bf16

from .data import EpochSampler, FaceDataset, PairDataset
from .lit import LitDetector
from .ranks import Ranks


@dataclass(frozen=True)
class Fitted:
    """The network's tensors to keep, and the validation AUC of the best epoch."""

    state: dict[str, torch.Tensor]
    auc: float


def fit(
    args: argparse.Namespace,
    device: torch.device,
    module: LitDetector,
    pairs: PairDataset,
    val: FaceDataset,
    folder: Path,
    resume: Path | None,
) -> Fitted:
    """Run every epoch.

    Args:
        args: the options of `train`.
        folder: takes logs and the checkpoints "best.ckpt" and "last.ckpt".
        resume: checkpoint to go on from.

    Raises:
        KeyboardInterrupt: it was stopped; "last.ckpt" holds the last whole epoch.
    """
    best = ModelCheckpoint(
        folder, "best", monitor="val_auc", mode="max", enable_version_counter=False
    )
    # Every epoch, also those that are not better: --resume loses one epoch at most.
    last = ModelCheckpoint(folder, "last", enable_version_counter=False)
    callbacks = [best, last, TQDMProgressBar(refresh_rate=5)]
    if args.ema:  # the averaged weights are validated and saved, beside those that learn
        callbacks.append(EMAWeightAveraging(decay=args.ema))
    ranks = Ranks.of_environment()
    devices = [device.index or 0] if device.type == "cuda" else 1
    trainer = L.Trainer(
        max_epochs=args.epochs,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=devices if ranks.count == 1 else ranks.here,
        num_nodes=ranks.count // ranks.here,
        strategy="auto" if ranks.count == 1 else "ddp",
        precision=_precision(args.precision, device),
        callbacks=callbacks,
        logger=CSVLogger(folder, name="log"),
        log_every_n_steps=20,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
    )
    options = {"num_workers": args.workers, "persistent_workers": args.workers > 0}
    each = args.batch // 2 // ranks.count  # pairs of a rank in a batch
    sampler = EpochSampler(args.steps * each, ranks.rank, ranks.count)
    batches = DataLoader(pairs, each, sampler=sampler, **options)
    # Every face is scored by one rank; none is scored twice to make shares equal.
    share = range(ranks.rank, len(val), ranks.count)
    whole = DataLoader(val, args.batch, sampler=share, **options)
    # weights_only: a checkpoint is data, nothing in it is run
    try:
        trainer.fit(module, batches, whole, ckpt_path=resume, weights_only=True)
    except SystemExit as stopped:  # how Lightning ends after Ctrl-C
        raise KeyboardInterrupt from stopped
    seen = args.fit_all or args.fit_fakes  # then the validation AUC chooses nothing
    chosen = last.best_model_path if seen else best.best_model_path
    state = torch.load(chosen, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "network."
    state = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    return Fitted(state, float(best.best_model_score))


def _precision(wanted: str, device: torch.device) -> str:
    if wanted == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else has_fast_bf16()
        wanted = "bf16" if fast else "fp32"
    return {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[wanted]
