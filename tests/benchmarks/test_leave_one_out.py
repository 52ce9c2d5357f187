"""Leave-one-generator-out: what each fold trains on, what it is judged by, what is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks import leave_one_out
from benchmarks.heat_map import NEW_PICTURES, SEEN, UNSEEN
from benchmarks.leave_one_out import Fold, left_out, main, seen_of
from ffdetect.evaluation.framing import MATCHED
from ffdetect.models.weights import load_checkpoint
from ffdetect.scoring.detector import Detector
from ffdetect.training import train_options
from preprocess.cache.reader import CacheReader

from ..ffdetect.helpers import write_cache

pytest.importorskip("lightning", reason="training needs the [train] extra")

FOLDS = ("--family", "sd=sd21,sdxl", "--generators", "sd,dfdc_swap")


def command(generated: CacheReader, folder: Path, *more: str, folds=FOLDS) -> list[str]:
    """On the matched cache itself, whose crops train as well as any."""
    cache = str(generated.paths[0])
    own = [cache, cache, "--runs", str(folder / "runs"), "--out", str(folder / "out" / "loo")]
    return [*own, "--quick", *folds, "--", "--backbone", "test_resnet", *more]


@pytest.fixture(scope="module")
def done(generated, few_rounds, tmp_path_factory) -> Path:
    """The folder of a quick run of two folds: a family of two generators, and the swap."""
    folder = tmp_path_factory.mktemp("loo")
    assert main(command(generated, folder)) == 0
    return folder


@pytest.fixture(scope="module")
def written(done) -> dict:
    return json.loads((done / "out" / "loo.json").read_text())


def refused(capsys, *args) -> str:
    with pytest.raises(SystemExit) as caught:
        main(*args)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_each_fold_trains_on_all_other_generators(done, written):
    data = {name: load_checkpoint(done / "runs" / f"{name}.safetensors").about["data"]
            for name in ("sd", "dfdc_swap")}  # fmt: skip
    # Held-out whole-face generators train on all their fakes, swaps on their train split alone.
    assert data["sd"] == {"dfdc": 6, "ffhq": 6, "dfdc_swap": 6, "pggan": 6}
    assert data["dfdc_swap"] == {"dfdc": 6, "ffhq": 6, "pggan": 6, "sd21": 6, "sdxl": 6}
    for name, fold in written["folds"].items():
        assert fold["weights"]["data"] == data[name]
    assert written["folds"]["sd"]["without"] == ["sd21", "sdxl"]


def test_every_generator_is_judged_in_every_fold(done, written, generated):
    names = {"sd21", "sdxl", "pggan", "dfdc_swap"}
    for fold in written["folds"].values():
        assert {row["generator"] for row in fold["results"]} == names
    assert written["folds"]["sd"]["seen"] == {
        "sd21": UNSEEN, "sdxl": UNSEEN, "pggan": SEEN, "dfdc_swap": NEW_PICTURES}  # fmt: skip
    assert written["folds"]["dfdc_swap"]["seen"] == {
        "sd21": SEEN, "sdxl": SEEN, "pggan": SEEN, "dfdc_swap": UNSEEN}  # fmt: skip
    faces = generated.metadata
    detector = Detector.load(done / "runs" / "sd.safetensors", "cpu")
    got = {row["generator"]: row["auc"]["value"] for row in written["folds"]["sd"]["results"]}
    for fake, real in (("sdxl", "ffhq"), ("dfdc_swap", "dfdc"), ("pggan", "ffhq")):
        rows = [
            row
            for name, split in ((fake, "train" if fake == "pggan" else "dev"), (real, "dev"))
            for row in np.flatnonzero((faces["generator"] == name) & (faces["split"] == split))[:4]
        ]
        scores = detector.score_crops(generated.crops(rows))
        assert got[fake] == pytest.approx(roc_auc_score(faces["target"].iloc[rows], scores))


def test_the_results_are_those_of_what_was_left_out(done, written):
    assert [row["generator"] for row in written["results"]] == [
        "sd21 (also without sdxl)", "sdxl (also without sd21)", "dfdc_swap"]  # fmt: skip
    aucs = [row["auc"]["value"] for row in written["results"]]
    assert aucs[:2] == [row["auc"]["value"] for row in written["folds"]["sd"]["results"]
                        if row["generator"] in ("sd21", "sdxl")]  # fmt: skip
    assert written["mean_unseen_auc"] == pytest.approx(np.mean(aucs))
    assert written["protocol"] == MATCHED and written["quick"]
    text = (done / "out" / "loo.md").read_text()
    assert written["command"] in text and "smoke run" in text and "raw" not in text
    assert f"**{np.mean(aucs):.3f}**" in text
    cells = {row["generator"]: row["auc"]["value"] for row in written["folds"]["sd"]["results"]}
    row = (f"| sd | **{cells['sd21']:.3f}** | **{cells['sdxl']:.3f}** "
           f"| {cells['dfdc_swap']:.3f} | ({cells['pggan']:.3f}) |")  # fmt: skip
    assert "| trained without | sd21 | sdxl | dfdc_swap | pggan |" in text and row in text
    assert Image.open(done / "out" / "loo.png").size > (300, 200)


@pytest.mark.parametrize("design", ["gated", "traces"])
def test_a_smoke_run_takes_options_of_its_design_alone(design):
    training = ["--design", design]
    command = ["faces", "--out", "weights", *leave_one_out._quick(training), *training]
    train_options.check_design(train_options.make_parser().parse_args(command), design)


def test_a_finished_fold_is_neither_trained_nor_scored_again(done, generated, written, monkeypatch):
    def never(*_):
        raise AssertionError("made again")

    monkeypatch.setattr(leave_one_out.train, "main", never)
    monkeypatch.setattr(leave_one_out, "score_cache", never)
    assert main(command(generated, done, "--workers", "1")) == 0  # workers change no result
    again = json.loads((done / "out" / "loo.json").read_text())
    assert again["folds"] == written["folds"]


def test_a_fold_of_another_recipe_is_refused_naming_the_difference(done, generated, capsys):
    message = refused(capsys, command(generated, done, "--epochs", "3", "--rate", "0.5"))
    assert "sd.safetensors: expected a fold trained as asked" in message
    assert "epochs: '3', not '1'; rate: '0.5', not '0.001'" in message
    assert "backbone" not in message
    other = ("--family", "sd=sd21", "--generators", "sd")
    assert "without: " in refused(capsys, command(generated, done, folds=other))


def test_weights_without_a_record_are_refused(done, generated, tmp_path, capsys):
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "sd.safetensors").write_bytes((done / "runs" / "sd.safetensors").read_bytes())
    message = refused(capsys, command(generated, tmp_path))
    assert "sd.safetensors: expected its command in sd.json" in message
    (runs / "sd.json").write_text("[]")
    assert "sd.json: expected a fold's command" in refused(capsys, command(generated, tmp_path))


def test_weights_that_saw_what_was_left_out_are_refused(done, generated, tmp_path, capsys):
    runs = tmp_path / "runs"
    runs.mkdir()
    # A record that tells another story than the weights.
    (runs / "sd.safetensors").write_bytes((done / "runs" / "dfdc_swap.safetensors").read_bytes())
    record = (done / "runs" / "sd.json").read_text()
    (runs / "sd.json").write_text(record.replace(str(done), str(tmp_path)))
    message = refused(capsys, command(generated, tmp_path))
    assert re.search(r"expected weights trained without \['sd21', 'sdxl'\]", message)


def test_a_stopped_fold_is_gone_on_with(generated, tmp_path, monkeypatch):
    commands = []

    def stop(argv):
        commands.append(list(argv))
        return 130

    monkeypatch.setattr(leave_one_out.train, "main", stop)
    assert main(command(generated, tmp_path)) == 130
    assert main(command(generated, tmp_path)) == 130
    # Only with a record it is known what the checkpoints beside it are.
    assert commands[1] == [*commands[0], "--resume"] and "--resume" not in commands[0]
    assert commands[0][commands[0].index("--without") + 1] == "sd21,sdxl"
    assert not (tmp_path / "out").exists()


def test_raw_faces_are_marked_everywhere(done, generated, tmp_path, monkeypatch, capsys):
    """The finished weights judged on the same crops, cached as if cut from files of their own."""
    rows = [
        {**row, "crop": generated.crop(i), "jpeg_quality": 70 + i,
         "landmarks": np.reshape(row["landmarks"], (5, 2))}
        for i, row in enumerate(generated.metadata.to_dict("records"))
    ]  # fmt: skip
    write_cache(tmp_path / "raw", rows)
    runs, titles = tmp_path / "runs", []
    runs.mkdir()
    (runs / "dfdc_swap.safetensors").write_bytes(
        (done / "runs" / "dfdc_swap.safetensors").read_bytes()
    )
    (runs / "dfdc_swap.json").write_text((done / "runs" / "dfdc_swap.json").read_text())
    monkeypatch.setattr(
        leave_one_out, "draw_heat_map", lambda _, __, title, ___: titles.append(title)
    )
    args = command(generated, tmp_path, folds=("--generators", "dfdc_swap"))
    args[1] = str(tmp_path / "raw")
    assert main(args) == 0
    assert "raw: confounded" in titles[0] and "raw: confounded" in capsys.readouterr().out
    values = json.loads((tmp_path / "out" / "loo.json").read_text())
    assert values["protocol"] == "raw: confounded"
    assert "**raw: confounded**" in (tmp_path / "out" / "loo.md").read_text()


@pytest.mark.parametrize(
    ("more", "folds", "message"),
    [
        ((), ("--generators", "sora"), r"expected --generators among .*'pggan'.* got \['sora'\]"),
        ((), ("--family", "sd21"), "expected --family NAME=.* but got 'sd21'"),
        ((), ("--family", "a=sd21,sora"), r"expected --family a of generators in .*'sora'\]"),
        ((), ("--family", "a=ffhq"), r"expected --family a .*some of them in .*got \['ffhq'\]"),
        (("--out", "x.safetensors"), FOLDS, "expected training options without --out"),
        (("--fit-all",), FOLDS, "expected tested reals that did not train but 8 of 8 did"),
    ],
)  # fmt: skip
def test_wrong_arguments_end_before_anything_trains(
    generated, tmp_path, capsys, more, folds, message
):
    err = refused(capsys, command(generated, tmp_path, *more, folds=folds))
    assert re.search(message, err), err
    assert not (tmp_path / "runs").exists()


def test_every_generator_is_a_fold_unless_it_belongs_to_a_family():
    names = ["pggan", "sd21", "sdxl", "swap"]
    assert left_out(names) == {name: (name,) for name in names}
    folds = left_out(names, ["sd=sd21,sdxl,sd15"], others=["sd15", "ffhq"])
    assert folds == {"sd": ("sd21", "sdxl", "sd15"), "pggan": ("pggan",), "swap": ("swap",)}
    folds = left_out(names, ["sd=sd21,sdxl"], "swap,sd,sd21")
    assert list(folds.items()) == [
        ("swap", ("swap",)), ("sd", ("sd21", "sdxl")), ("sd21", ("sd21",))]  # fmt: skip


def test_reals_that_trained_or_share_a_group_are_refused(generated, tmp_path):
    weights = tmp_path / "sd.safetensors"
    argv = (str(generated.paths[0]), "--out", str(weights), "--without", "sd21", "--fit-fakes")
    fold = Fold("sd", ("sd21",), weights, argv)
    faces = generated.metadata
    tested = faces[faces["split"] == "dev"]
    assert seen_of(fold, faces, tested)["sd21"] == UNSEEN
    with pytest.raises(ValueError, match=r"12 of 24 did .*as train/ffhq/0.png"):
        seen_of(fold, faces, faces[faces["target"] == 0])
    real = tested.index[tested["generator"] == "dfdc"][2]
    moved = tested.copy()
    moved.loc[real, "group"] = "train video 1"
    with pytest.raises(ValueError, match=rf"1 of 12 did .*as {tested['path'][real]}"):
        seen_of(fold, faces, moved)
    # A missing group says nothing.
    seen_of(fold, faces.assign(group=""), pd.DataFrame(tested).assign(group=""))


def test_generators_that_the_mix_never_draws_are_unseen(generated, tmp_path):
    weights = tmp_path / "sd.safetensors"
    faces = generated.metadata
    tested = faces[faces["split"] == "dev"]
    shares = "--swaps dfdc_swap --share-swaps {} --share-blends {}"
    for swaps, blends, wanted in ((0.5, 0.5, {"dfdc_swap"}), (0, 1, set()), (0.5, 0.4, None)):
        argv = [str(generated.paths[0]), "--out", str(weights), "--without", "sd21", "--fit-fakes"]
        argv += shares.format(swaps, blends).split()
        seen = seen_of(Fold("sd", ("sd21",), weights, tuple(argv)), faces, tested)
        wanted = set(seen) - {"sd21"} if wanted is None else wanted
        assert {name for name, kind in seen.items() if kind != UNSEEN} == wanted
