"""Safetensors files: the one reader and the one writer of all weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from preprocess.io.storage import write_whole

# What else goes by the name of weights: how it begins, and what it is.
_OTHERS = {
    b"PK\x03\x04": "a pickle in a zip (.pth, .pt)",
    b"\x80": "a pickle (.pth, .pt, .pkl)",
    b"version https://git-lfs": "a Git LFS pointer, which git lfs pull replaces with the file",
    b"<": "a web page",
    b"\x89HDF": "an HDF5 file (.h5)",
    b"GGUF": "a GGUF file",
}


class WeightsError(ValueError):
    """A weights file that cannot be used; the message names it and says what was expected."""


def read_tensors(file: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All tensors of a safetensors file by name, on the CPU as they are stored, and its metadata.

    Raises:
        WeightsError: no such file, another format, damaged, or values that are nan or infinite.
    """
    file = as_weights_path(file)
    expected = f"{file}: expected a weights file (.safetensors) but got"
    if not os.path.isfile(file):  # noqa: PTH113 - a Path raises where its name is too long
        raise WeightsError(f"{expected} {'a folder' if os.path.isdir(file) else 'no such file'}")  # noqa: PTH112
    try:
        with safe_open(file, "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            metadata = stored.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{expected} {_what(file) or f'a damaged one: {error}'}") from error
    if complex_ := [name for name, tensor in tensors.items() if tensor.is_complex()]:
        raise WeightsError(f"{file}: expected real numbers but {complex_[0]} holds complex ones")
    bad = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if bad:
        raise WeightsError(
            f"{file}: expected finite numbers but {len(bad)} of {len(tensors)} tensors hold nan "
            f"or infinity ({', '.join(bad[:3])}); did the training diverge?"
        )
    return tensors, metadata


def write_tensors(
    file: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file and the folders above it; whole or not at all.

    Raises:
        OSError: it cannot be written, for want of room or permission.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, save(tensors, metadata))


def to_int8(tensor: torch.Tensor, axis: int | tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 and steps whose product comes nearest to a tensor; what lies along `axis` shares one."""
    step = tensor.abs().amax(axis, keepdim=True).clamp_min(1e-12) / 127
    return (tensor / step).round().to(torch.int8), step


def from_int8(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """float32 tensors; `NAME.q` in int8 times `NAME.scale` of each output channel is NAME.

    Raises:
        KeyError: there is no such scale.
    """
    plain = {n: tensor.float() for n, tensor in tensors.items() if not n.endswith((".q", ".scale"))}
    for name in (name.removesuffix(".q") for name in tensors if name.endswith(".q")):
        values, scale = tensors[name + ".q"].float(), tensors[name + ".scale"].float()
        plain[name] = values * scale.view(-1, *[1] * (values.ndim - 1))
    return plain


def as_weights_path(weights: object) -> Path:
    """Raises WeightsError for what is no path."""
    if not isinstance(weights, str | Path):
        raise WeightsError(
            f"expected the path of a weights file but got {type(weights).__name__} {weights!r}"
        )
    return Path(weights)


def _is_finite(tensor: torch.Tensor) -> bool:
    if tensor.is_floating_point() and tensor.element_size() == 1:
        tensor = tensor.float()  # of formats of 8 bits nothing else is known
    return bool(tensor.isfinite().all())


def _what(file: Path) -> str | None:
    """What another kind of file is, as far as it is known."""
    try:
        with file.open("rb") as stream:
            head = stream.read(32)
    except OSError as error:
        return f"one that cannot be read: {error.strerror or error}"
    if not head:
        return "an empty file"
    known = (what for start, what in _OTHERS.items() if head.startswith(start))
    return next(known, None if head[8:9] in (b"{", b"") else "a file of another kind")
