"""The network of frozen statistics and a face stream."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression

from ffdetect.checkpoint import load_checkpoint, save_checkpoint
from ffdetect.network import NetworkSettings, create_network
from ffdetect.traces import TraceHead, TraceNet, either
from preprocess import maps
from preprocess.faces import CropSettings

from .helpers import random_crops


@pytest.fixture(scope="module")
def network() -> TraceNet:
    torch.manual_seed(0)
    settings = NetworkSettings(design="traces", residual="detail", size=128)
    return create_network(settings).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A file as timm would save it, with batch norms that are no identities."""
    torch.manual_seed(3)
    backbone = timm.create_model("mobilenetv2_100", num_classes=0)
    for norm in backbone.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
            norm.weight.data.uniform_(0.5, 2)
            norm.bias.data.normal_(0, 0.1)
    file = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    save_file(backbone.state_dict(), file)
    return file, backbone.eval()


def test_probabilities_of_independent_events_are_joined():
    first, second = torch.tensor([-3.0, 0.0, 2.0, -30.0]), torch.tensor([1.0, 0.0, -2.0, -30.0])
    expected = 1 - (1 - first.double().sigmoid()) * (1 - second.double().sigmoid())
    torch.testing.assert_close(either(first, second).double().sigmoid(), expected)
    assert either(torch.tensor(80.0), torch.tensor(80.0)).isfinite()


def test_streams_and_the_joined_logit(network):
    crops = random_crops(3)
    logits = network.stream_logits(crops)
    assert all(part.shape == (3,) and part.dtype == torch.float32 for part in logits)
    traces = 0.75 * logits.rgb + 0.25 * logits.frequency
    torch.testing.assert_close(logits.fused, either(traces, logits.face))
    torch.testing.assert_close(network(crops), logits.fused)


def test_statistics_are_those_of_the_stages_of_timm(pretrained):
    file, backbone = pretrained
    network = create_network(NetworkSettings(design="traces", residual="detail")).eval()
    network.load_pretrained(file)
    crops = random_crops(2)
    residual = 128 + 6 * maps.residual(crops, "detail").float()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (TraceNet.mean, TraceNet.std))
    expected = {}
    for name, pixels, taps in (("rgb", crops, (1, 2, 3)), ("frequency", residual, (1, 2))):
        x = backbone.bn1(backbone.conv_stem((pixels.clamp(0, 255) / 255 - mean) / std))
        values = []
        for number, stage in enumerate(backbone.blocks):
            x = stage(x)
            if number in taps:
                values += [x.mean((2, 3)), x.std((2, 3), unbiased=False)]
        expected[name] = torch.cat(values, 1).detach()
    rgb, frequency = network.statistics(crops)
    assert rgb.shape == (2, 240) and frequency.shape == (2, 112)
    torch.testing.assert_close(rgb, expected["rgb"], rtol=1e-2, atol=2e-3)
    torch.testing.assert_close(frequency, expected["frequency"], rtol=1e-2, atol=2e-3)


def test_the_face_stream_starts_as_the_deep_end_of_timm(pretrained):
    file, backbone = pretrained
    network = create_network(NetworkSettings(design="traces", residual="detail")).eval()
    network.load_pretrained(file)
    crops = random_crops(2)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (TraceNet.mean, TraceNet.std))
    with torch.no_grad():
        pooled = backbone((crops.float() / 255 - mean) / std)
        expected = network.face(pooled).flatten()
        torch.testing.assert_close(
            network.stream_logits(crops).face, expected, rtol=1e-2, atol=1e-3
        )


def test_a_cached_residual_is_used(network):
    crops = random_crops(2)
    residual = maps.residual(crops, "detail")
    torch.testing.assert_close(network(crops, residual=residual), network(crops))
    other = network.stream_logits(crops, residual=torch.zeros_like(residual))
    assert not torch.allclose(other.frequency, network.stream_logits(crops).frequency)


def test_only_the_face_stream_is_trained():
    network = create_network(NetworkSettings(design="traces", residual="detail")).train()
    network.stream_logits(random_crops(2)).face.sum().backward()
    moved = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert moved == {"deep", "face"}
    assert {id(p) for p in network.pretrained} == {id(p) for p in network.deep.parameters()}


def test_a_head_is_the_logistic_regression_of_scikit_learn():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 300)
    x = rng.normal(0, [1, 20, 0.01], (300, 3)) + np.outer(target, [1, 0, 0.01]) + [0, 100, 5]
    head = TraceHead(3)
    head.fit(torch.from_numpy(x).float(), target)
    scaled = (x - x.mean(0)) / x.std(0)
    solved = LogisticRegression(C=0.03).fit(scaled, target)
    got = head(torch.from_numpy(x).float()).detach().numpy()
    np.testing.assert_allclose(got, solved.decision_function(scaled), atol=0.02)


def test_a_statistic_far_out_does_not_run_away():
    head = TraceHead(1)
    head.fit(torch.randn(200, 1), np.tile([0, 1], 100))
    far, farther = head(torch.tensor([[50.0], [5000.0]]))
    assert far == farther


def test_solving_separates_what_the_statistics_separate(network):
    smooth = random_crops(40)
    noisy = (smooth.float() + 12 * torch.randn(smooth.shape)).clamp(0, 255).to(torch.uint8)
    crops = torch.stack([smooth, noisy], 1).flatten(0, 1)
    target = np.tile([0, 1], 40)
    solved = create_network(network.settings).eval()
    solved.load_state_dict(network.state_dict())
    solved.fit_traces(solved.statistics(crops), target)
    logits = solved.stream_logits(crops)
    for part in (logits.rgb, logits.frequency):
        assert ((part > 0).numpy() == (target == 1)).mean() > 0.95


def test_weights_files_bring_the_design_back(network, tmp_path):
    file = tmp_path / "w.safetensors"
    save_checkpoint(file, network, CropSettings(size=128), {}, half=False)
    loaded = load_checkpoint(file).network
    assert isinstance(loaded, TraceNet)
    crops = random_crops(2)
    torch.testing.assert_close(loaded(crops), network(crops), rtol=1e-4, atol=1e-4)


def test_foreign_weights_are_refused(tmp_path):
    network = create_network(NetworkSettings(design="traces", residual="detail"))
    file = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match=r"other.safetensors: expected weights of mobilenetv2_100"):
        network.load_pretrained(file)
    with pytest.raises(ValueError, match="expected a design among"):
        NetworkSettings(design="tower")
