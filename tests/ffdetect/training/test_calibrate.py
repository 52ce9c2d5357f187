"""The calibrate command: what it measures, what it writes, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ffdetect.evaluation.metrics import auc
from ffdetect.evaluation.thresholds import threshold_over_units
from ffdetect.models.weights import load_checkpoint, save_checkpoint
from ffdetect.scoring.detector import Detector
from ffdetect.training.calibrate import kinds, main
from preprocess.faces.face import CropSettings
from tests.ffdetect.helpers import random_crops, tiny_network, write_cache

COUNT = 60


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights for crops of 128 px."""
    file = tmp_path_factory.mktemp("calibrate") / "tiny.safetensors"
    save_checkpoint(file, tiny_network(size=128), CropSettings(size=128), {"seed": 0})
    return file


@pytest.fixture(scope="module")
def logits(weights):
    """What the network says of the crops of `cache`, float64 N."""
    crops = random_crops(COUNT)
    return Detector.load(weights, "cpu").crop_logits(crops)[0].double().numpy()


@pytest.fixture(scope="module")
def rows(logits):
    """Rows of a cache: what scores high tends to be fake; the first ten are of the train split."""
    rng = np.random.default_rng(0)
    target = (rng.random(COUNT) < expit(2 * (logits - np.median(logits)))).astype(int)
    target[:2] = 0, 1
    crops = random_crops(COUNT).permute(0, 2, 3, 1).numpy()
    names = (("ffhq", "dfdc"), ("gan", "swap"))
    return [
        {
            "target": int(t),
            "generator": names[t][i % 2],
            "group": f"g{i // 2}",
            "crop": crop,
            "split": "train" if i < 10 else "dev",
        }
        for i, (t, crop) in enumerate(zip(target, crops, strict=True))
    ]


@pytest.fixture(scope="module")
def cache(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate") / "cache"
    write_cache(folder, [*rows, {**rows[0], "key": "x", "path": "x", "target": -1}])
    return folder


@pytest.fixture
def run(weights, cache, tmp_path):
    """Runs the command and gives its exit status; the weights are written to out.safetensors."""

    def command(*more: str, weights=weights, cache=cache, out=tmp_path / "out.safetensors") -> int:
        return main([str(weights), str(cache), "--out", str(out), "--device", "cpu", *more])

    return command


def platt(target, logits):
    """Temperature and bias by scikit-learn, both classes the same weight, plain targets."""
    x = (logits - logits.mean()) / logits.std()
    model = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-9)
    model.fit(x[:, None], target)
    slope = model.coef_[0, 0] / logits.std()
    return 1 / slope, model.intercept_[0] - slope * logits.mean()


@pytest.mark.parametrize("every", [False, True])
def test_validation_rows_are_measured_unless_all_are_asked_for(
    run, rows, logits, tmp_path, capsys, every
):
    assert run(*["--all"] * every) == 0
    used = slice(0 if every else 10, COUNT)
    target = np.array([row["target"] for row in rows])[used]
    found = load_checkpoint(tmp_path / "out.safetensors").calibration
    assert (found.reals, found.fakes) == ((target == 0).sum(), (target == 1).sum())
    names = pd.Series([row["generator"] for row in rows])[used].value_counts()
    assert found.sources == names.to_dict()
    temperature, bias = platt(target, logits[used])
    # Platt's softer targets count with so few faces; test_calibration compares exactly.
    assert found.temperature == pytest.approx(temperature, rel=0.3)
    assert found.bias == pytest.approx(bias, abs=0.3)
    score = expit(logits[used] / found.temperature + found.bias)[target == 0]
    source = np.array([row["generator"] for row in rows])[used][target == 0]
    for fpr, threshold in found.thresholds.items():
        expected = threshold_over_units(score.astype(np.float32), source, fpr)
        assert threshold == pytest.approx(expected, abs=1e-5)
    assert found.thresholds[0.001] == pytest.approx(score.max(), abs=1e-5)
    fakes = expit(logits[used] / found.temperature + found.bias)[target == 1]
    assert (fakes <= found.real_threshold).mean() <= 0.15
    out = capsys.readouterr().out
    assert f"{found.reals} real, {found.fakes} fake" in out
    assert f"temperature  {found.temperature:.4f}" in out
    assert "(fitted on other groups)" in out and "mean score 0." in out


def test_only_the_metadata_changes(run, weights, tmp_path):
    assert run() == 0
    out = tmp_path / "out.safetensors"
    settings = []
    for file in (weights, out):
        with safe_open(file, "pt") as opened:
            settings.append(json.loads(opened.metadata()["ffdetect"]))
    assert settings[1].pop("calibration")["date"]
    assert settings[0] == settings[1]
    before, after = load_file(weights), load_file(out)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_calibrated_scores_keep_their_order_and_flag_as_few_as_promised(run, rows, tmp_path):
    assert run() == 0
    crops, target = random_crops(COUNT)[10:], np.array([row["target"] for row in rows])[10:]
    detector = Detector.load(tmp_path / "out.safetensors", "cpu")
    score = detector.score_crops(crops)
    found = detector.calibration
    logits = detector.crop_logits(crops)[0].double().numpy()
    np.testing.assert_allclose(score, expit(logits / found.temperature + found.bias), atol=1e-5)
    assert auc(target, score) == pytest.approx(auc(target, logits), abs=1e-9)
    for fpr, threshold in detector.thresholds.items():
        assert (score[target == 0] >= threshold).mean() <= fpr


def test_weights_may_be_calibrated_again_in_place(run, tmp_path):
    out = tmp_path / "out.safetensors"
    assert run() == 0
    first = load_checkpoint(out).calibration
    assert run(weights=out, out=out) == 0
    assert load_checkpoint(out).calibration == first


def test_few_reals_are_told(run, capsys):
    assert run() == 0
    assert "warning: expected at least 999 real faces" in capsys.readouterr().err


def test_weights_that_were_trained_on_everything_are_told(run, tmp_path, capsys):
    file = tmp_path / "all.safetensors"
    about = {"recipe": {"fit_all": True}}
    save_checkpoint(file, tiny_network(size=128), CropSettings(size=128), about)
    assert run(weights=file) == 0
    assert f"warning: {file} was trained with --fit-all" in capsys.readouterr().err


def test_another_network_may_judge_for_one_that_saw_the_faces(run, weights, tmp_path, capsys):
    file, out = tmp_path / "all.safetensors", tmp_path / "out.safetensors"
    about = {"recipe": {"fit_all": True}}
    save_checkpoint(file, tiny_network(seed=1, size=128), CropSettings(size=128), about)
    assert run() == 0
    judged = load_checkpoint(out).calibration
    capsys.readouterr()
    assert run("--judge", str(weights), weights=file) == 0
    assert load_checkpoint(out).calibration == judged
    own, kept = (load_checkpoint(f).network.state_dict() for f in (out, file))
    assert all(torch.equal(own[name], kept[name]) for name in kept)
    assert "--fit-all" not in capsys.readouterr().err


def test_a_judge_of_other_settings_is_refused(run, weights, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, tiny_network(size=128), CropSettings(size=128, margin=0.3), {})
    message = refuse(run, capsys, more=["--judge", str(other)])
    assert f"{other}: expected the settings of {weights}" in message and "crop.margin" in message


def test_matches_decide_what_weighs_the_same(run, tmp_path):
    found = []
    for more in ([], ["--match", "swap=dfdc"]):
        assert run(*more) == 0
        found.append(load_checkpoint(tmp_path / "out.safetensors").calibration)
    assert found[0].temperature != found[1].temperature
    assert (found[0].reals, found[0].fakes) == (found[1].reals, found[1].fakes)


def test_kinds_are_those_of_the_matches():
    faces = pd.DataFrame({"generator": ["swap", "dfdc", "gan", "ffhq", "x"]})
    matches = {"swap": ("dfdc",), "gan": ("ffhq", "x")}
    assert kinds(faces, matches).tolist() == ["dfdc", "dfdc", "ffhq,x", "ffhq,x", "ffhq,x"]
    assert kinds(faces, {}).tolist() == [""] * 5
    with pytest.raises(ValueError, match="expected dfdc in one --match"):
        kinds(faces, {"swap": ("dfdc",), "gan": ("dfdc", "x")})
    with pytest.raises(ValueError, match="expected faces of nobody for --match but found none"):
        kinds(faces, {"swap": ("nobody",)})


def test_faces_of_one_group_leave_the_error_unknown(run, rows, tmp_path, capsys):
    folder = tmp_path / "one"
    write_cache(folder, [{**row, "group": "one", "split": "dev"} for row in rows])
    assert run(cache=folder) == 0
    assert "ECE after    not known: too few groups" in capsys.readouterr().out


def refuse(run, capsys, **options) -> str:
    with pytest.raises(SystemExit) as caught:
        run(*options.pop("more", ()), **options)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_one_class_alone_is_refused(run, rows, tmp_path, capsys):
    write_cache(tmp_path / "reals", [row for row in rows if not row["target"]])
    message = refuse(run, capsys, cache=tmp_path / "reals")
    assert f"{tmp_path / 'reals'}: expected real and fake faces" in message
    assert not (tmp_path / "out.safetensors").exists()


def test_scores_that_tell_nothing_are_refused(run, rows, tmp_path, capsys):
    write_cache(tmp_path / "turned", [{**row, "target": 1 - row["target"]} for row in rows])
    message = refuse(run, capsys, cache=tmp_path / "turned")
    assert "expected fakes to score above reals" in message


def test_bad_files_and_arguments_are_refused_by_name(run, tiny_weights, tmp_path, capsys):
    assert "nothing: expected a cache" in refuse(run, capsys, cache=tmp_path / "nothing")
    missing = tmp_path / "none.safetensors"
    assert f"{missing}: expected a weights file" in refuse(run, capsys, weights=missing)
    assert "size: 256, not 128" in refuse(run, capsys, weights=tiny_weights)
    assert "expected --match FAKE=REAL" in refuse(run, capsys, more=["--match", "swap"])
    (tmp_path / "file").touch()
    assert "cannot be written" in refuse(run, capsys, out=tmp_path / "file" / "out.safetensors")


def test_weights_that_could_not_be_written(run, tmp_path, full_disk, capsys):
    full_disk(10_000)
    assert run() == 1
    assert "out.safetensors: cannot be written: File too large" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_a_stopped_run_writes_nothing(run, tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Detector, "crop_logits", stop)
    assert run() == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))
