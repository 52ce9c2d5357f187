"""Designs by name; each keeps the contract of `base.Scorer`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ffdetect.models.registry import DESIGNS, create_network
from ffdetect.models.weights import load_checkpoint, save_checkpoint
from ffdetect.scoring.explain import heat_map
from preprocess.faces.face import CropSettings
from preprocess.faces.maps import RESIDUALS
from tests.ffdetect.helpers import random_crops

# The smallest of every design.
SETTINGS = {
    "dual_stream": {
        "design": "dual_stream",
        "kinds": {
            "generated": {"rgb": ["lite_rgb"], "frequency": ["lite_residual"]},
            "swap": {"rgb": ["lite_rgb"], "frequency": []},
        },
    },
    "gated": {"design": "gated", "backbone": "test_resnet", "size": 128},
}


def test_every_design_is_tested():
    assert SETTINGS.keys() == DESIGNS.keys()


@pytest.fixture(scope="module", params=sorted(DESIGNS))
def network(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create_network(SETTINGS[request.param]).eval()


@torch.inference_mode()
def test_streams_and_a_fused_logit(network):
    crops = random_crops(3)
    logits = network.stream_logits(crops)
    assert all(x.shape == (3,) and x.dtype == torch.float32 for x in logits)
    torch.testing.assert_close(network(crops), logits.fused)
    assert network.residual in RESIDUALS


@torch.inference_mode()
def test_scores_do_not_depend_on_the_batch(network):
    crops = random_crops(4)
    alone = torch.cat([network(crop[None]) for crop in crops])
    torch.testing.assert_close(network(crops), alone, rtol=1e-3, atol=1e-3)


def test_settings_and_what_was_learnt_make_the_network_again(network, tmp_path):
    file = tmp_path / "w.safetensors"
    save_checkpoint(file, network, CropSettings(size=128), {}, half=False)
    again = load_checkpoint(file).network
    assert again.settings == network.settings and again.inputs() == network.inputs()
    assert again.learnt().keys() == network.learnt().keys()
    crops = random_crops(2)
    with torch.inference_mode():
        torch.testing.assert_close(again(crops), network(crops), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", ["drop", "add", "reshape"])
def test_tensors_that_do_not_fit_are_refused(network, change):
    tensors = dict(network.learnt())
    name = next(iter(tensors))
    if change == "drop":
        del tensors[name]
    elif change == "add":
        tensors["extra"] = torch.zeros(2)
    else:
        tensors[name] = torch.zeros(3, 3, 3)
    with pytest.raises((RuntimeError, ValueError), match=r"expected tensors|load|size mismatch"):
        create_network(network.settings.to_dict()).load_learnt(tensors)


def test_evidence_is_of_every_stream_and_draws_a_heat_map(network):
    pytest.importorskip("captum", reason="the gated design's heat maps need captum")
    crops = random_crops(1)
    shares = network.evidence(crops)
    assert len(shares) >= 2 and all(share.ndim == 4 and len(share) == 1 for share in shares)
    assert all(share.isfinite().all() and share.any() for share in shares)
    heat = heat_map(network, crops)
    assert heat.shape == (128, 128) and heat.dtype == np.float32
    expected = sum(float(share.sum()) for share in shares)
    assert heat.mean() == pytest.approx(expected, rel=0.05, abs=1e-3)


@pytest.mark.parametrize("design", ["traces", None, "tower"])
def test_other_designs_are_named(design):
    with pytest.raises(ValueError, match=f"expected a design among .* but got {design!r}"):
        create_network({"design": design})
