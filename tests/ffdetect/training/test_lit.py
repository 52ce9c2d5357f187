"""The training loop's losses and its validation AUC, without a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.distributions import Bernoulli, kl_divergence

from ffdetect.models.backbones import freeze_stages, layer_rates
from ffdetect.models.base import Logits
from ffdetect.training.losses import Objective

pytest.importorskip("lightning", reason="training needs the [train] extra")
from ffdetect.training.lit import LitDetector
from tests.ffdetect.helpers import random_crops, tiny_network


class Brightness(nn.Module):
    """Calls bright crops fake; each stream with another certainty."""

    def __init__(self, streams: str, rgb: float = 1.0, frequency: float = 1.0) -> None:
        super().__init__()
        self.streams = streams
        self.rgb_scale, self.frequency_scale = rgb, frequency
        self.seen: list[torch.Tensor] = []

    def stream_logits(self, crops: torch.Tensor) -> Logits:
        self.seen.append(crops)
        logit = (crops.float().mean((1, 2, 3)) - 128) / 20
        other = self.frequency_scale * logit if self.streams == "both" else None
        return Logits(logit, self.rgb_scale * logit, other)


def module(network: nn.Module, generators=(), matches=None, **options) -> LitDetector:
    schedule = {"epochs": 1, "steps": 1, "rate": 1e-3, "backbone_rate": 0.2, **options}
    made = LitDetector(network, generators=np.array(generators), matches=matches or {}, **schedule)
    made.logged = {}
    made.log = lambda name, value, **_: made.logged.update({name: float(value)})
    made.log_dict = lambda values, **_: made.logged.update(
        {name: float(torch.as_tensor(value).detach()) for name, value in values.items()}
    )
    made.print = lambda *_: None
    return made


def pairs(real: int, fake: int) -> torch.Tensor:
    greys = torch.tensor([real, fake], dtype=torch.uint8)[None, :, None, None, None]
    return greys.expand(3, 2, 3, 128, 128)


def test_the_first_of_a_pair_is_real_and_the_second_fake():
    right, wrong = module(Brightness("rgb")), module(Brightness("rgb"))
    assert right.training_step(pairs(28, 228), 0) < 0.01
    assert wrong.training_step(pairs(228, 28), 0) > 4
    assert right.logged["accuracy"] == 1 and wrong.logged["accuracy"] == 0


def test_each_stream_is_supervised_too():
    both_right = module(Brightness("both")).training_step(pairs(28, 228), 0)
    for wrong in ({"rgb": -1.0}, {"frequency": -1.0}):
        loss = module(Brightness("both", **wrong)).training_step(pairs(28, 228), 0)
        assert loss > both_right + 1


def cross_entropy(logit: torch.Tensor, share: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Torch's, of two classes of which the first has the logit zero."""
    two = torch.stack([torch.zeros_like(logit), logit], 1)
    return F.cross_entropy(two, torch.stack([1 - share, share], 1), label_smoothing=smoothing)


def test_smoothed_targets_are_those_of_every_stream():
    made = module(Brightness("both", 0.5, 2.0), objective=Objective(label_smoothing=0.2))
    total = made.training_step(pairs(28, 228), 0)
    logit, target = torch.tensor([-5.0, 5.0] * 3), torch.tensor([0.0, 1.0] * 3)
    fused, rgb, frequency = (cross_entropy(scale * logit, target, 0.2) for scale in (1, 0.5, 2))
    torch.testing.assert_close(total, fused + 0.3 * (rgb + frequency))
    assert made.logged["loss"] == pytest.approx(float(fused), abs=1e-6)
    assert made.logged["accuracy"] == 1


def test_hard_faces_count_more():
    greys = torch.tensor([[120, 136], [28, 228]], dtype=torch.uint8).view(2, 2, 1, 1, 1)
    batch = greys.expand(2, 2, 3, 128, 128)
    share = {}
    for gamma in (0.0, 2.0):
        made = module(Brightness("rgb"), objective=Objective(focal_gamma=gamma))
        both = made.training_step(batch, 0)
        hard = made.training_step(batch[:1], 0)
        share[gamma] = float(hard / both / 2)
    assert share[0.0] < 0.99 < 0.999 < share[2.0]


@pytest.mark.parametrize("kind", ["cutmix", "mixup"])
def test_mixed_faces_are_judged_by_how_much_of_them_is_fake(kind):
    torch.manual_seed(1)
    made = module(Brightness("rgb"), objective=Objective(mix=kind))
    mixed = 0
    for _ in range(6):
        loss = made.training_step(pairs(28, 228), 0)
        brightness = made.network.seen[-1].float().mean((1, 2, 3))
        expected = cross_entropy((brightness - 128) / 20, (brightness - 28) / 200)
        torch.testing.assert_close(loss, expected, rtol=0, atol=0.02)
        mixed += bool(((brightness > 38) & (brightness < 218)).any())
    assert mixed >= 2
    assert "loss" in made.logged and "accuracy" not in made.logged


def views(*greys: list[int]) -> torch.Tensor:
    """Per pair: the real and the fake of the first view, then of the second."""
    crops = torch.tensor(greys, dtype=torch.uint8)[..., None, None, None]
    return crops.expand(-1, -1, 3, 128, 128)


def test_two_views_of_a_face_are_to_agree():
    made = module(Brightness("rgb"), objective=Objective(consistency=0.7))
    greys = [[120, 150, 100, 160], [140, 180, 90, 130]]
    total = made.training_step(views(*greys), 0)
    logit = (torch.tensor(greys).float() - 128) / 20
    first, second = Bernoulli(logits=logit[:, :2]), Bernoulli(logits=logit[:, 2:])
    apart = (kl_divergence(first, second) + kl_divergence(second, first)).mean() / 2
    loss = cross_entropy(logit.flatten(), torch.tensor([0.0, 1.0] * 4))
    torch.testing.assert_close(total, loss + 0.7 * apart)
    assert made.logged["disagreement"] == pytest.approx(float(apart))
    assert made.logged["accuracy"] == pytest.approx(7 / 8)


@pytest.mark.parametrize("kind", ["", "cutmix", "mixup"])
def test_identical_views_agree(kind):
    made = module(Brightness("rgb"), objective=Objective(mix=kind, consistency=1.0))
    for _ in range(4):
        total = made.training_step(views([120, 150, 120, 150], [90, 200, 90, 200]), 0)
        assert made.logged["disagreement"] == pytest.approx(0, abs=1e-6)
        assert float(total) == pytest.approx(made.logged["loss"])


def test_each_layer_of_the_backbone_has_its_own_rate():
    network = tiny_network(size=128).train()
    made = module(network, steps=10, rate=0.1, backbone_rate=0.5, layer_decay=0.8)
    new, *layers = made.configure_optimizers()["optimizer"].param_groups
    expected = layer_rates(network.rgb.backbone, 0.1 * 0.5, 0.8)
    assert [group["max_lr"] for group in layers] == [group["lr"] for group in expected]
    assert new["max_lr"] == 0.1 and layers[-1]["max_lr"] == 0.05
    for group, layer in zip(layers, expected, strict=True):
        assert {id(p) for p in group["params"]} == {id(p) for p in layer["params"]}
    seen = [id(p) for group in (new, *layers) for p in group["params"]]
    assert sorted(seen) == sorted(id(p) for p in network.parameters())


@pytest.mark.parametrize("layer_decay", [1.0, 0.8])
@pytest.mark.parametrize("stages", [1, 4])
def test_a_step_leaves_frozen_stages_as_they_are(stages, layer_decay):
    network = tiny_network(size=128)
    freeze_stages(network.rgb.backbone, stages)
    made = module(network.train(), steps=10, layer_decay=layer_decay)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = made.configure_optimizers()["optimizer"]
    assert all(p.requires_grad for group in optimizer.param_groups for p in group["params"])
    crops = random_crops(8).unflatten(0, (4, 2))
    made.training_step(crops, 0).backward()
    optimizer.step()
    frozen = ("conv1.", "bn1.", "layer1.") if stages == 1 else ("conv1.", "bn1.", "layer")
    changed = {n for n, t in network.state_dict().items() if not torch.equal(t, before[n])}
    held = tuple(f"rgb.backbone.{name}" for name in frozen)
    assert not [name for name in changed if name.startswith(held)]
    norms = {n for n in before if "running" in n or n.endswith("weight")}
    assert norms - changed == {name for name in norms if name.startswith(held)}


@pytest.mark.parametrize("matches", [{}, {"dfdc_swap": ("dfdc",)}])
def test_validation_judges_each_generator_by_reals_of_its_kind(matches):
    rng = np.random.default_rng(0)
    names = np.array(["ffhq", "dfdc", "gan", "dfdc_swap"] * 30)
    targets = np.array([0, 0, 1, 1] * 30)
    logits = rng.normal(np.array([0, 1, 0.8, 1.5] * 30)).round(1)
    order = rng.permutation(120)
    made = module(Brightness("rgb"), names, matches)
    for rows in np.array_split(order, 5):
        made.seen.append(
            (torch.tensor(rows), torch.tensor(targets[rows]), torch.tensor(logits[rows]).float())
        )
    made.on_validation_epoch_end()
    expected = {}
    for generator in ("dfdc_swap", "gan"):
        reals = ["ffhq", "dfdc"]
        if matches:
            reals = ["dfdc"] if generator == "dfdc_swap" else ["ffhq"]
        chosen = np.isin(names, [generator, *reals])
        expected[generator] = roc_auc_score(targets[chosen], logits[chosen])
        assert made.logged[f"val_auc/{generator}"] == pytest.approx(expected[generator], abs=1e-6)
    assert made.logged["val_auc"] == pytest.approx(np.mean(list(expected.values())), abs=1e-6)
    assert made.seen == []


def test_a_network_that_diverged_does_not_end_the_training():
    made = module(Brightness("rgb"), ["ffhq", "gan"])
    made.seen.append((torch.tensor([0, 1]), torch.tensor([0, 1]), torch.full((2,), torch.nan)))
    made.on_validation_epoch_end()
    assert made.logged["val_auc"] == 0.5


@pytest.mark.parametrize("steps", [1, 2, 10, 40])
def test_the_learning_rate_rises_and_falls_in_a_run_of_any_length(steps):
    made = module(tiny_network(size=128).train(), steps=steps)
    parts = made.configure_optimizers()
    optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
    backbone = {id(p) for p in made.network.rgb.backbone.parameters()}
    assert {id(p) for p in optimizer.param_groups[1]["params"]} == backbone
    assert not backbone & {id(p) for p in optimizer.param_groups[0]["params"]}
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if len(rates) < steps:
            schedule.step()
    new, old = np.array(rates).T
    assert old == pytest.approx(0.2 * new)
    assert new.max() <= 1e-3 * (1 + 1e-6)
    if steps >= 10:
        assert new.max() > 9e-4 and new.argmax() <= steps // 5 and new[-1] < 1e-5
