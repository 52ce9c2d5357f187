"""The gated network: shapes, streams, cached maps, gradients and what the fusion does."""

from __future__ import annotations

import pytest
import torch

from ffdetect.models.gated import STREAMS, GatedFusion, GatedNetwork, GatedSettings
from ffdetect.scoring.detector import Detector
from preprocess.cache.reader import CacheReader
from preprocess.faces import maps
from tests.ffdetect.helpers import random_crops, tiny_network


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("residual", sorted(maps.RESIDUALS))
@torch.inference_mode()
def test_one_logit_a_face(streams, residual):
    network = tiny_network(streams=streams, residual=residual, size=128)
    crops = random_crops(3)
    logits = network(crops)
    assert logits.shape == (3,) and logits.dtype == torch.float32
    assert logits.isfinite().all() and len(logits.unique()) == 3
    whole = network.stream_logits(crops)
    torch.testing.assert_close(whole.fused, logits)
    present = {"rgb": whole.rgb is not None, "frequency": whole.frequency is not None}
    assert present == {name: streams in (name, "both") for name in present}
    if streams != "both":
        torch.testing.assert_close(getattr(whole, streams), logits)


def test_a_single_stream_has_no_weights_of_the_other():
    rgb = tiny_network(streams="rgb").state_dict()
    frequency = tiny_network(streams="frequency").state_dict()
    both = tiny_network().state_dict()
    assert {name.split(".")[0] for name in rgb} == {"rgb"}
    assert {name.split(".")[0] for name in frequency} == {"frequency"}
    assert {name.split(".")[0] for name in both} == {"rgb", "frequency", "fusion"}


@torch.inference_mode()
def test_each_stream_sees_its_own_evidence():
    """Shifting all pixels evenly changes the RGB stream and leaves the residual as it is."""
    network = tiny_network()
    crops = random_crops(2).clamp(40, 200)
    before, after = network.stream_logits(crops), network.stream_logits(crops + 40)
    torch.testing.assert_close(before.frequency, after.frequency, atol=1e-4, rtol=0)
    assert (before.rgb - after.rgb).abs().min() > 1e-4


@torch.inference_mode()
def test_cached_maps_give_the_logits_of_computed_ones(faces_cache):
    reader = CacheReader(faces_cache)
    crops = reader.crops(range(4))
    spectrum = torch.stack([torch.tensor(reader.spectrum(i)) for i in range(4)])
    residual = torch.stack([torch.tensor(reader.residual(i)) for i in range(4)])
    network = tiny_network(size=128)
    computed, cached = network(crops), network(crops, spectrum, residual)
    torch.testing.assert_close(cached, computed, atol=1e-3, rtol=0)
    # ... and they are what is used, both of them.
    assert (network(crops, spectrum.flip(0), residual) - computed).abs().max() > 1e-3
    assert (network(crops, spectrum, residual.flip(0)) - computed).abs().max() > 1e-3


@torch.inference_mode()
def test_a_batch_scores_as_its_faces_do_alone():
    network, crops = tiny_network(), random_crops(7, 256)
    together = network(crops).sigmoid()
    alone = torch.cat([network(crop[None]) for crop in crops]).sigmoid()
    assert together.std() > 0.01
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_the_fused_loss_reaches_every_part():
    network = tiny_network(size=128).train()
    network(random_crops(4)).sum().backward()
    silent = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
    # The streams' own heads are trained by their own losses.
    assert silent == [
        f"{s}.head.logit.{p}" for s in ("rgb", "frequency") for p in ("weight", "bias")
    ]


def test_the_single_losses_reach_the_heads():
    network = tiny_network(size=128).train()
    logits = network.stream_logits(random_crops(4))
    (logits.rgb + logits.frequency).sum().backward()
    assert network.rgb.head.logit.weight.grad.abs().max() > 0
    assert network.frequency.head.logit.weight.grad.abs().max() > 0
    assert network.fusion.gate.weight.grad is None


@torch.inference_mode()
def test_the_gate_decides_which_stream_counts():
    """No average of the streams: an open or a closed gate leaves one stream alone."""
    torch.manual_seed(0)
    fusion = GatedFusion(16).eval()
    rgb, frequency, other = torch.randn(3, 5, 16).unbind()
    default = fusion(rgb, frequency)
    fusion.gate.bias.fill_(50)
    only_rgb = fusion(rgb, frequency)
    torch.testing.assert_close(fusion(rgb, other), only_rgb)
    assert (fusion(other, frequency) - only_rgb).abs().min() > 1e-4
    fusion.gate.bias.fill_(-50)
    only_frequency = fusion(rgb, frequency)
    torch.testing.assert_close(fusion(other, frequency), only_frequency)
    assert (only_rgb - only_frequency).abs().min() > 1e-4
    assert (default - (only_rgb + only_frequency) / 2).abs().max() > 1e-3


@torch.inference_mode()
def test_the_gate_is_another_for_every_face():
    network, seen = tiny_network(), []
    network.fusion.gate.register_forward_hook(lambda _, __, out: seen.append(out.sigmoid()))
    network(random_crops(3, 256))
    gates = seen[0]
    assert gates.shape == (3, 256)
    assert (gates[0] - gates[1]).abs().max() > 1e-3


def test_frozen_norms_are_kept_through_training_mode():
    network = tiny_network(size=128, frozen_norms=True).train()
    names = [n for n, t in network.rgb.backbone.state_dict().items() if "running" in n]
    before = {name: network.rgb.backbone.state_dict()[name].clone() for name in names}
    network(random_crops(2))
    after = network.rgb.backbone.state_dict()
    assert names and all(torch.equal(before[name], after[name]) for name in names)
    assert network.frequency.on_residual[0][1].num_batches_tracked == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"streams": "audio"}, "streams to be one of .* but got 'audio'"),
        ({"backbone": "resnet19"}, "timm model but got 'resnet19'"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GatedNetwork(GatedSettings(**settings))


@pytest.mark.parametrize("shape", [(2, 4, 128, 128), (3, 128, 128), (2, 3, 100, 100)])
def test_wrong_crops_are_refused(shape):
    with pytest.raises(ValueError, match="expected"):
        tiny_network(streams="frequency")(torch.zeros(shape, dtype=torch.uint8))


def test_float_crops_are_refused():
    with pytest.raises(ValueError, match=r"expected uint8 crops .* but got torch.float32"):
        tiny_network(streams="frequency")(torch.zeros(1, 3, 128, 128))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 2e-3), ("bf16", 0.02), ("fp16", 0.02)]
)
def test_cuda_scores_as_the_cpu_does(tiny, tiny_weights, precision, tolerance):
    crops = random_crops(8, 256)
    on_cuda = Detector.load(tiny_weights, "cuda", precision).score_crops(crops)
    torch.testing.assert_close(
        torch.tensor(on_cuda), torch.tensor(tiny.score_crops(crops)), atol=tolerance, rtol=0
    )
