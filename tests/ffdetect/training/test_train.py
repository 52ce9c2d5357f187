"""The training command from a cache to a weights file; few runs, each of a few steps."""

from __future__ import annotations

import re
import shutil

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from ffdetect.fakes.sources import SOURCES
from ffdetect.models.weights import load_checkpoint
from ffdetect.scoring.detector import Detector
from ffdetect.training import train, train_options
from ffdetect.training.data import Mix
from ffdetect.training.losses import Objective
from preprocess.cache.reader import CacheReader
from tests.ffdetect.helpers import random_crops, write_cache

pytest.importorskip("lightning", reason="training needs the [train] extra")


def run(cache, out, *more: str) -> int:
    command = [str(cache), "--out", str(out), "--backbone", "test_resnet", "--epochs", "2"]
    command += ["--steps", "2", "--batch", "4", "--workers", "0", "--device", "cpu"]
    return train.main([*command, "--precision", "fp32", "--val-limit", "2", *more])


def refused(capsys, *command) -> str:
    """The message of a command that is to end at once with status 2."""
    with pytest.raises(SystemExit) as caught:
        run(*command)
    assert caught.value.code == 2
    return capsys.readouterr().err


def logged(out) -> pd.DataFrame:
    """Everything in the run's logs."""
    files = sorted(out.with_suffix(".run").rglob("metrics.csv"))
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True)


@pytest.fixture(scope="module")
def trained(faces_cache, tmp_path_factory):
    """A weights file from two epochs with matches and blends."""
    out = tmp_path_factory.mktemp("trained") / "net.safetensors"
    assert run(faces_cache, out, "--match", "dfdc_swap=dfdc", "--share-blends", "0.3") == 0
    return out


def test_training_gives_weights_that_score(trained, faces_cache):
    detector = Detector.load(trained, "cpu")
    reader = CacheReader(faces_cache)
    assert detector.crop_settings == reader.settings.crop
    detector.check_cache(reader)
    scores = detector.score_crops(reader.crops(range(len(reader))))
    assert ((scores > 0) & (scores < 1)).all()


def test_the_weights_tell_how_they_were_made(trained):
    about = load_checkpoint(trained).about
    assert about["data"] == {"dfdc": 2, "dfdc_swap": 2, "ffhq": 2, "gan": 2}
    recipe = about["recipe"]
    assert recipe["backbone"] == "test_resnet" and recipe["match"] == ["dfdc_swap=dfdc"]
    assert recipe["share_blends"] == 0.3 and recipe["seed"] == 0
    assert recipe["epochs"] == 2 and recipe["streams"] == "both" and recipe["residual"] == "npr"
    assert 0 <= about["validation_auc"] <= 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", about["date"])
    assert not any(str(trained.parent) in str(value) for value in recipe.values())


def test_training_leaves_logs_and_checkpoints(trained):
    log = logged(trained)
    aucs = log["val_auc"].dropna()
    assert len(aucs) == 2 and aucs.between(0, 1).all()
    # Fakes are judged by reals of their own kind, and the mean is over generators.
    parts = log[["val_auc/dfdc_swap", "val_auc/gan"]].dropna().mean(axis=1)
    assert parts.to_numpy() == pytest.approx(aucs.to_numpy())
    best = load_checkpoint(trained).about["validation_auc"]
    assert best == pytest.approx(aucs.max(), abs=1e-4)
    folder = trained.with_suffix(".run")
    assert {"best.ckpt", "last.ckpt"} == {file.name for file in folder.glob("*.ckpt")}


@pytest.fixture
def worse_and_worse(monkeypatch):
    """The first epoch of every run is its best."""
    from ffdetect.training.lit import LitDetector

    def validate(self):
        self.seen.clear()
        self.log("val_auc", 0.9 - self.current_epoch / 2)

    monkeypatch.setattr(LitDetector, "on_validation_epoch_end", validate)


@pytest.mark.usefixtures("worse_and_worse")
def test_the_best_epoch_is_what_is_kept(faces_cache, tmp_path):
    out = tmp_path / "net.safetensors"
    assert run(faces_cache, out) == 0
    assert load_checkpoint(out).about["validation_auc"] == 0.9
    weights = load_file(out)["fusion.gate.weight"]
    best, last = (
        torch.load(out.with_suffix(".run") / file, weights_only=True)["state_dict"]
        for file in ("best.ckpt", "last.ckpt")
    )
    assert torch.equal(weights, best["network.fusion.gate.weight"].half())
    assert not torch.equal(weights, last["network.fusion.gate.weight"].half())


def test_the_same_seed_gives_the_same_weights(trained, faces_cache, tmp_path):
    out = tmp_path / "net.safetensors"
    assert run(faces_cache, out, "--match", "dfdc_swap=dfdc", "--share-blends", "0.3") == 0
    first, second = load_file(trained), load_file(out)
    for name, tensor in second.items():
        torch.testing.assert_close(first[name], tensor, rtol=1e-2, atol=1e-3)


def test_a_stopped_run_is_resumed(faces_cache, tmp_path, monkeypatch, capsys, keep_interrupts):
    from ffdetect.training.lit import LitDetector

    out, step, seen = tmp_path / "net.safetensors", LitDetector.training_step, []

    def stop_in_the_second_epoch(self, pairs, number):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(pairs)
        return step(self, pairs, number)

    with monkeypatch.context() as patch:
        patch.setattr(LitDetector, "training_step", stop_in_the_second_epoch)
        assert run(faces_cache, out) == 130
    assert "--resume goes on" in capsys.readouterr().err
    assert not out.exists()
    last = out.with_suffix(".run") / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 2
    resumed = []

    def count(self, pairs, number):
        resumed.append(pairs)
        return step(self, pairs, number)

    monkeypatch.setattr(LitDetector, "training_step", count)
    assert run(faces_cache, out, "--resume") == 0
    assert f"going on from {last}" in capsys.readouterr().out
    assert len(resumed) == 2  # the second epoch, and with the pairs it would have seen
    assert torch.equal(resumed[0], seen[2])
    assert torch.load(last, weights_only=True)["global_step"] == 4
    assert logged(out).dropna(subset="val_auc")["epoch"].tolist() == [0, 1]
    Detector.load(out, "cpu")


def test_going_on_from_weights_trains_them_in_training_mode(trained, faces_cache, tmp_path):
    """Also: --fit-all keeps the last epoch, and a fresh run replaces an old one's checkpoints."""
    out = tmp_path / "net.safetensors"
    stale = out.with_suffix(".run") / "last.ckpt"
    stale.parent.mkdir()
    stale.write_bytes(b"from an older run")
    more = ("--weights", str(trained), "--fit-all", "--epochs", "1", "--backbone", "resnet18")
    assert run(faces_cache, out, *more) == 0
    assert torch.load(stale, weights_only=True)["global_step"] == 2
    before, after = load_file(trained), load_file(out)
    counts = [name for name in after if name.endswith("num_batches_tracked")]
    assert counts and all(after[name] == before[name] + 2 for name in counts)
    about = load_checkpoint(out).about
    assert about["validation_auc"] is None and about["recipe"]["fit_all"] is True
    assert about["recipe"]["backbone"] == "test_resnet"  # of the weights
    assert not torch.equal(before["fusion.gate.weight"], after["fusion.gate.weight"])


def test_every_option_of_descent_reaches_the_training(trained, faces_cache, tmp_path, monkeypatch):
    from ffdetect.training.lit import LitDetector

    out, step, seen = tmp_path / "net.safetensors", LitDetector.training_step, []

    def watch(self, pairs, number):
        seen.append((self.objective, pairs.shape))
        return step(self, pairs, number)

    monkeypatch.setattr(LitDetector, "training_step", watch)
    more = [
        "--policy",
        "trivialaugment",
        "--balance",
        "equal",
        "--mix",
        "cutmix",
        "--focal-gamma",
        "2",
    ]
    more += ["--label-smoothing", "0.1", "--consistency", "0.5", "--layer-decay", "0.7"]
    more += ["--freeze", "1", "--ema", "0.5", "--weights", str(trained), "--epochs", "1"]
    assert run(faces_cache, out, *more) == 0
    aim = Objective(mix="cutmix", label_smoothing=0.1, focal_gamma=2.0, consistency=0.5)
    assert seen == [(aim, (2, 4, 3, 128, 128))] * 2
    before, after = load_file(trained), load_file(out)
    frozen = tuple(f"rgb.backbone.{name}" for name in ("conv1.", "bn1.", "layer1."))
    for name in after:
        if name.endswith("running_var"):
            assert torch.equal(before[name], after[name]) == name.startswith(frozen), name
    recipe = load_checkpoint(out).about["recipe"]
    assert recipe["policy"] == "trivialaugment" and recipe["balance"] == "equal"
    assert recipe["mix"] == "cutmix" and recipe["focal_gamma"] == 2 and recipe["freeze"] == 1
    state = torch.load(out.with_suffix(".run") / "last.ckpt", weights_only=True)
    assert "averaging_state" in state
    rates = {group["max_lr"] for group in state["optimizer_states"][0]["param_groups"]}
    # layer1 and what comes before it are frozen
    assert sorted(rates) == pytest.approx([*(0.2e-3 * 0.7**n for n in (2, 1, 0)), 1e-3])


def test_a_policy_is_the_same_for_both_of_a_pair(tmp_path, monkeypatch):
    crop = random_crops(1)[0].permute(1, 2, 0).numpy()
    rows = [
        {"crop": crop, "target": target, "split": split, "generator": str(target)}
        for target in (0, 1)
        for split in ("train", "dev")
    ]
    write_cache(tmp_path / "faces", rows)
    command = [str(tmp_path / "faces"), "--out", "x", "--residual", "npr"]
    command += ["--backbone", "test_resnet"]
    drawn = {}
    for policy in ("", "augmix", "randaugment"):
        more = ["--policy", policy] if policy else []
        drawn[policy] = train.prepare(train_options.make_parser().parse_args([*command, *more]))[2]
    monkeypatch.setattr(torch, "randn", lambda shape: torch.full(shape, 0.7))  # noise may differ
    for policy in ("augmix", "randaugment"):
        changed = 0
        for number in range(10):
            real, fake = drawn[policy][number]
            assert torch.equal(real, fake)
            changed += not torch.equal(real, drawn[""][number][0])
        assert changed >= 5


def test_resuming_with_other_options_is_refused(trained, faces_cache, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    shutil.copytree(trained.with_suffix(".run"), out.with_suffix(".run"))
    more = ["--match", "dfdc_swap=dfdc", "--share-blends", "0.3", "--resume"]
    assert run(faces_cache, out, *more, "--label-smoothing", "0.1") == 2
    message = capsys.readouterr().err
    assert "expected checkpoints of this command" in message
    assert "(label_smoothing: '0.1', not '0.0'); leave out --resume" in message


def test_resuming_with_another_network_is_refused(faces_cache, trained, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    last = out.with_suffix(".run") / "last.ckpt"
    last.parent.mkdir()
    last.write_bytes((trained.with_suffix(".run") / "last.ckpt").read_bytes())
    message = refused(capsys, faces_cache, out, "--resume", "--streams", "rgb")
    assert f"{last}: expected this run's network" in message


def test_left_out_generators_are_not_drawn_from_faces_or_pairs(tmp_path):
    names = [("ffhq", 0), ("gan", 1), ("sd", 1)]
    faces = [
        {"generator": name, "target": target, "split": split, "group": f"{name} {split}"}
        for name, target in names
        for split in ("train", "dev")
    ]
    write_cache(tmp_path / "faces", faces)
    pairs = [
        {
            "generator": kind if target else "ffhq",
            "target": target,
            "split": "train",
            "path": f"1@{kind}",
            "group": "ffhq train",
        }
        for kind in ("flux", "esrgan")
        for target in (0, 1)
    ]
    write_cache(tmp_path / "pairs", pairs)
    command = [str(tmp_path / "faces"), "--out", str(tmp_path / "net.safetensors")]
    command += ["--backbone", "test_resnet", "--share-regenerated", ".5"]
    command += ["--regenerated", str(tmp_path / "pairs")]
    cases = {
        "": ({"ffhq": 1, "gan": 1, "sd": 1}, 6, [(0, 1), (2, 3)]),
        "--without gan,flux": ({"ffhq": 1, "sd": 1}, 4, [(2, 3)]),
        "--without gan --without esrgan": ({"ffhq": 1, "sd": 1}, 4, [(0, 1)]),
        "--fit-fakes --without sd": ({"ffhq": 1, "gan": 2}, 4, [(0, 1), (2, 3)]),
        "--fit-all --without sd,flux": ({"ffhq": 2, "gan": 2}, 4, [(2, 3)]),
    }
    for more, (counts, known, pairs) in cases.items():
        args = train_options.make_parser().parse_args([*command, *more.split()])
        _, _, drawn, val, _ = train.prepare(args)
        assert drawn.counts == counts and drawn.reals.pairs == pairs, more
        assert len(val) == known // 2, more


@pytest.mark.usefixtures("worse_and_worse")
def test_what_trained_on_held_out_fakes_keeps_the_last_epoch(faces_cache, tmp_path):
    out = tmp_path / "net.safetensors"
    assert run(faces_cache, out, "--fit-fakes", "--without", "dfdc_swap") == 0
    about = load_checkpoint(out).about
    assert about["data"] == {"dfdc": 2, "ffhq": 2, "gan": 2} and about["validation_auc"] is None
    assert about["recipe"]["fit_fakes"] and about["recipe"]["without"] == ["dfdc_swap"]
    last = torch.load(out.with_suffix(".run") / "last.ckpt", weights_only=True)["state_dict"]
    weights = load_file(out)["fusion.gate.weight"]
    assert torch.equal(weights, last["network.fusion.gate.weight"].half())


def test_every_share_reaches_the_mix():
    command = ["faces", "--out", "x.safetensors", "--match", "swap=dfdc", "--balance", "equal"]
    made = {"regenerated": 0.1, "blends": 0.15, "made_swaps": 0.25, "regions": 0.05}
    assert made.keys() == SOURCES.keys()
    for name, share in made.items():
        command += ["--share-" + name.replace("_", "-"), str(share)]
    mix = train_options.mix_of(train_options.make_parser().parse_args(command))
    assert mix == Mix(made, {"swap": ("dfdc",)}, "equal")


def test_a_folded_backbone_is_marked_as_such(faces_cache, tmp_path):
    """Its batch norms must stay as they are when the weights are loaded again."""
    import timm

    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    save_file(state, tmp_path / "folded.safetensors")  # running statistics of a new network: 0, 1
    args = train_options.make_parser().parse_args(
        [
            str(faces_cache),
            "--out",
            "x",
            "--backbone",
            "test_resnet",
            "--init",
            str(tmp_path / "folded.safetensors"),
        ]
    )
    network = train.build_network(args, CacheReader(faces_cache))
    assert network.settings.frozen_norms
    assert torch.equal(network.rgb.backbone.bn1.weight, state["bn1.weight"])
