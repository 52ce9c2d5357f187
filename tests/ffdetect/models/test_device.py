"""Number formats: where products are taken in bfloat16."""

from __future__ import annotations

import pytest
import torch

from ffdetect.models import device as devices
from ffdetect.models.device import multiplies_bf16


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_products_are_halved_where_asked_and_faster(monkeypatch, fast, asked):
    monkeypatch.setattr(devices, "has_fast_bf16", lambda: fast)
    with torch.autocast("cpu", torch.bfloat16, enabled=asked):
        assert multiplies_bf16(torch.device("cpu")) == (fast and asked)
        assert not multiplies_bf16(torch.device("meta"))


@pytest.mark.parametrize(
    ("limit", "allowed"),
    [
        ("", True),
        ("AVX2", False),
        ("avx512_core", False),
        ("AVX512_CORE_VNNI", False),
        ("AVX512_CORE_BF16", True),
        ("AVX512_CORE_AMX", True),
        ("AVX10_1_512_AMX", True),
        ("DEFAULT", True),
    ],
)
def test_a_limit_of_onednn_counts(monkeypatch, limit, allowed):
    assert devices.allows_bf16(limit) is allowed
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    here = devices.has_fast_bf16()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert devices.has_fast_bf16() is (here and allowed)
