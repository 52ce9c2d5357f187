"""Statistics of pairs, read in parts, and the whole command of a `traces` network."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from ffdetect.models.network import NetworkSettings, create_network
from ffdetect.models.weights import load_checkpoint
from ffdetect.training import solve, train
from ffdetect.training.data import FaceDataset, Mix, PairDataset
from ffdetect.training.solve import read_statistics, validation_auc
from preprocess.cache.reader import CacheReader
from tests.ffdetect.helpers import random_crops, write_cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Noisy fakes of two kinds and clean reals, train and dev."""
    smooth = random_crops(48)
    torch.manual_seed(0)
    noisy = (smooth.float() + 15 * torch.randn(smooth.shape)).clamp(0, 255).to(torch.uint8)
    rows = []
    for number, crop in enumerate(torch.cat([smooth[:24], noisy[24:]]).permute(0, 2, 3, 1)):
        fake = number >= 24
        name = (("gan", "swap") if fake else ("ffhq", "dfdc"))[number % 2]
        rows.append({"crop": crop.numpy(), "target": int(fake), "generator": name,
                     "split": "dev" if number % 6 < 2 else "train"})  # fmt: skip
    return write_cache(tmp_path_factory.mktemp("solve") / "faces", rows)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return create_network(NetworkSettings(design="traces", residual="detail", size=128))


def pairs_of(cache) -> PairDataset:
    mix = Mix(swaps=0.5, swapped=("swap",), matches={"swap": ("dfdc",)})
    return PairDataset(cache, np.arange(48), mix=mix, window=128)


def test_statistics_are_read_in_the_order_of_the_pairs(cache, network, tmp_path, monkeypatch):
    monkeypatch.setattr(solve, "_PART", 32)
    pairs = pairs_of(cache)
    seen = read_statistics(network, pairs, 40, tmp_path)
    assert seen.swapped.tolist() == [pairs[i].swapped for i in range(40)]
    assert seen.kinds.tolist() == [pairs[i].kind for i in range(40)]
    assert set(seen.kinds) == {"gan", "swap"}
    assert all(len(part) == 80 for part in seen.faces)
    for number in (0, 17, 39):
        expected = network.statistics(pairs[number].crops)
        for got, wanted in zip(seen.faces, expected, strict=True):
            torch.testing.assert_close(got[2 * number : 2 * number + 2], wanted,
                                       rtol=1e-3, atol=1e-3)  # fmt: skip


def test_parts_that_are_there_are_not_read_again(cache, network, tmp_path, monkeypatch):
    monkeypatch.setattr(solve, "_PART", 16)
    pairs, read, original = pairs_of(cache), [], solve._read

    def stop_at_the_third(network, pairs, numbers, workers):
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(numbers.start)
        return original(network, pairs, numbers, workers)

    monkeypatch.setattr(solve, "_read", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        read_statistics(network, pairs, 48, tmp_path)
    monkeypatch.setattr(solve, "_read", original)
    going_on = read_statistics(network, pairs, 48, tmp_path, resume=True)
    assert read == [0, 16]
    fresh = read_statistics(network, pairs, 48, tmp_path / "other")
    torch.testing.assert_close(going_on.faces.face, fresh.faces.face)


def test_a_fresh_run_forgets_old_parts(cache, network, tmp_path):
    stale = tmp_path / "statistics-0000000-0000016.npz"
    stale.write_bytes(b"of another run")
    seen = read_statistics(network, pairs_of(cache), 16, tmp_path)
    assert len(seen.faces.rgb) == 32


def test_validation_agrees_with_scikit_learn(cache, network):
    rows = np.arange(48)
    names, target = (cache.metadata[c].to_numpy() for c in ("generator", "target"))
    aucs = validation_auc(network.eval(), FaceDataset(cache, rows), names, {"swap": ("dfdc",)})
    score = network(cache.crops(rows)).numpy()
    for fake, real in (("gan", "ffhq"), ("swap", "dfdc")):
        chosen = np.isin(names, [fake, real])
        expected = roc_auc_score(target[chosen], score[chosen])
        assert aucs[fake] == pytest.approx(expected, abs=0.02)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("init") / "mobilenet.safetensors"
    save_file(timm.create_model("mobilenetv2_100", num_classes=0).state_dict(), file)
    return file


def command(cache: CacheReader, out, backbone, *more: str) -> list[str]:
    return [str(cache.paths[0]), "--out", str(out), "--design", "traces", "--residual", "detail",
            "--init", str(backbone), "--match", "swap=dfdc", "--swaps", "swap",
            "--share-swaps", "0.4", "--window", "128", "--trace-pairs", "48", "--workers", "0",
            "--device", "cpu", *more]  # fmt: skip


def test_the_command_solves_and_validates(cache, backbone, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    assert train.main(command(cache, out, backbone)) == 0
    assert "validation AUC" in capsys.readouterr().out
    checkpoint = load_checkpoint(out)
    assert checkpoint.network.settings.design == "traces"
    assert checkpoint.about["validation_auc"] > 0.6
    recipe = checkpoint.about["recipe"]
    assert recipe["trace_pairs"] == 48 and recipe["residual"] == "detail"
    assert not {"backbone", "streams", "epochs", "rate", "mix", "hard", "freeze"} & set(recipe)
    json.dumps(checkpoint.about)


def test_the_command_is_resumed_after_a_stop(cache, backbone, tmp_path, monkeypatch, capsys):
    out, original = tmp_path / "net.safetensors", solve._read
    monkeypatch.setattr(solve, "_PART", 16)
    count = []

    def stop(network, pairs, numbers, workers):
        count.append(numbers.start)
        if len(count) == 2:
            raise KeyboardInterrupt
        return original(network, pairs, numbers, workers)

    monkeypatch.setattr(solve, "_read", stop)
    assert train.main(command(cache, out, backbone)) == 130
    assert "--resume goes on" in capsys.readouterr().err and not out.exists()
    assert train.main(command(cache, out, backbone, "--resume")) == 0
    assert count == [0, 16, 16, 32]
    assert train.main(command(cache, out, backbone, "--resume", "--mild", "0.5")) == 2
    assert re.search("expected statistics of this command .*mild", capsys.readouterr().err)


def test_swaps_that_are_left_out_are_stood_in_for_by_blends(cache, backbone, tmp_path):
    out = tmp_path / "net.safetensors"
    assert train.main(command(cache, out, backbone, "--without", "swap")) == 0
    assert "swap" not in load_checkpoint(out).about["data"]
