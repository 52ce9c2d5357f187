"""Which device and which number format to compute with."""

from __future__ import annotations

import os

import torch

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_BF16_ISA = ("BF16", "FP16", "AMX", "AVX10", "ALL", "DEFAULT")  # in oneDNN's names of those with it


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """ "auto" takes CUDA where there is one.

    Raises:
        ValueError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"expected a device like auto, cpu or cuda but got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"expected a CUDA device for {name!r} but PyTorch sees none")
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, NotImplementedError, AssertionError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"expected a device that is here but got {name!r}: {reason}") from error
    return device


def has_fast_bf16() -> bool:
    """Whether this CPU computes in bfloat16 by itself (avx512_bf16 or AMX), and oneDNN, which
    multiplies, is not kept from it by ONEDNN_MAX_CPU_ISA.

    Others emulate it, many times slower than float32.
    """
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    fast = any(getattr(torch.cpu, name, lambda: False)() for name in checks)
    return fast and allows_bf16(os.environ.get("ONEDNN_MAX_CPU_ISA", ""))


def allows_bf16(limit: str) -> bool:
    """Whether a value of ONEDNN_MAX_CPU_ISA leaves oneDNN the instructions for bfloat16."""
    return not limit or any(kind in limit.upper() for kind in _BF16_ISA)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether to take products in bfloat16: autocast asks for it, on a CPU that is faster so.

    On a CPU autocast would round every layer's output. Where scores hang on small differences,
    layers ask this instead, and round inputs and sums of products alone.
    """
    return device.type == "cpu" and torch.is_autocast_enabled("cpu") and has_fast_bf16()
