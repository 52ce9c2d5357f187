"""The linear head: standardised, bounded, added up."""

from __future__ import annotations

import numpy as np
import torch

from ffdetect.models.heads import LinearHead


@torch.no_grad()
def test_a_head_is_a_line_on_standardised_statistics():
    rng = np.random.default_rng(0)
    head, x = LinearHead(4), rng.normal(5, 3, (6, 4)).astype(np.float32)
    centre, scale = x.mean(0), x.std(0)
    head.centre.copy_(torch.from_numpy(centre))
    head.scale.copy_(torch.from_numpy(scale))
    weight, bias = head.linear.weight.numpy()[0], head.linear.bias.item()
    expected = ((x - centre) / scale) @ weight + bias
    got = head(torch.from_numpy(x))
    assert got.shape == (6,) and got.dtype == torch.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_outliers_do_not_run_away():
    head = LinearHead(2)
    head.linear.weight.fill_(1)
    head.linear.bias.zero_()
    assert head(torch.tensor([[1e9, -1.0], [5.0, 0.0]])).tolist() == [5.0, 5.0]


def test_what_standardises_is_kept_with_the_line():
    assert set(LinearHead(2).state_dict()) == {"centre", "scale", "linear.weight", "linear.bias"}
