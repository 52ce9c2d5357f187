"""Linear layers in bfloat16 against PyTorch's own in float32."""

from __future__ import annotations

import torch
from torch import nn

from ffdetect.models.frozen.scaled import ScaledLinear, with_scaled_linears
from ffdetect.models.frozen.trunks import load_trunk


def quantised(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear layer whose weights are whole numbers to 127 times a scale of each channel."""
    linear = nn.Linear(inputs, outputs, bias)
    whole = torch.randint(-126, 127, (outputs, inputs)).float()
    whole[:, 0] = 127
    linear.weight.data = whole * torch.rand(outputs, 1).add(0.1)
    return linear


def test_inputs_and_sums_alone_are_rounded():
    torch.manual_seed(0)
    for linear in (quantised(64, 32), quantised(64, 32, bias=False)):
        x = torch.randn(5, 64)
        expected = linear(x.bfloat16().float())
        got = ScaledLinear(linear)(x)
        assert got.dtype == torch.float32
        bias = 0 if linear.bias is None else linear.bias
        torch.testing.assert_close(got - bias, expected - bias, rtol=2**-8, atol=1e-5)


def test_a_channel_of_zeros_stays_zero():
    linear = nn.Linear(4, 2)
    linear.weight.data.zero_()
    torch.testing.assert_close(ScaledLinear(linear)(torch.ones(1, 4)), linear.bias[None])


def test_weights_of_the_trunk_are_kept_exactly_and_other_tensors_shared():
    blocks = load_trunk("clip_vit_b16").blocks
    scaled = with_scaled_linears(blocks)
    assert not any(isinstance(part, nn.Linear) for part in scaled.modules())
    pairs = 0
    for name, part in blocks.named_modules():
        own = scaled.get_submodule(name)
        if isinstance(part, nn.Linear):
            kept = own.whole.float() * own.scale[:, None]
            torch.testing.assert_close(kept, part.weight, rtol=1e-6, atol=0)
            pairs += 1
        elif isinstance(part, nn.LayerNorm):
            assert own.weight is part.weight
    assert pairs == 4 * len(blocks)
    assert isinstance(blocks[0].mlp.fc1, nn.Linear)
