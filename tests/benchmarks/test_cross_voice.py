"""The benchmark of voices, on features made up so that the answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import cross_voice
from ffdetect.voice.recipes import Voices, folds_of
from ffdetect.voice.statistics import STATISTICS
from tests.preprocess.sounds import buzz

RECIPES = {
    "states": cross_voice.Line((0,), statistics=False),
    "both": cross_voice.Line((0, 1), views=2),
}


@pytest.fixture(scope="module")
def voices() -> Voices:
    """A statistic tells; a source of 15 shifts it."""
    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(15), 12)
    target = np.tile([0, 1], 90)
    features = rng.standard_normal((180, 2, 15 * 4 + STATISTICS))
    features[:, :, -30:] += (2 * target + (source == 3))[:, None, None]
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
    assert rows["chosen"]["within"] > 0.95 and rows["chosen"]["tpr"]["0.1"] > 0.9
    assert rows["Whisper, layers 1 to 4, ridge"]["within"] == pytest.approx(0.5, abs=0.12)
    noise, stored = answer["disturbed"]["noise"], answer["disturbed"]["as stored"]
    assert noise.keys() == stored.keys() == rows.keys()
    assert noise["chosen"]["pooled"] == pytest.approx(0.5, abs=0.12)
    assert stored["chosen"]["pooled"] > 0.9
    assert stored["statistics, ridge"]["pooled"] > 0.9
    assert answer["kinds"].keys() == {"tts"} and len(answer["within"]) == 15
    rates = [alarm["rate"] for alarm in answer["false_alarms"]["0.1"]]
    assert len(rates) == 15 and rates == sorted(rates, reverse=True)
    text = cross_voice.page(answer)
    assert "both (5 of 5 folds)" in text and "| noise | " in text


def test_states_and_statistics_count_alike_however_many_they_are() -> None:
    rng = np.random.default_rng(0)
    heard, counted = rng.standard_normal((2, 400, 1)).astype(np.float32)
    features = np.hstack([np.repeat(heard, 15, 1), np.repeat(counted, STATISTICS, 1)])
    target = (heard + counted > 0)[:, 0].astype(int)
    line = cross_voice.Line((0,), ridge=1e4).solve(features, target, np.ones(400))
    told = torch.eye(2).repeat_interleave(torch.tensor([15, STATISTICS]), 1)
    start, of_states, of_statistics = line(torch.cat([0 * told[:1], told])).tolist()
    assert of_states > start + 0.01
    assert of_states - start == pytest.approx(of_statistics - start, rel=0.2)


@pytest.mark.parametrize("name", cross_voice.DISTURBANCES)
def test_disturbances_are_heard_and_keep_the_length(name: str) -> None:
    sound = buzz(1.0)
    changed = cross_voice.DISTURBANCES[name](sound, 0, [])
    assert changed.dtype == np.float32 and len(changed) == len(sound)
    assert 0.3 < np.corrcoef(changed, sound)[0, 1] < 0.999
