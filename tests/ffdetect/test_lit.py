"""The training loop's losses and its validation AUC, without a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from ffdetect.data import Pair
from ffdetect.network import Logits, NetworkSettings

pytest.importorskip("lightning", reason="training needs the [train] extra")
from ffdetect.lit import LitDetector


class Brightness(nn.Module):
    """Calls bright crops fake; each stream with another certainty."""

    def __init__(self, streams: str, rgb: float = 1.0, frequency: float = 1.0) -> None:
        super().__init__()
        self.settings = NetworkSettings(streams=streams)
        self.rgb_scale, self.frequency_scale = rgb, frequency

    def stream_logits(self, crops: torch.Tensor) -> Logits:
        logit = (crops.float().mean((1, 2, 3)) - 128) / 20
        return Logits(logit, self.rgb_scale * logit, self.frequency_scale * logit)


def module(network: nn.Module, generators=(), matches=None, **options) -> LitDetector:
    schedule = {"epochs": 1, "steps": 1, "rate": 1e-3, "backbone_rate": 0.2, **options}
    made = LitDetector(network, generators=np.array(generators), matches=matches or {}, **schedule)
    made.logged = {}
    made.log = lambda name, value, **_: made.logged.update({name: float(value)})
    made.log_dict = lambda values, **_: made.logged.update({k: float(v) for k, v in values.items()})
    made.print = lambda *_: None
    return made


def pairs(real: int, fake: int) -> Pair:
    greys = torch.tensor([real, fake], dtype=torch.uint8)[None, :, None, None, None]
    return Pair(greys.expand(3, 2, 3, 128, 128), torch.zeros(3, dtype=torch.bool))


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


@pytest.mark.parametrize("matches", [{}, {"dfdc_swap": ("dfdc",)}])
def test_validation_judges_each_generator_by_reals_of_its_kind(matches):
    rng = np.random.default_rng(0)
    names = np.array(["ffhq", "dfdc", "gan", "dfdc_swap"] * 30)
    targets = np.array([0, 0, 1, 1] * 30)
    logits = rng.normal(np.array([0, 1, 0.8, 1.5] * 30)).round(1)
    order = rng.permutation(120)
    made = module(Brightness("rgb"), names, matches)
    for rows in np.array_split(order, 5):
        made._seen.append((torch.tensor(rows), torch.tensor(targets[rows]),
                           torch.tensor(logits[rows]).float()))  # fmt: skip
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
    assert made._seen == []


def test_a_network_that_diverged_does_not_end_the_training():
    made = module(Brightness("rgb"), ["ffhq", "gan"])
    made._seen.append((torch.tensor([0, 1]), torch.tensor([0, 1]), torch.full((2,), torch.nan)))
    made.on_validation_epoch_end()
    assert made.logged["val_auc"] == 0.5


@pytest.mark.parametrize("steps", [1, 2, 10, 40])
def test_the_learning_rate_rises_and_falls_in_a_run_of_any_length(steps):
    from .helpers import tiny_network

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
