"""A report says what the scores say, and names the worst."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ffdetect.evaluation.calibration import operating_points
from ffdetect.evaluation.protocol import NestedProtocol, Outcome
from ffdetect.evaluation.report import Report, report
from ffdetect.evaluation.splits import Rows, inner_folds, outer_folds
from ffdetect.evaluation.tables import markdown, markdown_of


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Five families, one of them of video; six cameras and the video; all told to some degree."""
    names = [f"gan{i}" for i in range(4)] + ["swap"] + [f"camera{i}" for i in range(6)] + ["video"]
    unit = np.repeat(names, 40)
    group = np.array([f"{i // 2}" for i in range(len(unit))])
    target = np.isin(unit, names[:5]).astype(int)
    return Rows(unit, target, (group,), {"swap": ["video"]})


@pytest.fixture(scope="module")
def logit(rows) -> np.ndarray:
    """gan3 is told badly; camera2 looks fake; videos score higher than photos."""
    rng = np.random.default_rng(0)
    shift = {"gan3": 0.3, "camera2": 2.2, "video": 0.5, "swap": 2.5}
    return rng.normal([shift.get(u, 2.0 * t) for u, t in zip(rows.unit, rows.target, strict=True)])


@pytest.fixture(scope="module")
def outcome(rows, logit) -> Outcome:
    protocol = NestedProtocol(
        rows,
        logit.__getitem__,
        outer_folds(rows),
        lambda rows, fold: inner_folds(rows, fold, count=2, parts=2),
    )
    scales = {"as it is": 1.0, "turned": -1.0}
    return protocol.run(scales, lambda scale, train: scale, lambda s, test: s * test.data())


@pytest.fixture(scope="module")
def found(outcome, rows) -> Report:
    return report(outcome, rows, "python -m some.command", rounds=60)


def calibrated(outcome, rows, fold):
    """Operating points of a fold's inner scores, its own places among the outer, their scores."""
    inner = outcome.choices[fold.name].inner
    points = operating_points(rows.target[inner.row], rows.unit[inner.row], inner.score)
    own = np.flatnonzero(outcome.outer.fold == fold.name)
    return points, own, points.probability(outcome.outer.score[own])


def test_families_are_judged_in_their_own_fold_by_reals_of_their_kind(found, outcome, rows, logit):
    families = found.figures.generators
    assert np.diff([f.auc.value for f in families]).min() >= 0
    for fold in outcome.folds:
        (family,) = fold.families
        result = next(f for f in families if f.generator == family)
        reals = [s for s in fold.sources if (s == "video") == (family == "swap")]
        own = fold.test[np.isin(rows.unit[fold.test], [family, *reals])]
        expected = roc_auc_score(rows.target[own], logit[own])
        assert result.auc.value == pytest.approx(expected)
        assert result.auc.low < expected < result.auc.high
        assert (result.fakes, result.reals) == (40, 40 * len(reals))
    assert found.figures.mean_auc.value == pytest.approx(np.mean([f.auc.value for f in families]))
    assert families[0].generator == "gan3"


def test_thresholds_come_from_the_inner_folds(found, outcome, rows):
    for fold in outcome.folds:
        points, own, score = calibrated(outcome, rows, fold)
        fakes = rows.target[outcome.outer.row[own]] == 1
        result = next(f for f in found.figures.generators if f.generator in fold.families)
        for fpr, threshold in points.thresholds.fake.items():
            assert result.tpr[fpr].value == pytest.approx((score[fakes] >= threshold).mean())
        low = min(points.thresholds.real, points.thresholds.fake[0.1])
        told = found.called_real[f"{result.generator} (fake)"]
        assert told == pytest.approx((score[fakes] <= low).mean(), abs=1e-9)


def test_the_real_source_that_looks_fake_is_named(found):
    loud = found.figures.sources[0]
    assert loud.source == "camera2"
    quiet = next(s for s in found.figures.sources if s.source == "camera4")
    assert loud.reals == quiet.reals == 40  # though several folds test them
    assert (found.figures.reals, found.figures.fakes) == (280, 200)
    assert loud.flagged[0.1].value > 0.3 > quiet.flagged[0.1].value
    assert loud.flagged[0.1].low < loud.flagged[0.1].value < loud.flagged[0.1].high
    assert found.called_real["camera2 (real)"] < found.called_real["camera4 (real)"]
    for source in found.figures.sources:
        rates = [source.flagged[fpr].value for fpr in (0.1, 0.01, 0.001)]
        assert rates == sorted(rates, reverse=True)


def test_pooled_figures_and_the_curve_are_those_of_calibrated_scores(found, outcome, rows):
    score, caught = np.empty(len(outcome.outer.row)), np.empty(len(outcome.outer.row), bool)
    for fold in outcome.folds:
        points, own, score[own] = calibrated(outcome, rows, fold)
        caught[own] = score[own] >= points.thresholds.fake[0.1]
    target = rows.target[outcome.outer.row]
    assert found.figures.auc.value == pytest.approx(roc_auc_score(target, score))
    assert found.figures.tpr[0.1].value == pytest.approx(caught[target == 1].mean())
    assert sum(count for *_, count in found.curve) == len(target)


def test_it_is_written_as_markdown(found):
    text = found.markdown()
    worst = found.figures.generators[0]
    assert "2 recipes were compared inside" in text and "`python -m some.command`" in text
    assert f"| gan3 | 40 / {worst.reals} | {worst.auc} |" in text
    assert f"| camera2 (real) | {found.called_real['camera2 (real)']:.1%} |" in text


def test_a_second_look_is_told(found):
    text = replace(found, looks=3, reasons=["a column was wrong"]).markdown()
    assert "Outer folds were run 3 times. Reason: a column was wrong." in text
    assert "Outer folds" not in found.markdown()


def test_a_table_has_a_line_a_row():
    assert markdown(["a", "b"], [[1, "x"], [2.5, "y"]]) == (
        "| a | b |\n| --- | --- |\n| 1 | x |\n| 2.5 | y |"
    )


def test_names_do_not_break_a_table():
    assert markdown(["a"], [["x|y\nz"]]) == "| a |\n| --- |\n| x\\|y z |"


def test_rows_may_name_their_columns():
    rows = [{"a": 1, "b": "x"}, {"a": 2.5, "b": "y"}]
    assert markdown_of(rows) == markdown(["a", "b"], [[1, "x"], [2.5, "y"]])
