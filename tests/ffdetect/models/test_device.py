"""Number formats: what half precision may round, and that nothing stays changed."""

from __future__ import annotations

import pytest
import torch

from ffdetect.models import device as devices
from ffdetect.models.device import half_products

CPU = torch.device("cpu")


@pytest.mark.parametrize(("fast", "expected"), [(True, "medium"), (False, "highest")])
def test_within_autocast_products_alone_are_halved(monkeypatch, fast, expected):
    monkeypatch.setattr(devices, "has_fast_bf16", lambda: fast)
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        with half_products(CPU):
            assert torch.get_float32_matmul_precision() == expected
            assert (x @ x).dtype == torch.float32
        assert torch.get_float32_matmul_precision() == "highest"
        assert (x @ x).dtype == torch.bfloat16


def test_without_autocast_nothing_changes():
    with half_products(CPU):
        assert torch.get_float32_matmul_precision() == "highest"


def test_precision_is_restored_after_an_error(monkeypatch):
    monkeypatch.setattr(devices, "has_fast_bf16", lambda: True)
    with pytest.raises(RuntimeError, match="shape"), torch.autocast("cpu"), half_products(CPU):
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert torch.get_float32_matmul_precision() == "highest"
