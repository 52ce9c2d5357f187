"""A leak that is planted on purpose is caught; an honest choice is made and reported."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ffdetect.evaluation.protocol import LeakError, NestedProtocol, Sample
from ffdetect.evaluation.splits import Rows, inner_folds, outer_folds


def table(noise: int = 0) -> tuple[Rows, np.ndarray]:
    """Six families and six sources of which columns 0 to 3 tell something, the others nothing."""
    rng = np.random.default_rng(0)
    unit = np.repeat([f"gan{i}" for i in range(6)] + [f"camera{i}" for i in range(6)], 25)
    target = np.char.startswith(unit, "gan").astype(int)
    x = rng.normal(size=(300, 8 + noise))
    x[:, :4] += 0.8 * target[:, None] + np.repeat(rng.normal(0, 0.5, (12, 4)), 25, axis=0)
    group = np.array([f"person {i // 2}" for i in range(300)])
    order = rng.permutation(300)
    return Rows(unit[order], target[order], (group[order],)), x[order]


@dataclass(frozen=True)
class Ridge:
    columns: tuple[int, ...]
    strength: float = 1.0


RECIPES = {"useful": Ridge((0, 1, 2, 3)), "useless": Ridge((4, 5, 6, 7))}


def solve(x: np.ndarray, target: np.ndarray, strength: float) -> np.ndarray:
    """Weights of the ridge line through targets -1 and 1."""
    x = np.c_[x, np.ones(len(x))]
    return np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ (2 * target - 1))


def fit(recipe: Ridge, train: Sample):
    x = train.data()[:, list(recipe.columns)]
    return recipe, solve(x, train.target, recipe.strength)


def score(model, test: Sample) -> np.ndarray:
    recipe, line = model
    return test.data()[:, list(recipe.columns)] @ line[:-1] + line[-1]


def protocol(**options) -> NestedProtocol:
    rows, x = table()
    return NestedProtocol(rows, x.__getitem__, **options)


def test_an_honest_choice_is_made_inside_and_scored_outside_once():
    rows, x = table()
    outcome = protocol().run(RECIPES, fit, score)
    assert {choice.recipe for choice in outcome.choices.values()} == {"useful"} == {outcome.recipe}
    assert outcome.recipes == 2 and outcome.looks == 1 and outcome.reasons == []
    for fold in outer_folds(rows):
        own = outcome.outer.fold == fold.name
        assert outcome.outer.row[own].tolist() == fold.test.tolist()
        line = solve(x[fold.train, :4], rows.target[fold.train], 1.0)
        expected = x[fold.test, :4] @ line[:-1] + line[-1]
        np.testing.assert_allclose(outcome.outer.score[own], expected)
        inside = outcome.choices[fold.name].inner
        assert not set(inside.row.tolist()) & set(fold.test.tolist())
        assert set(inside.fold) == {f.name for f in inner_folds(rows, fold)}
        figures = []
        for inner in inner_folds(rows, fold):
            own = inside.fold == inner.name
            figures.append(roc_auc_score(rows.target[inner.test], inside.score[own]))
        assert outcome.choices[fold.name].figures["useful"] == pytest.approx(np.mean(figures))


def test_choosing_reads_no_row_of_an_outer_test():
    rows, x = table()
    fold = outer_folds(rows)[0]
    asked = set()

    def read(index):
        asked.update(index.tolist())
        return x[index]

    guarded = NestedProtocol(rows, read, [fold])
    guarded.choose(RECIPES, fit, score)
    assert asked == set(fold.train.tolist())
    asked.clear()
    guarded.run(RECIPES, fit, score)
    assert asked == set(fold.train.tolist()) | set(fold.test.tolist())


def test_what_was_compared_is_not_computed_again():
    fitted = []

    def counting(recipe, train):
        fitted.append(len(train))
        return fit(recipe, train)

    guarded = protocol(inner=lambda rows, fold: inner_folds(rows, fold, count=2))
    guarded.choose(RECIPES, counting, score)
    assert len(fitted) == 6 * 2 * 2
    guarded.run(RECIPES, counting, score)
    assert len(fitted) == 6 * 2 * 2 + 6


@pytest.mark.parametrize("asked", ["target", "unit", "rows"])
def test_a_recipe_that_peeks_at_tested_labels_is_caught(asked):
    def peek(model, test):
        return score(model, test) + getattr(test, asked)

    for go in (protocol().choose, protocol().run):
        with pytest.raises(LeakError, match="it asked for labels"):
            go(RECIPES, fit, peek)


@pytest.mark.parametrize("position", [[-1], [0, 10_000]])
def test_a_recipe_that_reaches_for_other_rows_is_caught(position):
    def reach(recipe, train):
        train.data(position)

    with pytest.raises(LeakError, match="expected positions of 0 to"):
        protocol().choose(RECIPES, reach, score)


def test_a_group_on_both_sides_is_caught():
    rows, x = table()
    folds = outer_folds(rows)
    group = rows.ties[0].copy()
    group[folds[0].train[0]] = group[folds[0].test[0]]
    with pytest.raises(LeakError, match="expected values of tie 0 on one side"):
        NestedProtocol(replace(rows, ties=(group,)), x.__getitem__, folds)
    with pytest.raises(LeakError, match="expected rows on one side"):
        leaking = replace(folds[0], train=np.union1d(folds[0].train, folds[0].test[:1]))
        NestedProtocol(rows, x.__getitem__, [leaking])


def test_an_inner_fold_that_tests_an_outer_row_is_caught():
    def reaching(rows, fold):
        first, *rest = inner_folds(rows, fold)
        return [replace(first, test=np.union1d(first.test, fold.test[:1])), *rest]

    with pytest.raises(LeakError, match="expected inner folds inside its training rows"):
        protocol(inner=reaching)
    with pytest.raises(LeakError, match="expected inner folds inside its training rows"):
        protocol(inner=lambda rows, fold: outer_folds(rows))


@pytest.mark.parametrize("again", [False, True])  # in a process of its own
def test_choosing_by_outer_scores_is_caught(tmp_path, again):
    """Run one recipe after another outside, keep the best: the mistake this exists for."""
    ledger = tmp_path / "results" / "ledger.json"
    guarded = protocol(ledger=ledger)
    guarded.run({"useless": RECIPES["useless"]}, fit, score)
    if again:
        guarded = protocol(ledger=ledger)
    other = {"useful": RECIPES["useful"]}
    changed = {"useless": replace(RECIPES["useless"], strength=2.0)}
    for recipes in (other, changed, RECIPES):
        with pytest.raises(LeakError, match=r"run before, \['useless'\], but got others"):
            guarded.run(recipes, fit, score)
    assert guarded.run({"useless": RECIPES["useless"]}, fit, score).looks == 2
    outcome = guarded.run(RECIPES, fit, score, reason="the first lacked columns")
    assert outcome.reasons == ["the first lacked columns"]
    assert outcome.looks == 3 and outcome.recipes == 3
    kept = json.loads(ledger.read_text("utf-8"))
    assert [look["names"] for look in kept["looks"]] == [["useless"]] * 2 + [sorted(RECIPES)]


def test_choosing_other_folds_by_outer_scores_is_caught(tmp_path):
    rows, x = table()
    for seed, caught in ((0, False), (1, True)):
        guarded = NestedProtocol(
            rows, x.__getitem__, outer_folds(rows, seed), ledger=tmp_path / "ledger.json"
        )
        if caught:
            with pytest.raises(LeakError, match="folds and recipes of the run before"):
                guarded.run(RECIPES, fit, score)
        else:
            guarded.run(RECIPES, fit, score)


def test_all_recipes_that_were_ever_compared_inside_are_counted(tmp_path):
    ledger = tmp_path / "ledger.json"
    protocol(ledger=ledger).choose({f"s{s}": Ridge((0,), s) for s in (1, 10, 100)}, fit, score)
    protocol(ledger=ledger).choose({"same as s1": Ridge((0,), 1)}, fit, score)
    assert protocol(ledger=ledger).run(RECIPES, fit, score).recipes == 5


def test_chance_is_reported_as_chance_however_many_recipes_are_tried():
    """Forty recipes on noise: the best inside looks good there, and is worth nothing outside."""
    rows, _ = table()
    noise = np.random.default_rng(1).normal(size=(300, 40))
    recipes = {f"column {i}": Ridge((i,)) for i in range(40)}
    folds = outer_folds(rows, count=3)
    guarded = NestedProtocol(
        rows, noise.__getitem__, folds, lambda rows, fold: inner_folds(rows, fold, count=2)
    )
    outcome = guarded.run(recipes, fit, score)
    inside = np.mean([max(choice.figures.values()) for choice in outcome.choices.values()])
    outside = np.mean(
        [
            roc_auc_score(
                rows.target[fold.test], outcome.outer.score[outcome.outer.fold == fold.name]
            )
            for fold in folds
        ]
    )
    assert inside > 0.54 and abs(outside - 0.5) < 0.07 and outcome.recipes == 40


def test_wrong_scores_and_settings_are_refused(tmp_path):
    def short(model, test):
        return score(model, test)[1:]

    def nothing(model, test):
        return np.full(len(test), np.nan)

    for wrong in (short, nothing):
        with pytest.raises(ValueError, match=r"expected \d+ scores but got shape"):
            protocol().choose(RECIPES, fit, wrong)
    with pytest.raises(ValueError, match="expected recipes to compare but got none"):
        protocol().choose({}, fit, score)
    with pytest.raises(TypeError, match="expected settings of JSON's types"):
        protocol().choose({"a": object()}, fit, score)
    (tmp_path / "ledger.json").write_text("[]")
    with pytest.raises(ValueError, match=r"ledger.json: expected a ledger"):
        protocol(ledger=tmp_path / "ledger.json")
