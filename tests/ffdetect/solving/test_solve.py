"""Heads solved from statistics: what they learn from, and what they are judged on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ffdetect.evaluation.metrics import auc
from ffdetect.models.weights import load_checkpoint
from ffdetect.scoring.fusion import Fusion
from ffdetect.solving import solve
from ffdetect.solving.recipes import FAST, PAIRS, Faces, Lines, Recipe, Solver
from ffdetect.solving.statistics import (
    MATCHED,
    Statistics,
    Store,
)

FEATURES = {"lite_rgb": 2176, "lite_residual": 640}


@pytest.fixture
def made_up(tmp_path):
    """A store of made-up faces and their manifest."""
    rng, rows = np.random.default_rng(0), []
    for name, family, target in [
        ("a", "", 0),
        ("b", "", 0),
        ("c", "", 0),
        ("d", "", 0),
        ("e", "", 0),
        ("dfdc", "", 0),
        ("ffhq256", "", 0),
        ("sdxl", "sdxl", 1),
        ("flux", "flux", 1),
        ("stylegan1", "gan", 1),
        ("stylegan2", "gan", 1),
        ("sfhq_stylegan2", "gan", 1),
        ("inswapper", "inswapper", 1),
        ("dfdc_swap", "dfdc_swap", 1),
    ]:
        rows += [
            (f"{name}/{i}.jpg", target, name, family, name, f"v{i}" if "dfdc" in name else "")
            for i in range(20)
        ]
    for number in range(10):  # collections of clips, the last two of both classes
        for target in (0, 1) if number > 7 else (number % 2,):
            rows += [
                (
                    f"clip{number}/{target}{i}.mp4",
                    target,
                    f"method{number}",
                    "",
                    f"collection{number}",
                    "",
                )
                for i in range(4)
            ]
    columns = ["path", "target", "generator", "family", "source", "group"]
    manifest = pd.DataFrame(rows, columns=columns)
    manifest.to_csv(tmp_path / "manifest.csv", index=False)
    still = manifest[~manifest["path"].str.endswith("mp4")]
    keys = np.array([f"{path}#-1" for path in still["path"]])
    frames = [f"{path}#{n}" for path in manifest["path"][len(still) :] for n in (0, 9)]
    fake = np.repeat(manifest["target"].to_numpy()[len(still) :], 2)
    store = Store(tmp_path / "whole", list(FEATURES))
    clips = Statistics(np.array(frames), _with_a_trace(rng, fake, store.readers))
    store.write(MATCHED, clips)
    for view in (MATCHED, "P1"):
        values = _with_a_trace(rng, still["target"].to_numpy(), store.readers)
        store.write(view, Statistics(keys, values))
    return tmp_path


def _with_a_trace(rng, target, readers):
    noise = {name: rng.normal(size=(len(target), FEATURES[name])) for name in readers}
    return {name: (x + 0.2 * target[:, None]).astype(np.float16) for name, x in noise.items()}


def test_weights_are_solved_with_a_report_of_faces_left_out(made_up, capsys):
    out, report = made_up / "w.safetensors", made_up / "report.json"
    command = [
        str(made_up / "whole"),
        "--manifest",
        str(made_up / "manifest.csv"),
        "--network",
        "fast",
        "--out",
        str(out),
        "--report",
        str(report),
        "--fusion",
        str(made_up / "fusion.json"),
    ]
    assert solve.main(command) == 0
    found = json.loads(report.read_text())
    assert set(found["folds"]) == {"sdxl", "flux", "gan", "inswapper", "dfdc_swap"}
    assert found["mean over families"] > 0.9  # every family has the same trace
    assert found["makers of GANs"]["gan: stylegan2"]["fakes"] == 40  # two of one maker
    assert found["makers of GANs"]["gan: stylegan1"]["auc"][0] > 0.9
    assert (found["clips"]["fakes"], found["clips"]["reals"]) == (24, 24)
    assert found["clips"]["mean over methods"] > 0.9
    assert Fusion.load(made_up / "fusion.json").face.fakes == 24
    checkpoint = load_checkpoint(out)
    assert checkpoint.network.settings.readers == tuple(FEATURES)
    assert list(checkpoint.network.settings.kinds) == ["generated", "early", "swap", "clip"]
    assert checkpoint.calibration.thresholds[0.1] < checkpoint.calibration.thresholds[0.01]


def _add_pairs(made_up):
    """Pairs of pictures of three sources, and of what they cannot be of; -> the faces read."""
    paths = ["a/0.jpg", "a/1.jpg", "b/0.jpg", "ffhq256/0.jpg", "dfdc/3.jpg", "flux/0.jpg"]
    keys = [f"{path}#-1#0@taef2@{target}" for path in paths for target in (0, 1)]
    keys += [f"clip0/00.mp4#9#0@taef2@{target}" for target in (0, 1)]
    store = Store(made_up / "pairs", list(FEATURES))
    rng, target = np.random.default_rng(1), np.tile([0, 1], len(keys) // 2)
    for view in (MATCHED, "P1"):
        store.write(view, Statistics(np.array(keys), _with_a_trace(rng, target, store.readers)))
    manifest = pd.read_csv(made_up / "manifest.csv", keep_default_na=False)
    return Faces.read([Store(made_up / "whole"), store], manifest, [MATCHED, "P1"])


def test_pairs_are_labelled_by_what_they_were_made_of(made_up):
    faces = _add_pairs(made_up)
    pairs = faces.table.iloc[faces.pairs]
    assert len(pairs) == 10  # flux is no real face, and frames of clips are left out
    fake = pairs[pairs["target"] == 1]
    assert set(fake["unit"]) == set(fake["generator"]) == {"taef2"}
    reals = pairs[pairs["target"] == 0]
    assert sorted(reals["unit"]) == ["a", "a", "b", "dfdc", "ffhq256"]
    assert sorted(fake["real"]) == sorted(reals["unit"])
    assert not set(faces.pairs) & set(faces.clips)


def test_pairs_are_learnt_from_where_their_source_is_not_judged_and_never_judged(made_up):
    faces = _add_pairs(made_up)
    pairs = set(faces.pairs.tolist())
    units, target = faces.rows.unit, faces.table["target"]
    folds = solve.picture_folds(faces, 1) + solve.maker_folds(faces)
    learnt = []
    for fold in folds + solve.clip_folds(faces):
        assert not pairs & set(fold.test.tolist())
        tested = set(units[fold.test][target.iloc[fold.test] == 0])
        wanted = {row for row in pairs if faces.table["real"].iloc[row] not in tested}
        assert pairs & set(fold.train.tolist()) == wanted
        learnt.append(len(wanted))
    assert {fold.name.partition(":")[0] for fold in folds} >= {"sdxl", "flux", "dfdc_swap"}
    assert min(learnt) < max(learnt) == 10


def test_which_kinds_learn_from_pairs(made_up):
    faces = _add_pairs(made_up)
    solved = Solver(faces).solve(FAST, np.arange(len(faces.table)))

    def learnt(kind):
        rows = np.unique(faces.face[solved.kinds[kind, "lite_rgb"].rows])
        pairs = faces.table.iloc[np.intersect1d(rows, faces.pairs)]
        return sorted(pairs["unit"])

    made = ["taef2"] * 5
    assert learnt("generated") == ["a", "a", "b", "ffhq256", *made]
    assert learnt("early") == ["a", "a", "b", "ffhq256"]
    assert learnt("swap") == learnt("clip") == ["dfdc", "ffhq256"]


def test_faces_are_drawn_alike_from_every_collection(made_up):
    manifest = pd.read_csv(made_up / "manifest.csv", keep_default_na=False)
    faces = Faces.read([Store(made_up / "whole")], manifest, [MATCHED, "P1"], most=6)
    counts = faces.table["generator"].value_counts()
    assert counts["sdxl"] == 6 and counts["dfdc"] == 20
    pictures = np.setdiff1d(np.arange(len(faces.table)), faces.clips)
    assert faces.face[faces.view == 0].tolist() == list(range(len(faces.table)))
    assert faces.face[faces.view == 1].tolist() == pictures.tolist()  # frames have one view


def test_a_face_that_two_stores_know_is_refused(made_up):
    manifest = pd.read_csv(made_up / "manifest.csv", keep_default_na=False)
    stores = [Store(made_up / "whole"), Store(made_up / "more", list(FEATURES))]
    values = {name: np.zeros((1, count), np.float16) for name, count in FEATURES.items()}
    for name in ("new.jpg#-1", "a/0.jpg#-1"):
        Faces.read(stores, manifest, [MATCHED])
        stores[1].write(MATCHED, Statistics(np.array([name]), values))
    with pytest.raises(ValueError, match=r"a/0\.jpg#-1 in two"):
        Faces.read(stores, manifest, [MATCHED])


def test_values_follow_their_faces(made_up):
    manifest = pd.read_csv(made_up / "manifest.csv", keep_default_na=False)
    store = Store(made_up / "whole")
    faces = Faces.read([store], manifest, [MATCHED, "P1"], most=6)
    whole = store.read("P1")
    key = faces.table["key"].to_numpy()[faces.face[faces.view == 1]]
    place = {name: number for number, name in enumerate(whole.keys.tolist())}
    expected = whole.values["lite_rgb"][[place[name] for name in key]]
    np.testing.assert_array_equal(faces.values["lite_rgb"][faces.view == 1], expected)


def test_frames_of_clips_count_less_than_pictures(made_up):
    manifest = pd.read_csv(made_up / "manifest.csv", keep_default_na=False)
    faces = Faces.read([Store(made_up / "whole")], manifest, [MATCHED], most=6)
    solver, every = Solver(faces), np.arange(len(faces.table))
    recipe = Recipe.plain(("lite_rgb",), degraded=0)
    wrong = []
    for share in (0.01, 0.3, 1.0):
        solved = solver.solve(replace(recipe, clips=share), every)
        score = solver.scores(recipe, solved, faces.clips)["fused"] / recipe.slope
        wrong.append(np.abs(score - solver.target[faces.clips]).mean())
    assert wrong[0] > wrong[1] > wrong[2]


def test_folds_of_pictures_and_of_clips_learn_from_all_of_the_other(made_up):
    manifest = pd.read_csv(made_up / "manifest.csv", keep_default_na=False)
    faces = Faces.read([Store(made_up / "whole")], manifest, [MATCHED], most=6)
    clips = set(faces.clips.tolist())
    pictures = set(range(len(faces.table))) - clips
    for fold in solve.picture_folds(faces):
        assert clips <= set(fold.train.tolist()) and not clips & set(fold.test.tolist())
    source, tested = faces.table["source"].to_numpy(), []
    for fold in solve.clip_folds(faces):
        assert pictures <= set(fold.train.tolist()) and set(fold.test.tolist()) <= clips
        assert not set(source[fold.train]) & set(source[fold.test])
        tested += fold.test.tolist()
    assert set(tested) == clips


def test_every_draw_leaves_out_other_sources_together(made_up):
    manifest = pd.read_csv(made_up / "manifest.csv", keep_default_na=False)
    faces = Faces.read([Store(made_up / "whole")], manifest, [MATCHED], most=6)
    once, thrice = (solve.picture_folds(faces, draws) for draws in (1, 3))
    assert len(thrice) == 3 * len(once)
    for one, again in zip(once, thrice, strict=False):
        np.testing.assert_array_equal(one.test, again.test)
    assert len({fold.sources for fold in thrice}) > len({fold.sources for fold in once})


def test_a_kind_of_fake_is_learnt_from_its_own_fakes(made_up):
    """Each fake has a trace of its kind alone; the fused score sees all, a kind's line its own."""
    manifest = pd.read_csv(made_up / "manifest.csv", keep_default_na=False)
    faces = Faces.read([Store(made_up / "whole")], manifest, [MATCHED])
    swap = np.isin(faces.table["family"], list(PAIRS))
    rng, fake = np.random.default_rng(1), faces.table["target"].to_numpy() == 1
    trace = np.stack([fake & ~swap, fake & swap], 1).repeat(50, 1)
    values = 3 * trace + rng.normal(size=trace.shape)
    faces = replace(faces, values={"lite_rgb": values.astype(np.float16)})
    solver, every = Solver(faces), np.arange(len(fake))
    kinds = {"generated": Lines("generated", ("lite_rgb",)), "swap": Lines("swaps", ("lite_rgb",))}
    scores = {}
    for name, kind in [*kinds.items(), ("both", None)]:
        recipe = Recipe(kinds if kind is None else {name: kind}, degraded=0)
        scores[name] = solver.scores(recipe, solver.solve(recipe, every), every)["fused"]
    still = ~faces.table["clip"].to_numpy()
    for name, own in (("generated", ~swap), ("swap", swap)):
        assert auc(fake[still & (own | ~fake)], scores[name][still & (own | ~fake)]) > 0.99
        other = still & (~own | ~fake)
        assert auc(fake[other], scores[name][other]) < 0.8
    np.testing.assert_allclose(
        scores["both"], np.logaddexp(scores["generated"], scores["swap"]), rtol=1e-4, atol=1e-4
    )


def test_margins_are_taken_off_a_kind_and_others_off_frames_of_clips(made_up):
    manifest = pd.read_csv(made_up / "manifest.csv", keep_default_na=False)
    faces = Faces.read([Store(made_up / "whole")], manifest, [MATCHED], most=6)
    solver, every = Solver(faces), np.arange(len(faces.table))
    plain = Recipe({"clip": Lines("clips", ("lite_rgb",))}, degraded=0)
    moved = Recipe({"clip": Lines("clips", ("lite_rgb",), margin=3, clip_margin=1)}, degraded=0)
    before, after = (solver.scores(r, solver.solve(r, every), every) for r in (plain, moved))
    np.testing.assert_allclose(after["fused"], before["fused"] - 3)
    np.testing.assert_allclose(after["clip"], before["clip"] - 1)


def test_frames_of_video_are_told_from_pictures_and_have_margins_of_their_own(made_up):
    """A trace that all frames of video have, of clips or not, real or fake, and no picture has."""
    manifest = pd.read_csv(made_up / "manifest.csv", keep_default_na=False)
    faces = Faces.read([Store(made_up / "whole")], manifest, [MATCHED])
    video = faces.table["clip"].to_numpy() | faces.table["unit"].isin(["dfdc", "dfdc_swap"])
    fake = faces.table["target"].to_numpy() == 1
    rng = np.random.default_rng(1)
    values = 6 * np.stack([video, fake], 1).repeat(50, 1) + rng.normal(size=(len(fake), 100))
    faces = replace(faces, values={"lite_rgb": values.astype(np.float16)})
    solver, every = Solver(faces), np.arange(len(fake))
    kinds = {"fake": Lines("all", ("lite_rgb",), margin=5, frame_margin=2)}
    plain, told = (Recipe(kinds, frames, degraded=0) for frames in ((), ("lite_rgb",)))
    before, after = (
        solver.scores(r, solver.solve(r, every), every)["fused"] for r in (plain, told)
    )
    np.testing.assert_allclose(after - before, np.where(video, 3, 0), atol=1e-6)
    # No family or source here has so many faces that some would be left out.
    np.testing.assert_array_equal(solver.solve(told, every).frames["lite_rgb"].rows, every)


def test_the_network_says_what_its_lines_say(made_up):
    manifest = pd.read_csv(made_up / "manifest.csv", keep_default_na=False)
    store = Store(made_up / "whole")
    faces = Faces.read([store], manifest, [MATCHED], most=6)
    solver, every = Solver(faces), np.arange(len(faces.table))
    recipe = replace(FAST, degraded=0)
    expected = solver.scores(recipe, solver.solve(recipe, every), every)
    values = {n: torch.from_numpy(x.astype(np.float32)) for n, x in faces.values.items()}
    network = solve.solved_network(solver, recipe)
    with torch.inference_mode():
        got, clip = network.judge(values), network.judge(values, clip=True)
    for name in ("fused", "rgb", "frequency"):
        np.testing.assert_allclose(getattr(got, name), expected[name], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(clip.fused, expected["clip"], rtol=1e-3, atol=1e-3)


def test_a_kind_without_fakes_has_no_part_in_the_network(made_up):
    manifest = pd.read_csv(made_up / "manifest.csv", keep_default_na=False)
    manifest = manifest[~manifest["family"].isin(["gan", "inswapper", "dfdc_swap"])]
    faces = Faces.read([Store(made_up / "whole")], manifest, [MATCHED], most=6)
    still = np.setdiff1d(np.arange(len(faces.table)), faces.clips)
    faces = replace(
        faces,
        table=faces.table.iloc[still].reset_index(drop=True),
        values={name: x[still] for name, x in faces.values.items()},
        face=np.arange(len(still)),
        view=np.zeros(len(still), int),
    )
    network = solve.solved_network(Solver(faces), replace(FAST, degraded=0))
    assert list(network.settings.kinds) == ["generated"]
