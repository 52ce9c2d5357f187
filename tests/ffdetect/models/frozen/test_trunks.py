"""Trunks against timm's own networks with the same tensors, and how their files are read."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from ffdetect.models.frozen import trunks
from ffdetect.models.frozen.trunks import (
    TRUNKS,
    ClipTrunk,
    LiteTrunk,
    load_trunk,
    trunk_digest,
)
from ffdetect.models.tensor_file import from_int8
from preprocess.work.cores import computing


@pytest.fixture(scope="module")
def clip() -> ClipTrunk:
    return load_trunk("clip_vit_b16")


@pytest.fixture(scope="module")
def lite() -> LiteTrunk:
    return load_trunk("efficientnet_lite0")


def face(astronaut: np.ndarray, side: int) -> torch.Tensor:
    """float32 2 x 3 x side x side in -1..1: a face and its mirror image."""
    top, left = 40, 140
    cut = torch.from_numpy(astronaut[top : top + side, left : left + side].copy())
    x = cut.permute(2, 0, 1)[None].float() / 127.5 - 1
    return torch.cat([x, x.flip(-1)])


@torch.inference_mode()
def test_tokens_are_those_of_timm(clip, astronaut):
    whole = timm.create_model("vit_base_patch16_clip_quickgelu_224", num_classes=0).eval()
    whole.load_state_dict(clip.state_dict(), strict=False)
    x = face(astronaut, 224)
    expected = whole.forward_intermediates(
        x, [0, 2], return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
    )
    got = clip(x, (1, 3))
    assert [tokens.shape for tokens in got] == [(2, 197, 768)] * 2
    for tokens, (places, first) in zip(got, expected, strict=True):
        torch.testing.assert_close(tokens, torch.cat([first, places], 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fast", [True, False])
@torch.inference_mode()
def test_half_precision_rounds_inputs_and_sums_of_products_alone(
    clip, astronaut, monkeypatch, fast
):
    """Rounding every layer's output would move tokens three times as far; without a CPU that is
    faster so nothing is rounded."""
    x = face(astronaut, 224)
    expected = clip(x, (8,))[0]
    monkeypatch.setattr(trunks, "multiplies_bf16", lambda device: fast)
    with torch.autocast("cpu", torch.bfloat16):
        got = clip(x, (8,))[0]
    assert got.dtype == torch.float32
    moved = float((got - expected).abs().mean() / expected.abs().mean())
    assert (0.001 < moved < 0.017) if fast else (moved == 0), moved


@torch.inference_mode()
def test_stages_are_those_of_timm(lite, astronaut):
    """Whose batch norms still stand, where those of the trunk are folded into convolutions."""
    whole = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    with resources.as_file(resources.files("ffdetect.weights") / lite.file) as file:
        whole.load_state_dict(from_int8(load_file(file)), strict=False)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in lite.modules())
    seen: list[torch.Tensor] = []
    for stage in whole.blocks:
        stage.register_forward_hook(lambda _, __, output: seen.append(output))
    x = face(astronaut, 128)
    whole.forward_features(x)
    got = lite.compute(x, None)
    assert len(got) == len(seen) == 7
    for stage, expected in zip(got, seen, strict=True):
        torch.testing.assert_close(stage, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("stages", [3, 5])
def test_onnx_runtime_gives_the_same_stages(lite, astronaut, stages, threads):
    x = face(astronaut, 120)
    with torch.inference_mode(), computing(threads):
        got, expected = lite(x, stages), lite.compute(x, stages)
    assert len(got) == stages
    for stage, own in zip(got, expected, strict=True):
        torch.testing.assert_close(stage, own, rtol=1e-3, atol=1e-3)
        assert not torch.equal(stage, own)  # or it was PyTorch twice


def test_pytorch_runs_what_gradients_or_later_stages_are_wanted_of(lite, astronaut):
    x = face(astronaut, 64).requires_grad_()
    lite(x, 3)[-1].mean().backward()
    assert x.grad is not None and x.grad.abs().max() > 0
    with torch.inference_mode():
        assert len(lite(x.detach(), 6)) == 6


def test_trunks_are_frozen_and_evaluate(clip, lite):
    for trunk in (clip, lite):
        assert not trunk.training and not any(p.requires_grad for p in trunk.parameters())
        assert all(
            t.dtype == torch.float32
            for n, t in trunk.state_dict().items()
            if "num_batches" not in n
        )


def test_files_hold_what_trunks_use_and_nothing_else():
    for kind in TRUNKS.values():
        with resources.as_file(resources.files("ffdetect.weights") / kind.file) as file:
            stored = load_file(file)
        names = {name.removesuffix(".q").removesuffix(".scale") for name in stored}
        with torch.device("meta"):
            assert names == set(kind().state_dict())


def test_a_changed_file_has_another_digest(tmp_path, monkeypatch):
    name = "efficientnet_lite0"
    before, kind = trunk_digest(name), TRUNKS[name]
    data = bytearray((resources.files("ffdetect.weights") / kind.file).read_bytes())
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(data)
    monkeypatch.setattr(kind, "file", str(copy))
    assert trunk_digest(name) == before
    data[-1] ^= 1
    copy.write_bytes(data)
    assert trunk_digest(name) != before


def test_an_unknown_trunk_is_named():
    with pytest.raises(ValueError, match=r"expected a trunk among .* but got 'oak'"):
        load_trunk("oak")
