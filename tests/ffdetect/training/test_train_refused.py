"""What the training command refuses, and how it says so."""

from __future__ import annotations

import re
import shutil

import pytest
import torch

from ffdetect.models.registry import create_network
from ffdetect.models.weights import save_checkpoint
from ffdetect.training import calibrate, train
from preprocess.cache.reader import CacheReader
from preprocess.io.alone import alone
from tests.ffdetect.helpers import write_cache

from .test_train import refused, run

pytest.importorskip("lightning", reason="training needs the [train] extra")


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


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--backbone", "resnet19"], "expected a timm model but got 'resnet19'"),
        (["--window", "160"], "expected windows of 128 to 128 px but got 160"),
        (["--window", "100"], "expected windows of 128 to 128 px but got 100"),
        (["--match", "dfdc_swap"], "expected --match FAKE=REAL.* but got 'dfdc_swap'"),
        (["--match", "gan=unsplash"], "expected reals of .*unsplash.* for gan but found none"),
        (["--share-regenerated", "0.5"], "expected a cache of regenerated pairs"),
        (["--share-blends", "1.5"], "expected shares .* blends 1.5"),
        (["--without", "gan,sora"], r"expected --without among .*'gan'.* but got \['sora'\]"),
        (["--regenerated", "nowhere"], "nowhere: expected a cache"),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors: expected a weights file"),
        (["--init", "nowhere.safetensors"], "nowhere.safetensors: expected a weights file"),
        (["--batch", "1"], "expected --batch of at least 2 but got 1"),
        (["--steps", "0"], "expected --steps of at least 1 but got 0"),
        (["--epochs", "0"], "expected --epochs of at least 1 but got 0"),
        (["--val-limit", "0"], "expected --val-limit of at least 1 but got 0"),
        (["--device", "quantum"], "expected a device .* but got 'quantum'"),
        (["--label-smoothing", "1"], "expected label smoothing .* below 1 but got 1.0"),
        (["--focal-gamma", "0.5"], "expected a focal exponent of 0 or at least 1 but got 0.5"),
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


def test_reals_to_validate_on_must_be_of_the_kind_that_matches_ask_for(tmp_path, capsys):
    kinds = [("train", 0, "ffhq"), ("train", 0, "dfdc"), ("train", 1, "dfdc_swap")]
    kinds += [("dev", 0, "ffhq"), ("dev", 1, "dfdc_swap")]
    rows = [{"split": s, "target": t, "generator": g, "group": f"{s}{g}"} for s, t, g in kinds]
    write_cache(tmp_path / "cache", rows)
    match = ("--match", "dfdc_swap=dfdc")
    err = refused(capsys, tmp_path / "cache", tmp_path / "net.safetensors", *match)
    assert "expected reals to validate on that --match allows but got none" in err


def test_pairs_of_other_crops_are_refused(faces_cache, tmp_path, capsys):
    write_cache(tmp_path / "pairs", [{"target": 0}, {"target": 1}], size=160)
    err = refused(
        capsys, faces_cache, tmp_path / "net.safetensors", "--regenerated", str(tmp_path / "pairs")
    )
    assert "expected pairs cut out as in" in err and str(tmp_path / "pairs") in err


def test_weights_of_other_crops_are_refused_naming_both(
    faces_cache, tiny_weights, tmp_path, capsys
):
    err = refused(capsys, faces_cache, tmp_path / "n.safetensors", "--weights", str(tiny_weights))
    assert str(tiny_weights) in err and "size=256" in err and "size=128" in err


def test_weights_that_were_solved_do_not_go_on_by_descent(faces_cache, tmp_path, capsys):
    kinds = {"generated": {"rgb": ["lite_rgb"], "frequency": ["lite_residual"]}}
    settings = {"design": "dual_stream", "kinds": kinds}
    file, crop = tmp_path / "solved.safetensors", CacheReader(faces_cache).settings.crop
    save_checkpoint(file, create_network(settings), crop, {}, half=False)
    err = refused(capsys, faces_cache, tmp_path / "n.safetensors", "--weights", str(file))
    assert f"{file}: expected a network that learns by descent" in err and "dual_stream" in err


def test_a_training_that_diverged_writes_no_weights(faces_cache, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    assert run(faces_cache, out, "--rate", "1e30") == 1
    assert "the training diverged, a lower --rate may help" in capsys.readouterr().err
    assert not out.exists()


def test_what_cannot_be_written_ends_with_a_message(faces_cache, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        run(faces_cache, tmp_path / "file" / "net.safetensors")
    assert ended.value.code == 2
    assert f"{tmp_path / 'file'} is no folder" in capsys.readouterr().err
    out = tmp_path / "net.safetensors"
    last = out.with_suffix(".run") / "last.ckpt"
    with alone(last):
        assert run(faces_cache, out) == 1
    assert f"error: {last}: expected no other run but one trains" in capsys.readouterr().err
    resource = pytest.importorskip("resource", reason="needs limits on the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # as a full disk
    try:
        assert run(faces_cache, out, "--epochs", "1") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "error: " in capsys.readouterr().err and not out.exists()


def test_weights_are_not_written_over_a_cache(faces_cache, tiny_weights, tmp_path, capsys):
    cache = tmp_path / "cache"
    shutil.copytree(faces_cache, cache)
    for command, arguments in ((train, [cache]), (calibrate, [tiny_weights, cache])):
        for name in ("cache.json", "part-00000.arrow"):
            before = (cache / name).read_bytes()
            with pytest.raises(SystemExit, match="2"):
                command.main([*map(str, arguments), "--out", str(cache / name)])
            assert "expected a file for --out that nothing else uses" in capsys.readouterr().err
            assert (cache / name).read_bytes() == before
