"""The benchmark of voices, on features made up so that the answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import cross_voice
from ffdetect.voice.recipes import Recipe, Voices, folds_of
from ffdetect.voice.statistics import STATISTICS
from tests.preprocess.sounds import buzz

RECIPES = {"states": Recipe((0,), statistics=False), "both": Recipe((0, 1))}


@pytest.fixture(scope="module")
def voices() -> Voices:
    """A statistic tells; a source of 15 shifts it."""
    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(15), 12)
    target = np.tile([0, 1], 90)
    features = rng.standard_normal((180, 1, 15 * 4 + STATISTICS))
    features[:, 0, -30:] += 2 * target[:, None] + (source == 3)[:, None]
    table = pd.DataFrame(
        {
            "target": target,
            "source": [f"s{n}" for n in source],
            "group": "",
            "speaker": "",
            "generator": "g",
            "kind": "tts",
        }
    )
    return Voices(features.astype(np.float16), table)


def test_a_statistic_that_tells_is_found_and_reported(voices, monkeypatch) -> None:
    monkeypatch.setattr(cross_voice, "CANDIDATES", RECIPES)
    some = np.delete(np.arange(180), [7, 90])
    noise = np.random.default_rng(1).standard_normal((178, voices.features.shape[2]))
    disturbed = {"noise": noise.astype(np.float16)}
    folds = folds_of(voices)
    judged = [cross_voice.judge(voices, some, disturbed, fold) for fold in folds]
    assert {j.chosen for j in judged} == {"both"}
    answer = cross_voice.gather(voices, some, folds, judged)
    rows = answer["rows"]
    assert rows["chosen"]["within"] > 0.95
    assert rows["Whisper, layers 1 to 4, ridge"]["within"] == pytest.approx(0.5, abs=0.12)
    assert answer["disturbed"]["noise"]["pooled"] == pytest.approx(0.5, abs=0.12)
    assert answer["disturbed"]["as stored"]["pooled"] > 0.9
    assert answer["kinds"].keys() == {"tts"} and len(answer["within"]) == 15
    rates = [alarm["rate"] for alarm in answer["false_alarms"]["0.1"]]
    assert len(rates) == 15 and rates == sorted(rates, reverse=True)
    text = cross_voice.markdown(answer)
    assert "both (5 of 5 folds)" in text and "| noise | " in text


@pytest.mark.parametrize("name", cross_voice.DISTURBANCES)
def test_disturbances_are_heard_and_keep_the_length(name: str) -> None:
    sound = buzz(1.0)
    changed = cross_voice.DISTURBANCES[name](sound, 0, [])
    assert changed.dtype == np.float32 and len(changed) == len(sound)
    assert 0.3 < np.corrcoef(changed, sound)[0, 1] < 0.999
