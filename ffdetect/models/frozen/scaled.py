"""Linear layers that multiply in bfloat16, for CPUs that are faster so.

Trunk files hold weights as whole numbers of up to 127 times a scale for each output channel. Such
numbers are exact in bfloat16: where the scale is applied to sums, weights are not rounded at all.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

_LARGEST = 127
_Module = TypeVar("_Module", bound=nn.Module)


class ScaledLinear(nn.Module):
    """A linear layer that rounds its input and its sums to bfloat16, and nothing else.

    Args:
        linear: whose weights are whole numbers times a scale, the largest of every channel 127.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.scale = weight.abs().amax(1).clamp_min(torch.finfo(weight.dtype).tiny) / _LARGEST
        self.whole = (weight / self.scale[:, None]).round().bfloat16()
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 N x inputs -> float32 N x outputs, outside of autocast."""
        sums = nn.functional.linear(x.bfloat16(), self.whole).float() * self.scale
        return sums if self.bias is None else sums + self.bias


@torch.inference_mode(False)  # kept for whoever needs gradients next
def with_scaled_linears(module: _Module) -> _Module:
    """A copy with other linear layers, which shares all other tensors with the module."""
    known: dict[int, object] = {id(tensor): tensor for tensor in module.parameters()}
    linears = (part for part in module.modules() if isinstance(part, nn.Linear))
    known |= {id(linear): ScaledLinear(linear) for linear in linears}
    return copy.deepcopy(module, known)
