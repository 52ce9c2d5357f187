"""The network of frozen statistics and a face stream."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from ffdetect.evaluation.metrics import auc
from ffdetect.models import traces
from ffdetect.models.network import NetworkSettings, create_network
from ffdetect.models.traces import HiddenHead, LinearHead, PairStatistics, TraceNet, either
from ffdetect.models.weights import load_checkpoint, save_checkpoint
from preprocess.faces import maps
from preprocess.faces.face import CropSettings
from tests.ffdetect.helpers import random_crops


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
    traces = (logits.rgb + logits.frequency) / 2
    torch.testing.assert_close(logits.fused, either(traces, logits.face))
    torch.testing.assert_close(network(crops), logits.fused)


def regional_moments(x: torch.Tensor) -> torch.Tensor:
    """Mean, then log deviation of every channel in four regions, counted place by place."""
    places: list[list[tuple[int, int]]] = [[], [], [], []]
    height, width = x.shape[2:]
    for row in range(height):
        for column in range(width):
            right, down = (column + 0.5) / width - 0.5, (row + 0.5) / height - 0.5
            far = np.hypot(right / 0.30, down / 0.38)
            region = (0 if down < 0 else 1) if far < 0.8 else 2 if far < 1.2 else 3
            places[region].append((row, column))
    values = [torch.stack([x[:, :, r, c] for r, c in region], 2) for region in places]
    means = torch.stack([v.mean(2) for v in values], 1)
    deviations = torch.stack([v.std(2, unbiased=False) for v in values], 1)
    return torch.cat([means.flatten(1), deviations.clamp_min(1e-2).log().flatten(1)], 1)


def test_statistics_are_those_of_the_stages_of_timm(pretrained):
    file, backbone = pretrained
    network = create_network(NetworkSettings(design="traces", residual="detail")).eval()
    network.load_pretrained(file)
    crops = random_crops(2)
    residual = 128 + 6 * maps.residual(crops, "detail").float()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (TraceNet.mean, TraceNet.std))
    found = {}
    for name, pixels in (("rgb", crops), ("frequency", residual)):
        hidden = {}
        hooks = [
            stage[-1].bn2.register_forward_hook(
                lambda module, inputs, output, n=number, kept=hidden: kept.update({n: output})
            )
            for number, stage in enumerate(backbone.blocks)
        ]
        x = backbone.bn1(backbone.conv_stem((pixels.clamp(0, 255) / 255 - mean) / std))
        outputs = []
        for stage in backbone.blocks[:5]:
            x = stage(x)
            outputs.append(x.detach())
        found[name] = outputs, {n: h.detach() for n, h in hidden.items()}
        for hook in hooks:
            hook.remove()

    def moments(*layers: torch.Tensor) -> list[torch.Tensor]:
        return [v for x in layers for v in (x.mean((2, 3)), x.std((2, 3), unbiased=False))]

    outputs, hidden = found["rgb"]
    filtered, _ = found["frequency"]
    frequency = moments(*filtered[1:3])
    matrices = [np.corrcoef(x.flatten(1).numpy()) for x in filtered[1]]
    upper = [matrix[np.triu_indices(len(matrix), 1)] for matrix in matrices]
    frequency.append(torch.from_numpy(np.stack(upper)).float())
    face = [regional_moments(x) for x in (*outputs[1:5], hidden[2], filtered[1])]
    seen = network.statistics(crops)
    near = {"rtol": 1e-2, "atol": 3e-3}
    rgb = moments(*outputs[1:4], hidden[2], hidden[3])
    torch.testing.assert_close(seen.rgb, torch.cat(rgb, 1), **near)
    torch.testing.assert_close(seen.frequency, torch.cat(frequency, 1), **near)
    torch.testing.assert_close(seen.face, torch.cat(face, 1), **near)


def test_a_cached_residual_is_used(network):
    crops = random_crops(2)
    residual = maps.residual(crops, "detail")
    torch.testing.assert_close(network(crops, residual=residual), network(crops))
    other = network.stream_logits(crops, residual=torch.zeros_like(residual))
    assert not torch.allclose(other.frequency, network.stream_logits(crops).frequency)


def test_nothing_is_left_to_descend_on(network):
    assert not network.pretrained
    assert not any(p.requires_grad for p in network.parameters())


def fakes_away(rng, away: list[float], count: int = 400) -> torch.Tensor:
    """Real and fake by turns, float32 2 x count x 3; a fake is its real, moved, and noise."""
    real = rng.normal(0, [1, 20, 0.01], (count, 3)) + [0, 100, 5]
    fake = real + np.multiply(away, [1, 20, 0.01]) + rng.normal(0, [0.1, 2, 0.001], (count, 3))
    return torch.from_numpy(np.stack([real, fake], 1).reshape(-1, 3)).float()


def test_one_kind_gives_the_discriminant_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(traces, "SHRINKAGE", 0.0)
    x = fakes_away(np.random.default_rng(0), [0.5, -1, 0.2], 4000)
    head = LinearHead(3)
    head.solve(x, np.full(4000, "a"))
    scaled = (x - x.mean(0)) / x.std(0)
    judge = LinearDiscriminantAnalysis().fit(scaled, np.tile([0, 1], 4000))
    got = head.linear.weight[0].detach().numpy()
    cosine = got @ judge.coef_[0] / np.linalg.norm(got) / np.linalg.norm(judge.coef_)
    assert cosine > 0.999
    fitted = LogisticRegression(C=1e3).fit(head(x)[:, None].detach().numpy(), np.tile([0, 1], 4000))
    assert fitted.coef_.item() == pytest.approx(1, abs=0.02)  # the logit is in log odds
    assert fitted.intercept_.item() == pytest.approx(0, abs=0.02)


def test_kinds_count_alike_however_easy_and_frequent_they_are():
    rng = np.random.default_rng(0)
    easy, hard = fakes_away(rng, [3, 0, 0], 900), fakes_away(rng, [0, 0.3, 0], 300)
    x, kinds = torch.cat([easy, hard]), np.repeat(["easy", "hard"], [900, 300])
    head = LinearHead(3)
    head.solve(x, kinds)
    along = head.linear.weight[0].detach()
    assert along[1] == pytest.approx(along[0].item(), rel=0.35)
    assert abs(along[2]) < 0.1 * along[0]


def test_shrinkage_trusts_no_statistic_for_being_still(monkeypatch):
    """Statistics that hardly differ among reals would outweigh the others without it."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(400, 2))
    real[:, 1] = real[:, 0] + 0.01 * rng.normal(size=400)  # nearly the same statistic twice
    x = torch.from_numpy(np.stack([real, real + [1.0, 1.1]], 1).reshape(-1, 2)).float()
    weights = {}
    for amount in (0.0, 4.0):
        monkeypatch.setattr(traces, "SHRINKAGE", amount)
        head = LinearHead(2)
        head.solve(x, np.full(400, "a"))
        weights[amount] = head.linear.weight[0].detach()
    assert weights[0.0][0] < 0 < weights[0.0][1]  # their difference: that is noise
    assert weights[4.0][0] == pytest.approx(weights[4.0][1].item(), rel=0.2)


def test_a_statistic_far_out_does_not_run_away():
    head, x = LinearHead(1), torch.randn(200, 1)
    head.solve(x, np.full(100, "a"))
    far, farther = head(torch.tensor([[50.0], [5000.0]]))
    assert far == farther


def test_a_hidden_head_learns_what_no_line_separates():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(1200, 2))).float()
    target = ((x[:, 0] * x[:, 1]) > 0).long().numpy()
    torch.manual_seed(0)
    head = HiddenHead(2, 64)
    head.solve(x[:800], target[:800], seed=0, epochs=150)
    assert auc(target[800:], head(x[800:]).numpy()) > 0.9
    assert not head.training or not head.layers.training


def halves(count: int) -> tuple[torch.Tensor, np.ndarray]:
    """Real and fake crops by turns; the fakes are noisier."""
    smooth = random_crops(count)
    torch.manual_seed(0)
    noisy = (smooth.float() + 12 * torch.randn(smooth.shape)).clamp(0, 255).to(torch.uint8)
    return torch.stack([smooth, noisy], 1).flatten(0, 1), np.tile([0, 1], count)


def test_solving_separates_what_the_statistics_separate(network):
    crops, target = halves(40)
    solved = create_network(network.settings).eval()
    solved.load_state_dict(network.state_dict())
    solved.solve(PairStatistics(solved.statistics(crops), np.full(40, "a"), np.ones(40, bool)))
    logits = solved.stream_logits(crops)
    for part in logits:
        assert ((part > 0).numpy() == (target == 1)).mean() > 0.9


def test_the_face_stream_learns_of_changed_faces_alone(network):
    crops, target = halves(40)
    solved = create_network(network.settings).eval()
    solved.load_state_dict(network.state_dict())
    seen = solved.statistics(crops)
    solved.solve(PairStatistics(seen, np.full(40, "a"), np.zeros(40, bool)))
    logits = solved.stream_logits(crops)
    assert (logits.face < -19).all()
    traces = (logits.rgb + logits.frequency) / 2
    torch.testing.assert_close(logits.fused, traces, rtol=1e-2, atol=1e-2)
    # half of the pairs are swaps, clean faces for noisy ones; the others are noisy whole ones
    crops[:40] = crops[:40].unflatten(0, (20, 2)).flip(1).flatten(0, 1)
    swapped = np.arange(40) < 20
    solved.solve(PairStatistics(solved.statistics(crops), np.full(40, "a"), swapped))
    logits = solved.stream_logits(crops)
    face = logits.face.numpy()
    assert auc(target[:40], face[:40]) > 0.9
    assert face[41::2].mean() < face[0:40:2].mean()  # whole fakes are no swaps
    assert auc(target[40:], logits.rgb[40:].numpy()) > 0.9  # and swaps are no traces
    assert auc(target[:40], logits.rgb[:40].numpy()) < 0.3


@pytest.mark.parametrize("own_reals", [True, False])
def test_reals_of_other_pairs_teach_the_face_stream_unless_told_not_to(network, own_reals):
    crops, _ = halves(24)
    seen, kinds, swapped = network.statistics(crops), np.full(24, "a"), np.arange(24) < 12
    weights = []
    for shift in (0.0, 1.0):  # in the faces of pairs that are no swaps
        face = seen.face.clone()
        face[24:] += shift
        solved = create_network(network.settings).eval()
        solved.load_state_dict(network.state_dict())
        solved.solve(PairStatistics(seen._replace(face=face), kinds, swapped), own_reals=own_reals)
        weights.append(solved.face.layers[-1].weight.clone())
    assert torch.equal(*weights) == own_reals


def test_traces_are_tempered_and_the_face_stream_learns_as_long_as_told(network):
    crops, _ = halves(24)
    pairs = PairStatistics(network.statistics(crops), np.full(24, "a"), np.arange(24) < 12)
    logits = []
    for options in ({}, {"sureness": 0.2}, {"face_epochs": 2}):
        solved = create_network(network.settings).eval()
        solved.load_state_dict(network.state_dict())
        solved.solve(pairs, **options)
        logits.append(solved.stream_logits(crops))
    plain, tempered, short = logits
    for stream in ("rgb", "frequency"):
        own = getattr(plain, stream)
        torch.testing.assert_close(getattr(tempered, stream), own / 5)
        torch.testing.assert_close(getattr(short, stream), own)
    torch.testing.assert_close(tempered.face, plain.face)
    assert not torch.allclose(short.face, plain.face)


def test_feature_maps_can_be_watched(network):
    crops, watched = random_crops(1), []
    with torch.enable_grad():
        logit = network.stream_logits(crops, watched=watched).fused
        gradients = torch.autograd.grad(logit.sum(), watched)
    torch.testing.assert_close(logit.detach(), network(crops))
    assert [tuple(x.shape) for x in watched] == [(1, 24, 32, 32)] * 2
    assert all(g.abs().sum() > 0 for g in gradients)


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
