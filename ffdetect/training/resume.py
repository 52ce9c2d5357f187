"""Going on with a stopped run: only with one that was begun by the same command."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import torch
from torch import nn

from preprocess.cache.kinds import settings_difference
from preprocess.io.formats import DAMAGED
from preprocess.io.storage import write_json


def keep_made(folder: Path, made: dict[str, str], resume: bool) -> None:
    """Record in checkpoints.json how the checkpoints of a folder are made.

    Raises:
        ValueError: they are to be gone on with, but were made in another way.
    """
    record = folder / "checkpoints.json"
    if resume and record.exists():
        try:
            difference = settings_difference(made, dict(json.loads(record.read_text("utf-8"))))
        except DAMAGED as error:
            raise ValueError(f"{record}: expected settings of a run but got: {error}") from error
        if difference:
            raise ValueError(
                f"{folder}: expected checkpoints of this command but they differ "
                f"({'; '.join(difference)}); leave out --resume to begin anew"
            )
    write_json(record, made)


def check_checkpoint(file: Path, network: nn.Module) -> None:
    """Refuse a checkpoint of another network, or what is none.

    Raises:
        ValueError: naming the file.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(
            f"{file}: expected a checkpoint of this command but got a file of something else, "
            "which is not opened; leave out --resume to begin anew"
        ) from error
    own = {f"network.{name}": tensor.shape for name, tensor in network.state_dict().items()}
    if {name: state[name].shape for name in state if name.startswith("network.")} != own:
        raise ValueError(
            f"{file}: expected this run's network but it holds another one's weights; "
            "leave out --resume to begin anew"
        )
