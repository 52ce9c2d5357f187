"""The training command from a cache to a weights file; few runs, each of a few steps."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from ffdetect.models.registry import create_network
from ffdetect.models.weights import load_checkpoint, save_checkpoint
from ffdetect.scoring.detector import Detector
from ffdetect.training import train, train_options
from ffdetect.training.losses import Objective
from preprocess.cache.reader import CacheReader
from preprocess.io.alone import alone
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
        self._seen.clear()
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
        seen.append(pairs.crops)
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
        resumed.append(pairs.crops)
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
        seen.append((self.objective, pairs.crops.shape))
        return step(self, pairs, number)

    monkeypatch.setattr(LitDetector, "training_step", watch)
    more = ["--policy", "trivialaugment", "--balance", "equal", "--mix", "cutmix", "--hard", "2"]
    more += ["--label-smoothing", "0.1", "--consistency", "0.5", "--layer-decay", "0.7"]
    more += ["--freeze", "1", "--ema", "0.5", "--weights", str(trained), "--epochs", "1"]
    assert run(faces_cache, out, *more) == 0
    aim = Objective(mix="cutmix", label_smoothing=0.1, focus=2.0, consistency=0.5)
    assert seen == [(aim, (2, 4, 3, 128, 128))] * 2
    before, after = load_file(trained), load_file(out)
    frozen = tuple(f"rgb.backbone.{name}" for name in ("conv1.", "bn1.", "layer1."))
    for name in after:
        if name.endswith("running_var"):
            assert torch.equal(before[name], after[name]) == name.startswith(frozen), name
    recipe = load_checkpoint(out).about["recipe"]
    assert recipe["policy"] == "trivialaugment" and recipe["balance"] == "equal"
    assert recipe["mix"] == "cutmix" and recipe["hard"] == 2 and recipe["freeze"] == 1
    state = torch.load(out.with_suffix(".run") / "last.ckpt", weights_only=True)
    assert "averaging_state" in state
    rates = [group["max_lr"] for group in state["optimizer_states"][0]["param_groups"]]
    # layer1 and what comes before it are frozen
    assert rates == pytest.approx([1e-3, *(0.2e-3 * 0.7**n for n in (2, 1, 0))])


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
        drawn[policy] = train._prepare(train_options.make_parser().parse_args([*command, *more]))[2]
    monkeypatch.setattr(torch, "randn", lambda shape: torch.full(shape, 0.7))  # noise may differ
    for policy in ("augmix", "randaugment"):
        changed = 0
        for number in range(10):
            real, fake = drawn[policy][number].crops
            assert torch.equal(real, fake)
            changed += not torch.equal(real, drawn[""][number].crops[0])
        assert changed >= 5


def test_resuming_with_other_options_is_refused(trained, faces_cache, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    shutil.copytree(trained.with_suffix(".run"), out.with_suffix(".run"))
    more = ["--match", "dfdc_swap=dfdc", "--share-blends", "0.3", "--resume"]
    assert run(faces_cache, out, *more, "--label-smoothing", "0.1") == 2
    message = capsys.readouterr().err
    assert "expected checkpoints of this command" in message
    assert "(label_smoothing: '0.1', not '0.0'); leave out --resume" in message


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, file) -> None:
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def test_a_checkpoint_that_would_run_code_is_refused(faces_cache, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    last = out.with_suffix(".run") / "last.ckpt"
    last.parent.mkdir()
    torch.save({"state_dict": {}, "trap": Trap(tmp_path / "sprung")}, last)
    message = refused(capsys, faces_cache, out, "--resume")
    assert f"{last}: expected a checkpoint of this command" in message
    assert not (tmp_path / "sprung").exists() and not out.exists()


def test_resuming_with_another_network_is_refused(faces_cache, trained, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    last = out.with_suffix(".run") / "last.ckpt"
    last.parent.mkdir()
    last.write_bytes((trained.with_suffix(".run") / "last.ckpt").read_bytes())
    message = refused(capsys, faces_cache, out, "--resume", "--streams", "rgb")
    assert f"{last}: expected this run's network" in message


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--backbone", "resnet19"], "expected a timm model but got 'resnet19'"),
        (["--window", "160"], "expected windows of 128 to 128 px but got 160"),
        (["--window", "100"], "expected windows of 128 to 128 px but got 100"),
        (["--match", "dfdc_swap"], "expected --match FAKE=REAL.* but got 'dfdc_swap'"),
        (["--match", "gan=unsplash"], "expected reals of .*unsplash.* for gan but found none"),
        (["--share-twins", "0.5"], "expected a cache of re-generated pairs"),
        (["--share-blends", "1.5"], "expected shares .* blends 1.5"),
        (["--without", "gan,sora"], r"expected --without among .*'gan'.* but got \['sora'\]"),
        (["--twins", "nowhere"], "nowhere: expected a cache"),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors: expected a weights file"),
        (["--init", "nowhere.safetensors"], "nowhere.safetensors: expected a weights file"),
        (["--batch", "1"], "expected --batch of at least 2 but got 1"),
        (["--steps", "0"], "expected --steps of at least 1 but got 0"),
        (["--epochs", "0"], "expected --epochs of at least 1 but got 0"),
        (["--val-limit", "0"], "expected --val-limit of at least 1 but got 0"),
        (["--device", "quantum"], "expected a device .* but got 'quantum'"),
        (["--label-smoothing", "1"], "expected label smoothing .* below 1 but got 1.0"),
        (["--hard", "0.5"], "expected a focal exponent of 0 or at least 1 but got 0.5"),
        (["--consistency", "-1"], "expected a weight of consistency .* but got -1.0"),
        (["--ema", "1"], "expected --ema of at least 0 and below 1 but got 1.0"),
        (["--layer-decay", "0"], "expected --layer-decay above 0 and at most 1 but got 0.0"),
        (
            ["--layer-decay", "0.7", "--streams", "frequency"],
            "expected a backbone but got streams 'frequency'",
        ),
        (
            ["--init", "nowhere.safetensors", "--streams", "frequency"],
            "expected a backbone but got streams 'frequency'",
        ),
        (["--freeze", "1"], "expected --init or --weights: --freeze would keep random weights"),
    ],
)
def test_wrong_arguments_end_with_a_message(faces_cache, tmp_path, capsys, more, message):
    err = refused(capsys, faces_cache, tmp_path / "net.safetensors", *more)
    assert re.search(message, err), err
    assert not (tmp_path / "net.run").exists()


def test_a_wrong_cache_ends_with_a_message(tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    assert "expected a cache but" in refused(capsys, tmp_path / "nowhere", out)
    write_cache(tmp_path / "empty", [])
    assert "faces to validate on but got 0" in refused(capsys, tmp_path / "empty", out)
    train_only = [{"target": i % 2, "split": "train", "group": "one"} for i in range(4)]
    write_cache(tmp_path / "train", train_only)
    assert "to validate on" in refused(capsys, tmp_path / "train", out)
    one_sided = [*train_only, {"target": 0, "split": "dev"}]
    write_cache(tmp_path / "sided", one_sided)
    assert "real and fake faces to validate on" in refused(capsys, tmp_path / "sided", out)


def test_left_out_generators_are_not_drawn_from_faces_or_twins(tmp_path):
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
    write_cache(tmp_path / "twins", pairs)
    command = [str(tmp_path / "faces"), "--out", str(tmp_path / "net.safetensors")]
    command += ["--backbone", "test_resnet", "--share-twins", ".5"]
    command += ["--twins", str(tmp_path / "twins")]
    cases = {
        "": ({"ffhq": 1, "gan": 1, "sd": 1}, 6, [(0, 1), (2, 3)]),
        "--without gan,flux": ({"ffhq": 1, "sd": 1}, 4, [(2, 3)]),
        "--without gan --without esrgan": ({"ffhq": 1, "sd": 1}, 4, [(0, 1)]),
        "--fit-fakes --without sd": ({"ffhq": 1, "gan": 2}, 4, [(0, 1), (2, 3)]),
        "--fit-all --without sd,flux": ({"ffhq": 2, "gan": 2}, 4, [(2, 3)]),
    }
    for more, (counts, known, twins) in cases.items():
        args = train_options.make_parser().parse_args([*command, *more.split()])
        _, _, drawn, val, _ = train._prepare(args)
        assert drawn.counts == counts and drawn._pairs == twins, more
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
    command = ["faces", "--out", "x.safetensors", "--swaps", "dfdc_swap", "--share-twins", "0.1"]
    command += ["--share-blends", "0.15", "--share-swaps", "0.2", "--share-made-swaps", "0.25"]
    mix = train_options.mix_of(
        train_options.make_parser().parse_args([*command, "--share-regions", "0.05"])
    )
    assert (mix.twins, mix.blends, mix.swaps) == (0.1, 0.15, 0.2)
    assert (mix.made_swaps, mix.regions) == (0.25, 0.05)


def test_options_are_read_with_their_defaults():
    options = train_options.read_options(["faces", "--out", "x.safetensors", "--rate", "0.5"])
    assert options["rate"] == 0.5 and options["seed"] == 0 and options["without"] == []


def test_twins_of_other_crops_are_refused(faces_cache, tmp_path, capsys):
    write_cache(tmp_path / "twins", [{"target": 0}, {"target": 1}], size=160)
    err = refused(
        capsys, faces_cache, tmp_path / "net.safetensors", "--twins", str(tmp_path / "twins")
    )
    assert "expected pairs cut out as in" in err and str(tmp_path / "twins") in err


def test_weights_of_other_crops_are_refused_naming_both(
    faces_cache, tiny_weights, tmp_path, capsys
):
    err = refused(capsys, faces_cache, tmp_path / "n.safetensors", "--weights", str(tiny_weights))
    assert str(tiny_weights) in err and "size=256" in err and "size=128" in err


def test_weights_that_were_solved_do_not_go_on_by_descent(faces_cache, tmp_path, capsys):
    settings = {"design": "dual_stream", "rgb": ["lite_rgb"], "frequency": ["lite_residual"]}
    file, crop = tmp_path / "solved.safetensors", CacheReader(faces_cache).settings.crop
    save_checkpoint(file, create_network(settings), crop, {}, half=False)
    err = refused(capsys, faces_cache, tmp_path / "n.safetensors", "--weights", str(file))
    assert f"{file}: expected a network that learns by descent" in err and "dual_stream" in err


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
    network = train._network(args, CacheReader(faces_cache))
    assert network.settings.frozen_norms
    assert torch.equal(network.rgb.backbone.bn1.weight, state["bn1.weight"])


def test_a_training_that_diverged_writes_no_weights(faces_cache, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    assert run(faces_cache, out, "--rate", "1e30") == 1
    assert "the training diverged, a lower --rate may help" in capsys.readouterr().err
    assert not out.exists()


def test_what_cannot_be_written_ends_with_a_message(faces_cache, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(faces_cache, tmp_path / "file" / "net.safetensors") == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'file'}")
    out = tmp_path / "net.safetensors"
    with alone(out):
        assert run(faces_cache, out) == 1
    assert f"error: {out}: another run is writing it" in capsys.readouterr().err
    resource = pytest.importorskip("resource", reason="needs limits on the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # as a full disk
    try:
        assert run(faces_cache, out, "--epochs", "1") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "error: " in capsys.readouterr().err and not out.exists()


def test_limited_validation_is_spread_over_each_generator(faces_cache):
    reader = CacheReader(faces_cache)
    rows = train._limit(reader, np.arange(len(reader)), 2)
    assert reader.metadata["generator"].iloc[rows].value_counts().unique().tolist() == [2]
    assert rows.tolist() == sorted(rows) and len(rows) == 8
    names = reader.metadata["generator"].to_numpy()
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        assert {own[0], own[-1]} <= set(rows)
