"""The shipped design: its streams, its fusion, and what of it is kept in a weights file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ffdetect.models import dual_stream
from ffdetect.models.dual_stream import DualStream, DualStreamSettings, Kind
from ffdetect.models.tensor_file import read_tensors, write_tensors
from ffdetect.models.weights import WeightsError, load_checkpoint, save_checkpoint
from preprocess.faces.face import CropSettings
from tests.ffdetect.helpers import random_crops

KINDS = {
    "generated": Kind(("lite_rgb",), ("lite_residual",)),
    "swap": Kind((), ("lite_residual",), margin=2.0, frame_margin=1.0, clip_margin=0.5),
}


@pytest.fixture(scope="module")
def network() -> DualStream:
    """Of the small trunk alone, with random heads of a size that gives logits of some units."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = DualStream(DualStreamSettings(KINDS)).eval()
    for name, x in made.statistics(random_crops(16)).items():
        for heads in made.heads.values():
            if name in heads:
                heads[name].centre.copy_(x.mean(0))
                heads[name].scale.copy_(x.std(0).clamp_min(1e-3))
    made.fusions["generated"].weight.copy_(torch.tensor([[0.6, 0.4]]))
    made.fusions["swap"].weight.fill_(2.0)
    return made


def log_of_sum(*logits: torch.Tensor) -> torch.Tensor:
    return sum(logit.double().exp() for logit in logits).log().float()


@torch.inference_mode()
def test_kinds_are_lines_on_the_logits_of_readers_whose_odds_add_up(network):
    crops = random_crops(4, seed=9)
    logits, seen = network.stream_logits(crops), network.statistics(crops)
    heads, start = network.heads["generated"], network.fusions["generated"].bias
    rgb, residual = (heads[name](seen[name]) for name in heads)
    swap = 2 * network.heads["swap"]["lite_residual"](seen["lite_residual"])
    swap = swap + network.fusions["swap"].bias
    generated = 0.6 * rgb + 0.4 * residual + start
    torch.testing.assert_close(logits.fused, log_of_sum(generated, swap - 2))
    torch.testing.assert_close(network.clip_logits(crops), log_of_sum(generated, swap - 0.5))
    torch.testing.assert_close(logits.rgb, rgb + start)
    torch.testing.assert_close(logits.frequency, log_of_sum(residual + start, swap - 2))
    assert logits.fused.std() > 0.01


@torch.inference_mode()
def test_margins_lie_between_those_of_pictures_and_of_frames_of_video(network):
    settings = DualStreamSettings(KINDS, frames=("lite_rgb", "lite_residual"))
    made = DualStream(settings).eval()
    made.load_state_dict(network.state_dict(), strict=False)
    crops = random_crops(4, seed=9)
    seen = network.statistics(crops)
    alone = [
        DualStream(DualStreamSettings({name: replace(kind, margin=0.0)}))
        for name, kind in KINDS.items()
    ]
    for one in alone:
        one.load_state_dict(network.state_dict(), strict=False)
    generated, swap = (one.judge(seen).fused for one in alone)
    for told, margin in ((-0.3, 2.0), (0.2, 1.8), (1.7, 1.0)):
        for name, bias in (("lite_rgb", told - 0.1), ("lite_residual", told + 0.1)):
            made.frames[name].linear.weight.zero_()
            made.frames[name].linear.bias.fill_(bias)
        torch.testing.assert_close(made(crops), log_of_sum(generated, swap - margin))
        torch.testing.assert_close(made.clip_logits(crops), network.clip_logits(crops))


@torch.inference_mode()
def test_heads_do_not_lose_digits_to_half_precision(network):
    seen = network.statistics(random_crops(4, seed=9))
    with torch.autocast("cpu", torch.bfloat16):
        half = network.judge(seen).fused
    torch.testing.assert_close(half, network.judge(seen).fused)
    assert half.dtype == torch.float32


@torch.inference_mode()
def test_a_stream_that_no_kind_reads_has_no_logit():
    network = DualStream(DualStreamSettings({"swap": Kind((), ("lite_residual",))})).eval()
    logits = network.stream_logits(random_crops(2))
    assert logits.rgb is None
    torch.testing.assert_close(logits.frequency, logits.fused)


@torch.inference_mode()
def test_cached_maps_change_nothing(network):
    crops = random_crops(2)
    other = torch.zeros(2, 3, 128, 128, dtype=torch.int8)
    torch.testing.assert_close(network(crops, residual=other), network(crops))


@torch.inference_mode()
def test_statistics_do_not_depend_on_the_batch(network):
    crops = random_crops(5)
    together = network.statistics(crops)
    for name, values in together.items():
        alone = torch.cat([network.statistics(crop[None])[name] for crop in crops])
        torch.testing.assert_close(values, alone, rtol=1e-3, atol=1e-3)


def test_readers_share_a_trunk_that_is_not_learnt(network):
    assert network.readers["lite_rgb"].trunk is network.readers["lite_residual"].trunk
    tensors = ("centre", "scale", "linear.weight", "linear.bias")
    expected = {
        f"heads.{kind}.{reader}.{name}"
        for kind, own in KINDS.items()
        for reader in own.readers
        for name in tensors
    }
    fusions = {f"fusions.{kind}.{name}" for kind in KINDS for name in ("weight", "bias")}
    assert network.learnt().keys() == expected | fusions
    assert not any(p.requires_grad for p in network.parameters())


@torch.inference_mode()
def test_evidence_adds_up_to_what_the_lines_say(network):
    crops = random_crops(3, seed=3)
    seen, maps = network.statistics(crops), network.evidence(crops)
    assert [m.shape[1:] for m in maps[:1]] == [(1, 64, 64)] and len(maps) == 8
    said, odds = [], []
    for name, kind in KINDS.items():
        heads, fusion = network.heads[name], network.fusions[name]
        lines = torch.stack([heads[n](seen[n]) - heads[n].linear.bias for n in kind.readers], 1)
        biases = torch.stack([heads[n].linear.bias for n in kind.readers], 1)
        said.append(lines @ fusion.weight[0])
        odds.append(said[-1] + biases @ fusion.weight[0] + fusion.bias - kind.margin)
    expected = (torch.stack(odds, 1).softmax(1) * torch.stack(said, 1)).sum(1)
    torch.testing.assert_close(sum(m.sum((1, 2, 3)) for m in maps), expected, rtol=1e-3, atol=1e-3)
    assert expected.std() > 0.01


def test_looking_for_evidence_works_in_inference_mode_and_leaves_no_trace(network):
    crops = random_crops(1)
    before = network(crops)
    with torch.inference_mode():
        inside = network.evidence(crops)
    for first, second in zip(inside, network.evidence(crops), strict=True):
        torch.testing.assert_close(first, second)
    torch.testing.assert_close(network(crops), before)


def test_weights_hold_heads_alone_and_name_the_trunk(network, tmp_path):
    file = tmp_path / "w.safetensors"
    save_checkpoint(file, network, CropSettings(size=128), {"note": "x"}, half=False)
    stored = load_file(file)
    assert stored.keys() == network.learnt().keys()
    assert {t.dtype for t in stored.values()} == {torch.float32}
    again = load_checkpoint(file).network
    assert again.settings == network.settings
    crops = random_crops(2)
    with torch.inference_mode():
        np.testing.assert_allclose(again(crops), network(crops), atol=1e-4)


def test_weights_learnt_beside_another_trunk_are_refused(network, tmp_path, monkeypatch):
    file = tmp_path / "w.safetensors"
    save_checkpoint(file, network, CropSettings(size=128), {}, half=False)
    monkeypatch.setattr(dual_stream, "trunk_digest", lambda name: "another")
    with pytest.raises(WeightsError, match=r"trunks.efficientnet_lite0: .*not 'another'") as caught:
        load_checkpoint(file)
    assert str(caught.value).startswith(f"{file}: expected inputs as this version")


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"a": Kind(("lite",), ("lite_residual",))}, "expected a reader among .* but got 'lite'"),
        ({}, "expected kinds with a reader each"),
        ({**KINDS, "b": Kind()}, "expected kinds with a reader each"),
        ({**KINDS, "b": Kind(("lite_residual",))}, "expected other readers in each stream"),
    ],
)
def test_wrong_settings_are_refused(kinds, message):
    with pytest.raises(ValueError, match=message):
        DualStreamSettings(kinds)


@pytest.mark.parametrize("value", ["x", None, True, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["margin", "frame_margin", "clip_margin"])
def test_a_margin_is_a_finite_number(name, value):
    with pytest.raises(ValueError, match=f"expected a finite {name} but got"):
        Kind(("lite_rgb",), **{name: value})


def test_frames_are_told_by_what_kinds_read():
    with pytest.raises(ValueError, match=r"told by readers of kinds but got .'clip_native'"):
        DualStreamSettings(KINDS, frames=("lite_rgb", "clip_native"))


def test_settings_come_back_from_json():
    settings = DualStreamSettings(
        {**KINDS, "clip": Kind(("clip_resized", "clip_native"), clip_margin=1.5)},
        frames=("clip_native", "lite_rgb"),
    )
    assert settings.trunks == ("efficientnet_lite0", "clip_vit_b16")
    values = json.loads(json.dumps(settings.to_dict()))
    assert DualStreamSettings.from_dict(values) == settings


def test_weights_with_one_set_of_heads_are_refused_with_what_to_do(network, tmp_path):
    file = tmp_path / "w.safetensors"
    save_checkpoint(file, network, CropSettings(size=128), {}, half=False)
    tensors, described = read_tensors(file)
    about = json.loads(described["ffdetect"])
    about["network"] = {
        "rgb": ["lite_rgb"],
        "frequency": ["lite_residual"],
        "design": "dual_stream",
    }
    write_tensors(file, tensors, {"ffdetect": json.dumps(about)})
    with pytest.raises(WeightsError, match="solve the weights anew"):
        load_checkpoint(file)
