"""The challenge recipe and weights files, judged on the same faces."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from benchmarks import baselines, challenge_recipe
from benchmarks.baselines import chosen_rows, main
from ffdetect.evaluation.framing import MATCHED
from ffdetect.models.weights import load_checkpoint, save_checkpoint
from ffdetect.scoring.detector import Detector

from ..ffdetect.helpers import random_crops, tiny_network, write_cache

pytestmark = pytest.mark.usefixtures("few_rounds")


@pytest.fixture(scope="module")
def weights(generated, tmp_path_factory):
    """Makes a weights file for the faces of `generated` that tells the given story."""
    folder = tmp_path_factory.mktemp("weights")

    def make(name: str, **about):
        file = folder / f"{name}.safetensors"
        network = tiny_network(seed=len(name), size=128)
        save_checkpoint(file, network, generated.settings.crop, about)
        return file

    return make


def command(generated, folder, *more: str) -> list[str]:
    own = [str(generated.paths[0]), "--kept", str(folder / "kept"), "--out", str(folder / "out")]
    return [*own, "--workers", "0", "--device", "cpu", *more]


def kept_scores(folder, way: str) -> np.ndarray:
    (file,) = (folder / "kept").glob(f"baseline-{way}-" + "?" * 20 + ".npz")
    return np.load(file)["array"]


def refused(capsys, args) -> str:
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    return capsys.readouterr().err


def all_scored(*_):
    raise ValueError("all are scored")


def test_all_ways_are_judged_on_the_same_faces(generated, weights, tmp_path, capsys, monkeypatch):
    more = ["--models", "test_resnet", "--weights", f"rgb={weights('a')}"]
    more += ["--weights", f"fusion={weights('bb')}", "--pair", "fusion,rgb"]
    assert main(command(generated, tmp_path, *more, "--pair", "rgb,test_resnet")) == 0
    values = json.loads((tmp_path / "out.json").read_text())
    assert list(values["ways"]) == ["test_resnet", "rgb", "fusion"]
    assert values["protocol"] == MATCHED and values["command"].endswith("--pair rgb,test_resnet")
    faces, means = generated.metadata, {}
    for name, way in values["ways"].items():
        rows = np.flatnonzero(faces["split"] == "dev")
        scores = dict(zip(rows, kept_scores(tmp_path, name), strict=True))
        kinds = {"dfdc_swap": "dfdc", "sd21": "ffhq", "sdxl": "ffhq"}
        assert [result["generator"] for result in way["results"]] == list(kinds)
        for result, (fake, real) in zip(way["results"], kinds.items(), strict=True):
            own = [row for row in rows if faces["generator"].iat[row] in (fake, real)]
            auc = roc_auc_score(faces["target"].iloc[own], [scores[row] for row in own])
            assert result["auc"]["value"] == pytest.approx(auc)
        means[name] = np.mean([result["auc"]["value"] for result in way["results"]])
        assert way["mean"]["value"] == pytest.approx(means[name])
        assert way["mean"]["low"] <= way["mean"]["value"] <= way["mean"]["high"]
    pairs = [(d["way"], d["than"]) for d in values["differences"]]
    assert pairs == [("fusion", "rgb"), ("rgb", "test_resnet")]
    for difference in values["differences"]:
        expected = means[difference["way"]] - means[difference["than"]]
        assert difference["auc"]["value"] == pytest.approx(expected)
    rows = np.flatnonzero(faces["split"] == "dev")
    scores = Detector.load(weights("a"), "cpu").score_crops(generated.crops(rows))
    kept = kept_scores(tmp_path, "rgb")
    np.testing.assert_allclose(kept, scores, atol=1e-4)
    text = (tmp_path / "out.md").read_text()
    assert text.strip() in capsys.readouterr().out and "raw" not in text
    assert "challenge recipe, from random weights, 1 epoch" in text
    assert f"| fusion minus rgb | {means['fusion'] - means['rgb']:+.3f} [" in text
    # What is kept is not made again, and not taken for a longer training.
    monkeypatch.setattr(challenge_recipe, "train_and_score", None)
    monkeypatch.setattr(Detector, "score_cache", None)
    monkeypatch.setattr(baselines, "measure", all_scored)
    assert "all are scored" in refused(capsys, command(generated, tmp_path, *more))
    with pytest.raises(TypeError, match="not callable"):
        main(command(generated, tmp_path, *more, "--epochs", "2"))


def test_streams_of_weights_are_ways_of_their_own(generated, weights, tmp_path):
    more = ["--models", "", "--weights", f"x={weights('x')}", "--streams", "x", "--pair", "x,x-rgb"]
    assert main(command(generated, tmp_path, *more)) == 0
    values = json.loads((tmp_path / "out.json").read_text())
    assert list(values["ways"]) == ["x", "x-rgb", "x-frequency"]
    rows = np.flatnonzero(generated.metadata["split"] == "dev")
    network = load_checkpoint(weights("x")).network
    with torch.inference_mode():
        logits = network.stream_logits(generated.crops(rows))
    for name, logit in (("x-rgb", logits.rgb), ("x-frequency", logits.frequency)):
        kept = kept_scores(tmp_path, name)
        np.testing.assert_allclose(kept, logit.sigmoid().numpy(), atol=1e-5)


def test_rows_of_the_train_split_or_of_all_but_what_is_left_out(generated):
    faces = generated.metadata
    train, test = chosen_rows(faces, [])
    assert set(faces["split"].iloc[train]) == {"train"}
    assert set(faces["split"].iloc[test]) == {"dev"}
    train, test = chosen_rows(faces, ["sdxl", "pggan"])
    counts = faces.iloc[train].groupby(["generator", "split"]).size().to_dict()
    assert counts == {
        ("ffhq", "train"): 6,
        ("dfdc", "train"): 6,
        ("dfdc_swap", "train"): 6,
        ("sd21", "dev"): 6,
    }
    counts = faces.iloc[test].groupby(["generator", "split"]).size().to_dict()
    assert counts == {
        ("ffhq", "dev"): 6,
        ("dfdc", "dev"): 6,
        ("sdxl", "dev"): 6,
        ("pggan", "train"): 6,
    }
    with pytest.raises(ValueError, match=r"expected --without among .* but got \['ffhq'\]"):
        chosen_rows(faces, ["sdxl", "ffhq"])
    with pytest.raises(ValueError, match="expected real and fake faces to test on but got 12"):
        chosen_rows(faces[(faces["split"] == "train") | (faces["target"] == 0)], [])


def test_the_recipe_learns_what_is_plain_to_see(tmp_path):
    """Dark against bright, on faces it did not train on; the same seed gives the same scores."""
    crops = random_crops(40).permute(0, 2, 3, 1).numpy()
    rows = [{"target": i % 2, "crop": crop // 4 + 160 * (i % 2)} for i, crop in enumerate(crops)]
    reader = write_cache(tmp_path / "c", rows)

    def scores(faces: int, test: list[int]) -> np.ndarray:
        classifier = challenge_recipe.create_classifier("test_resnet")
        return challenge_recipe.train_and_score(
            classifier, reader, np.arange(faces), np.array(test), epochs=2, batch=4, workers=0
        )

    got = scores(24, [39, 24, 26, 37, 30, 31])
    assert got.dtype == np.float32 and ((got >= 0) & (got <= 1)).all()
    assert roc_auc_score([1, 0, 0, 1, 0, 1], got) == 1
    np.testing.assert_array_equal(scores(5, [30, 31]), scores(5, [30, 31]))


def test_a_classifier_starts_from_pretrained_weights(tmp_path):
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    save_file(state, tmp_path / "init.safetensors")
    started = challenge_recipe.create_classifier("test_resnet", tmp_path / "init.safetensors")
    assert torch.equal(started[0].conv1[0].weight, state["conv1.0.weight"])
    fresh = challenge_recipe.create_classifier("test_resnet")
    assert not torch.equal(fresh[0].conv1[0].weight, state["conv1.0.weight"])
    assert fresh(torch.zeros(2, 3, 224, 224)).shape == (2, 2)


def test_weights_that_have_seen_the_tested_faces_are_refused(
    generated, weights, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(baselines, "measure", all_scored)
    plain = weights("plain", data={"ffhq": 9, "sd21": 9}, recipe={"fit_all": False})
    everything = weights("everything", data={}, recipe={"fit_all": True})
    fold = weights("fold", data={"ffhq": 9}, recipe={"fit_fakes": True})
    cases = [
        (everything, "", "trained with fit_all"),
        (fold, "", "trained with fit_fakes"),
        (plain, "sd21", "trained with sd21"),
        (everything, "sd21", "trained with fit_all"),
        (plain, "", None),
        (fold, "sd21", None),
    ]
    for number, (file, without, message) in enumerate(cases):
        args = command(generated, tmp_path / str(number), "--models", "", "--weights", f"x={file}")
        args += ["--without", without] if without else []
        if message is None:
            assert "all are scored" in refused(capsys, args)
        else:
            assert f"{file}: expected weights that have not seen" in (err := refused(capsys, args))
            assert message in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--models", ""], "expected ways .* but got"),
        (["--models", "resnet19"], "expected a timm model but got 'resnet19'"),
        (["--models", "test_resnet", "--init", "resnet18=x"], r"--init for one of .* \['resnet18'"),
        (["--models", "test_resnet", "--init", "x"], "expected --init NAME=FILE but got 'x'"),
        (["--models", "test_resnet", "--pair", "test_resnet"], "--pair A,B .* got 'test_r"),
        (["--models", "test_resnet", "--pair", "test_resnet,rgb"], "A,B .* 'test_resnet,rgb"),
        (["--models", "test_resnet", "--epochs", "0"], "expected --epochs of at least 1 but got 0"),
        (["--models", "", "--weights", "a=nowhere"], "nowhere: expected a weights file"),
        (["--models", "", "--streams", "a"], r"expected --streams among \[\] but got \['a'\]"),
        (["--without", "sora"], r"expected --without among .* but got \['sora'\]"),
    ],
)
def test_wrong_arguments_end_before_anything_trains(generated, tmp_path, capsys, more, message):
    err = refused(capsys, command(generated, tmp_path, *more))
    assert re.search(message, err), err
    assert not (tmp_path / "kept").exists()


def test_raw_faces_are_marked(generated, weights, tmp_path):
    rows = [
        {
            **row,
            "crop": generated.crop(i),
            "source_width": 300 + i,
            "landmarks": np.reshape(row["landmarks"], (5, 2)),
        }
        for i, row in enumerate(generated.metadata.to_dict("records"))
    ]
    raw = write_cache(tmp_path / "raw", rows)
    more = ["--models", "", "--weights", f"x={weights('x')}", "--without", "sdxl"]
    assert main(command(raw, tmp_path, *more)) == 0
    assert "**raw: confounded**" in (tmp_path / "out.md").read_text()
    assert json.loads((tmp_path / "out.json").read_text())["protocol"] == "raw: confounded"
