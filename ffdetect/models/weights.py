"""Weights files: safetensors whose metadata holds every setting needed to use them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from preprocess.cache.kinds import settings_difference
from preprocess.faces.face import CropSettings
from preprocess.io.formats import DAMAGED

from .base import Scorer
from .calibration import Calibration
from .registry import DESIGNS, create_network
from .tensor_file import WeightsError, as_weights_path, read_tensors, write_tensors

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A network and the settings it was trained with.

    Attributes:
        network: in evaluation mode, on the CPU, float32.
        crop: how faces must be cut out for it.
        about: training data, recipe, date and whatever else the trainer noted.
        calibration: what turns its logits into calibrated scores; None if it was never measured.
    """

    network: Scorer
    crop: CropSettings
    about: dict
    calibration: Calibration | None = None


def save_checkpoint(
    file: str | Path,
    network: Scorer,
    crop: CropSettings,
    about: dict,
    half: bool = True,
    calibration: Calibration | None = None,
) -> None:
    """Write what a network has learnt, and settings; whole or not at all.

    Args:
        half: as float16. Heads that were solved on statistics of many sizes need float32.
    """
    file = Path(file)
    state = {}
    for name, tensor in network.learnt().items():
        tensor = tensor.detach().cpu()
        if half and tensor.is_floating_point():
            tensor = tensor.half()
            if not tensor.isfinite().all():
                raise ValueError(f"{name}: expected finite values that float16 can hold")
        state[name] = tensor.contiguous()
    metadata = {
        "format": "ffdetect",
        "version": FORMAT,
        "crop": crop.to_dict(),
        "network": network.settings.to_dict(),
        **network.inputs(),
        "about": about,
    }
    _write(file, state, metadata, calibration)


def write_calibration(source: str | Path, out: str | Path, calibration: Calibration) -> None:
    """Copy a weights file with this calibration in place of its own; no tensor changes.

    Raises:
        WeightsError: `source` is no weights file.
    """
    load_checkpoint(source)  # refuses what cannot be used
    state, metadata = read_tensors(source)
    _write(Path(out), state, json.loads(metadata["ffdetect"]), calibration)


def _write(file: Path, state: dict, metadata: dict, calibration: Calibration | None) -> None:
    if calibration is not None:
        metadata["calibration"] = calibration.to_dict()
    write_tensors(file, state, {"ffdetect": json.dumps(metadata)})


def _as_in(network: Scorer, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors in the formats of the network, which PyTorch would fill with rounded ones too."""
    own = network.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point() != own.get(name, tensor).is_floating_point():
            raise ValueError(f"{name} is {own[name].dtype}, not {tensor.dtype}")
    return {name: t.float() if t.is_floating_point() else t for name, t in state.items()}


def load_checkpoint(file: str | Path) -> Checkpoint:
    """Read weights and build their network.

    Raises:
        WeightsError: no file, not safetensors, damaged, of another program or another version.
    """
    file = as_weights_path(file)
    state, described = read_tensors(file)
    metadata = described.get("ffdetect")
    if metadata is None:
        raise WeightsError(
            f"{file}: expected weights written by ffdetect train but its metadata has no "
            "'ffdetect' entry (pretrained backbones go to ffdetect train --init)"
        )
    try:
        settings = json.loads(metadata)
        if settings["version"] != FORMAT:
            raise WeightsError(
                f"{file}: expected weights format {FORMAT} but got {settings['version']}"
            )
        crop = CropSettings(**settings["crop"])
        design = settings["network"].get("design")
        if design not in DESIGNS:
            raise WeightsError(
                f"{file}: expected a network of a design among {sorted(DESIGNS)} but got "
                f"{design!r}, which this version no longer has: train it anew by ffdetect train, "
                "or leave the file out and take the weights of the package"
            )
        network = create_network(settings["network"]).float()
        network.load_learnt(_as_in(network, state))
        about = settings["about"]
        if not isinstance(about, dict):
            raise ValueError(f"expected what is said about the weights by name but got {about!r}")
        calibration = settings.get("calibration")  # older files have none
        if calibration is not None:
            calibration = Calibration.from_dict(calibration)
        inputs = network.inputs()
        difference = settings_difference({name: settings[name] for name in inputs}, inputs)
        if difference:
            raise WeightsError(
                f"{file}: expected inputs as this version computes them but the weights were "
                f"trained on others ({'; '.join(difference)})"
            )
    except WeightsError:
        raise
    except DAMAGED as error:
        raise WeightsError(f"{file}: expected matching settings and tensors: {error}") from error
    network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return Checkpoint(network, crop, about, calibration)
