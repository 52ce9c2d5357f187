"""benchmarks.robustness: who crosses the line, in which direction, and how sure that is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks import robustness
from benchmarks.disturbances import DISTURBANCES
from benchmarks.robustness import CONDITIONS, choose_rows, evaluate, main, score_conditions
from benchmarks.robustness_plots import _SHEETS, _panels
from ffdetect.evaluation.kept import Store
from ffdetect.evaluation.metrics import auc
from preprocess.cache.reader import CacheReader

from ..ffdetect.helpers import write_cache

SOURCES = {"dfdc": 0, "ffhq": 0, "dfdc_swap": 1, "sdxl": 1}


def make_cache(folder: Path, targets: dict[str, int] = SOURCES, size: int = 256) -> CacheReader:
    """Three faces a source, from the same random pictures for each; fakes are brighter."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 170, (3, 8, 8, 3), np.uint8)
    rows = []
    for name, target in targets.items():
        for picture in pictures + np.uint8(20 * target):
            smooth = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)
            rows.append({"generator": name, "target": target, "crop": np.array(smooth)})
    return write_cache(folder, rows, size)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> CacheReader:
    return make_cache(tmp_path_factory.mktemp("robust") / "cache")


class Brightness:
    """A fake detector: the brighter a crop, the more likely it is fake. Keeps what it saw."""

    def __init__(self, stop_after: float = np.inf) -> None:
        self.seen: list[np.ndarray] = []
        self.stop_after = stop_after

    def score_crops(self, crops: np.ndarray) -> np.ndarray:
        if len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        assert crops.dtype == np.uint8 and crops.shape[1:] == (256, 256, 3)
        self.seen.append(crops)
        return (crops.mean((1, 2, 3)) / 255).astype(np.float32)


@pytest.fixture(scope="module")
def scored(cache, tmp_path_factory) -> dict[str, np.ndarray]:
    store = Store(tmp_path_factory.mktemp("scored"))
    return score_conditions(Brightness(), cache, np.arange(12), store)


@pytest.fixture(scope="module")
def outcomes(cache, scored):
    return evaluate(cache.metadata, scored)


@pytest.fixture(scope="module")
def made_up() -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """80 faces a source; "raised" moves all logits up by 1, "noisy" adds noise to them."""
    rng = np.random.default_rng(1)
    faces = pd.DataFrame({"generator": np.repeat(list(SOURCES), 80)})
    faces["target"] = faces["generator"].map(SOURCES)
    odds = rng.normal(2 * faces["target"].to_numpy() - 1.5, 1)
    odds[faces["generator"] == "dfdc"] += 1
    sigmoid = lambda x: (1 / (1 + np.exp(-x))).astype(np.float32)  # noqa: E731
    noisy = odds + rng.normal(0, 1.5, len(odds))
    return faces, {
        "undisturbed": sigmoid(odds),
        "raised": sigmoid(odds + 1),
        "noisy": sigmoid(noisy),
    }


def test_brighter_crops_push_reals_to_fake_and_darker_ones_fakes_to_real(outcomes):
    found = {outcome.condition: outcome for outcome in outcomes}
    bright, dark = found["brightness 1.5"], found["brightness 0.5"]
    for shift in (bright.reals, bright.fakes):
        assert shift.logit > 0.3 and shift.probability > 0.05 and shift.newly_below == 0
    for shift in (dark.reals, dark.fakes):
        assert shift.logit < -0.3 and shift.probability < -0.05 and shift.newly_above == 0
    assert bright.reals.newly_above == 1 and dark.fakes.newly_below == 1
    same = found["undisturbed"]
    for shift in (same.reals, same.fakes):
        assert (shift.logit, shift.probability) == (0, 0)
        assert (shift.newly_above, shift.newly_below) == (0, 0)


def test_both_classes_are_disturbed_alike(cache, tmp_path):
    seen = []
    for targets in ((0, 1), (1, 0)):
        # The same pixels for either class, so that only the labels differ.
        rows = [{"target": target, "crop": np.array(cache.crop(0))} for target in targets]
        reader, detector = write_cache(tmp_path / f"{targets}", rows, 256), Brightness()
        score_conditions(detector, reader, np.arange(2), Store(tmp_path / "p", targets=targets))
        seen.append(np.concatenate(detector.seen))
    np.testing.assert_allclose(*seen, atol=1e-5)


def test_every_condition_scores_every_face_in_order(cache, scored):
    assert list(scored) == list(CONDITIONS)
    assert len(CONDITIONS) == 1 + sum(len(kind.strengths) - 1 for kind in DISTURBANCES)
    expected = [cache.crop(row).mean() / 255 for row in range(12)]
    np.testing.assert_allclose(scored["undisturbed"], expected, rtol=1e-5)
    darker = [(cache.crop(row) // 2).mean() / 255 for row in range(12)]
    np.testing.assert_allclose(scored["brightness 0.5"], darker, atol=0.005)


def test_auc_is_that_of_scikit_learn_against_reals_of_the_same_kind(made_up):
    faces, scores = made_up
    for outcome in evaluate(faces, scores):
        for fake, real in (("dfdc_swap", "dfdc"), ("sdxl", "ffhq")):
            rows = faces["generator"].isin([fake, real]).to_numpy()
            expected = roc_auc_score(faces["target"][rows], scores[outcome.condition][rows])
            assert outcome.auc[fake] == pytest.approx(expected)
        assert outcome.mean_auc == pytest.approx(np.mean(list(outcome.auc.values())))


def test_scores_that_move_together_keep_the_auc_but_cross_the_line(made_up):
    raised = evaluate(*made_up)[1]
    assert (raised.change.value, raised.change.low, raised.change.high) == (0, 0, 0)
    for shift in (raised.reals, raised.fakes):
        assert shift.logit == pytest.approx(1, abs=1e-4)
        assert shift.logit_quartiles == pytest.approx((1, 1), abs=1e-4)
    assert raised.reals.newly_above > 0.15 and raised.fakes.newly_above > 0.1
    assert raised.reals.newly_below == raised.fakes.newly_below == 0


def test_crossings_are_counted_at_the_operating_point_of_a_face_s_own_kind(made_up):
    faces, scores = made_up
    before, after = scores["undisturbed"], scores["noisy"]
    noisy = evaluate(faces, scores)[2]
    above = below = 0
    for name in ("dfdc", "ffhq"):
        own = (faces["generator"] == name).to_numpy()
        line = np.sort(before[own])[-9]  # of 80 reals, 8 score higher
        above += ((before[own] <= line) & (after[own] > line)).sum()
        below += ((before[own] > line) & (after[own] <= line)).sum()
    assert above > 0 and below > 0
    assert noisy.reals.newly_above == above / 160 and noisy.reals.newly_below == below / 160


def test_the_interval_is_that_of_a_plain_paired_bootstrap(made_up):
    faces, scores = made_up
    outcome = evaluate(faces, scores)[2]
    rng = np.random.default_rng(5)
    starts = dict(zip(SOURCES, range(0, 320, 80), strict=True))
    changes = []
    for _ in range(400):
        drawn = {name: start + rng.integers(0, 80, 80) for name, start in starts.items()}
        change = []
        for pair in (("dfdc", "dfdc_swap"), ("ffhq", "sdxl")):
            rows = np.concatenate([drawn[name] for name in pair])
            t = np.repeat([0, 1], 80)
            change.append(auc(t, scores["noisy"][rows]) - auc(t, scores["undisturbed"][rows]))
        changes.append(np.mean(change))
    low, high = np.quantile(changes, [0.025, 0.975])
    assert outcome.change.value == pytest.approx(np.mean(changes), abs=0.006)
    assert outcome.change.low == pytest.approx(low, abs=0.012)
    assert outcome.change.high == pytest.approx(high, abs=0.012)


def test_a_stopped_run_goes_on_where_it_stopped(cache, scored, tmp_path):
    store, rows = Store(tmp_path / "new", run=1), np.array([1, 7])
    with pytest.raises(KeyboardInterrupt):
        score_conditions(Brightness(stop_after=5), cache, rows, store)
    second = Brightness()
    again = score_conditions(second, cache, rows, store)
    assert len(second.seen) == len(CONDITIONS) - 5
    assert list(again) == list(scored)
    for name in scored:
        np.testing.assert_allclose(again[name], scored[name][rows], atol=1e-5)
    third = Brightness()
    score_conditions(third, cache, rows, Store(tmp_path / "new", run=2))
    assert len(third.seen) == len(CONDITIONS)  # of another run, nothing is kept


def test_rows_are_limited_for_each_source_and_only_compared_ones_count(cache):
    chosen = choose_rows(cache.metadata, 2)
    counts = cache.metadata.iloc[chosen]["generator"].value_counts()
    assert counts.to_dict() == dict.fromkeys(SOURCES, 2)
    faces = pd.DataFrame({"generator": ["ffhq", "sdxl", "sdxl", "dfdc"], "target": [0, 1, -1, 0]})
    assert choose_rows(faces).tolist() == [0, 1]
    with pytest.raises(ValueError, match="expected fakes and reals of their kind"):
        choose_rows(faces.iloc[1:])


@pytest.mark.parametrize("sheet", _SHEETS, ids=lambda sheet: sheet.name)
def test_every_panel_shows_its_disturbance_from_left_to_right(outcomes, sheet):
    figure = _panels(outcomes, sheet)
    assert [ax.get_title() for ax in figure.axes] == [kind.name for kind in DISTURBANCES]
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks[:3] == ["none", "95", "85"]
    found = {outcome.condition: outcome for outcome in outcomes}
    for ax, kind in zip(figure.axes, DISTURBANCES, strict=True):
        along = [found[kind.label(strength)] for strength in kind.strengths]
        if sheet.name == "auc":
            mean = next(line for line in ax.lines if line.get_label() == "mean")
            assert mean.get_ydata().tolist() == [outcome.mean_auc for outcome in along]
        elif sheet.name == "shift":
            shown = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
            assert shown["reals, median"] == [outcome.reals.logit for outcome in along]
            assert shown["fakes, median"] == [outcome.fakes.logit for outcome in along]
        else:
            bars = {b.get_label(): [p.get_height() for p in b.patches] for b in ax.containers}
            assert bars["reals newly flagged"] == [100 * o.reals.newly_above for o in along]
            assert bars["fakes newly missed"] == [-100 * o.fakes.newly_below for o in along]


def test_the_command_prints_and_writes(cache, tiny_weights, tmp_path, capsys):
    out = tmp_path / "results" / "robust"
    command = [str(cache.paths[0]), "--weights", str(tiny_weights), "--limit", "1"]
    command += ["--kept", str(tmp_path / "kept")]
    assert main([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out.strip()
    text = out.with_suffix(".md").read_text("utf-8")
    assert printed in text and " ".join(command) in text
    values = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert values["faces"] == dict.fromkeys(SOURCES, 1)
    assert [result["condition"] for result in values["results"]] == list(CONDITIONS)
    for result in values["results"]:
        assert set(result["auc"]) == {"dfdc_swap", "sdxl"} and f"| {result['condition']} |" in text
        assert set(result["reals"]) == set(result["fakes"]) >= {"logit", "newly_above"}
    for sheet in _SHEETS:
        with Image.open(out.with_name(f"robust_{sheet.name}.png")) as picture:
            assert picture.format == "PNG" and picture.width > 1000
        assert f"![](robust_{sheet.name}.png)" in text
    assert len(list((tmp_path / "kept").iterdir())) == len(CONDITIONS)


def test_a_stop_is_said_and_what_was_scored_is_kept(
    cache, tiny_weights, tmp_path, capsys, monkeypatch
):
    detector = Brightness(stop_after=2)
    detector.check_cache = lambda reader: None
    monkeypatch.setattr(robustness.Detector, "load", lambda weights, threads: detector)
    out = tmp_path / "robust"
    kept = tmp_path / "kept"
    assert (
        main(
            [
                str(cache.paths[0]),
                "--weights",
                str(tiny_weights),
                "--out",
                str(out),
                "--kept",
                str(kept),
            ]
        )
        == 130
    )
    assert "the same command goes on" in capsys.readouterr().err
    assert len(list(kept.glob("*.npz"))) == 2
    assert not out.with_suffix(".json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--limit": "0"}, "expected --limit of at least 1 but got 0"),
        ({"--weights": "nowhere"}, "nowhere: expected"),
        ({"CACHE": "nowhere"}, "nowhere: expected a cache"),
        ({"CACHE": "reals"}, "expected fakes and reals of their kind"),
        ({"CACHE": "small"}, "size: 256, not 128"),
    ],
)
def test_bad_input_ends_with_a_message(cache, tiny_weights, tmp_path, capsys, change, message):
    make_cache(tmp_path / "reals", {"ffhq": 0})
    make_cache(tmp_path / "small", size=128)
    values = {"CACHE": str(cache.paths[0]), "--weights": str(tiny_weights), "--limit": "1"}
    values |= {k: v if k == "--limit" else str(tmp_path / v) for k, v in change.items()}
    place = values.pop("CACHE")
    with pytest.raises(SystemExit) as caught:
        main(
            [
                place,
                *[word for pair in values.items() for word in pair],
                "--out",
                str(tmp_path / "out"),
                "--kept",
                str(tmp_path / "kept"),
            ]
        )
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
