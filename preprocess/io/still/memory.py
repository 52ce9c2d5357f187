"""Arrays and tensors that are given as pictures: what is taken, and what is said of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from preprocess.io.formats import DecodeError

if TYPE_CHECKING:
    import torch


def pixels_of_array(array: np.ndarray) -> np.ndarray:
    """A uint8 H x W x 3 array as it is.

    Raises:
        DecodeError: another shape or dtype; the message says how to convert it.
    """
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise DecodeError(
            f"expected a uint8 H x W x 3 RGB array but got {array.dtype} "
            f"of shape {tuple(array.shape)}{_range(array)}",
            "<array>",
        )
    return array


def pixels_of_tensor(tensor: torch.Tensor) -> np.ndarray:
    """A uint8 3 x H x W tensor, wherever it lies, as a uint8 H x W x 3 array.

    Raises:
        DecodeError: another shape, dtype or layout; the message says how to convert it.
    """
    import torch

    expected, name = "expected a uint8 3 x H x W RGB tensor but got", "<tensor>"
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = "without data" if tensor.is_meta else f"of layout {tensor.layout}"
        raise DecodeError(f"{expected} one {kind}", name)
    dtype, shape = tensor.dtype, tuple(tensor.shape)
    if dtype != torch.uint8 or len(shape) != 3 or shape[0] != 3 or not tensor.numel():
        values = np.empty(0)
        if dtype.is_floating_point:
            values = tensor.detach().cpu().double().numpy()
        elif dtype in (torch.int16, torch.int32, torch.int64, torch.uint16):
            values = tensor.cpu().long().numpy()
        raise DecodeError(f"{expected} {dtype} of shape {shape}{_range(values)}", name)
    return tensor.permute(1, 2, 0).cpu().numpy()


def _range(array: np.ndarray) -> str:
    """What samples of another type hold, and how to make uint8 of them where that is clear."""
    if array.dtype == np.uint8 or not array.size or array.dtype.kind not in "fiu":
        return ""
    low, high = float(array.min()), float(array.max())
    text = f" with values from {low:g} to {high:g}"
    if not (low >= 0 and high <= 65535):  # nor nan
        return text
    if array.dtype.kind == "f" and high <= 1:
        return f"{text}; times 255, rounded and converted it is what is expected"
    if high <= 255:
        return f"{text}; rounded and converted it is what is expected"
    return f"{text}; divided by 256 and converted it is what is expected"
