from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ffdetect.evaluation.metrics import auc
from ffdetect.evaluation.splits import check_fold
from ffdetect.voice import VoiceDetector
from ffdetect.voice.features import FeatureCache
from ffdetect.voice.recipes import (
    Head,
    KernelRidge,
    Voices,
    choose,
    folds_of,
    held_out_logits,
    shares,
    within_sources,
)
from ffdetect.voice.train import main
from preprocess.sound import main as cache_sound
from tests.preprocess.sounds import buzz, write_sound

from .voices import crushed, write_encoder, write_sources


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, Path]:
    """Cache, manifest, encoder, and weights that were trained on them."""
    folder = tmp_path_factory.mktemp("voices")
    cache, manifest = write_sources(folder)
    encoder = write_encoder(folder / "encoder.safetensors")
    out = folder / "voice.safetensors"
    assert main(command(cache, manifest, encoder, out)) == 0
    return cache, manifest, encoder, out


def command(cache: Path, manifest: Path, encoder: Path, out: Path) -> list[str]:
    return [
        str(cache),
        str(manifest),
        "--whisper",
        str(encoder),
        "--out",
        str(out),
        "--work",
        str(out.parent / "work"),
    ]


def test_weights_tell_voices_they_have_not_heard(made: tuple[Path, ...]) -> None:
    detector = VoiceDetector.load(made[-1])
    sound = buzz(1.0, seed=99)
    assert detector.score(crushed(sound)) > 0.5 > detector.score(sound)


def test_a_run_again_takes_what_is_kept_and_writes_the_same(made: tuple[Path, ...]) -> None:
    *inputs, out = made
    first = out.read_bytes()
    times = {file: file.stat().st_mtime_ns for file in (out.parent / "work").rglob("*.npz")}
    assert main(command(*inputs, out)) == 0
    assert out.read_bytes() == first
    assert times and all(file.stat().st_mtime_ns == time for file, time in times.items())


def test_features_of_another_cache_with_the_same_names_are_not_taken(
    made: tuple[Path, ...], tmp_path: Path
) -> None:
    cache, manifest, encoder, _ = made
    folder = tmp_path / "data"
    shutil.copytree(manifest.parent, folder)
    write_sound(next(folder.rglob("real/3_0_0.wav")), buzz(0.6, seed=77))
    other = tmp_path / "cache"
    assert cache_sound([str(folder), "--out", str(other), "--workers", "0", "--quiet"]) == 0
    work = tmp_path / "work"
    first, second, again = (
        FeatureCache.open(path, manifest, encoder, work) for path in (cache, other, cache)
    )
    assert first.table["key"].tolist() == second.table["key"].tolist()
    for name, disturb in (("stored", None), ("louder", lambda samples, row, others: 2 * samples)):
        features, others = first.read(name, disturb), second.read(name, disturb)
        changed = (features != others).any(1)
        assert first.table["path"][changed].tolist() == ["real/3_0_0.wav"]
        count = len([*work.iterdir()])
        np.testing.assert_array_equal(again.read(name, disturb), features)
        assert len([*work.iterdir()]) == count
        some = first.read(name, disturb, np.arange(3, 6))
        np.testing.assert_array_equal(some, features[3:6])


def test_what_cannot_be_trained_on(made: tuple[Path, ...], tmp_path: Path, capsys) -> None:
    cache, manifest, encoder, _ = made
    lines = manifest.read_text().splitlines()
    few = tmp_path / "few.csv"
    few.write_text("\n".join(lines[:-1]) + "\n")
    assert main(command(cache, few, encoder, tmp_path / "a.safetensors")) == 1
    assert "few.csv" in capsys.readouterr().err
    assert main(command(cache, manifest, manifest, tmp_path / "a.safetensors")) == 1
    assert "manifest.csv" in capsys.readouterr().err
    short = [str(manifest.parent), "--out", str(tmp_path / "short"), "--seconds", "2"]
    assert cache_sound([*short, "--workers", "0", "--quiet"]) == 0
    assert main(command(tmp_path / "short", manifest, encoder, tmp_path / "a.safetensors")) == 1
    assert "short: expected windows of 4 s" in capsys.readouterr().err
    assert not (tmp_path / "a.safetensors").exists()


def test_folds_leave_sources_out(made: tuple[Path, ...]) -> None:
    cache, manifest, encoder, out = made
    opened = FeatureCache.open(cache, manifest, encoder, out.parent / "work")
    voices = Voices(opened.views(1), opened.table)
    folds = folds_of(voices)
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested) == list(range(len(voices.table)))
    for fold in folds:
        check_fold(voices.rows(), fold)
        assert not set(voices.source[fold.train]) & set(voices.source[fold.test])
    logit = held_out_logits(voices, folds, KernelRidge(views=1))[:, 0]
    assert auc(voices.target, logit) > 0.9


@dataclass(frozen=True)
class OneFeature:
    """A recipe whose head says what one feature says."""

    column: int
    views: int = 1

    def solve(self, features: np.ndarray, target: np.ndarray, share: np.ndarray) -> Head:
        return lambda seen: seen[:, self.column]


def test_the_better_recipe_is_chosen_without_a_look_at_the_fold() -> None:
    rng = np.random.default_rng(0)
    count = 120
    target = np.tile([0, 1], count // 2)
    table = {
        "target": target,
        "generator": "x",
        "group": "",
        "speaker": "",
        "source": np.repeat([f"s{n}" for n in range(12)], 10),
    }
    features = rng.standard_normal((count, 1, 2))
    features[:, 0, 1] += 6 * target
    voices = Voices(features.astype(np.float16), pd.DataFrame(table))
    fold = folds_of(voices)[0]
    # In the fold itself it is the other way round, which must not matter.
    features[fold.test, 0, 1] -= 12 * target[fold.test]
    voices = Voices(features.astype(np.float16), voices.table)
    name, reached = choose(voices, fold, {"chance": OneFeature(0), "tells": OneFeature(1)})
    assert name == "tells" and reached["tells"] > reached["chance"] + 0.2


def test_shares_and_sources() -> None:
    table = pd.DataFrame(
        {
            "target": [0] * 6 + [1] * 5,
            "source": list("aaaabc") + list("aaaab"),
            "generator": ["r"] * 6 + ["x"] * 5,
        }
    )
    share = shares(table)
    assert share.mean() == pytest.approx(1)
    assert share[:6].sum() == pytest.approx(share[6:].sum())
    assert share[:4].sum() == pytest.approx(2 * share[4])  # the root of four
    found = within_sources(
        np.array([0, 1] * 3 + [0, 1]), np.arange(8.0), np.array(["a"] * 6 + ["b"] * 2)
    )
    assert list(found) == ["a"]
