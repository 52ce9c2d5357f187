from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.cross_vocoder import folds, markdown, matched, measure
from tests.preprocess.sounds import buzz


def table() -> pd.DataFrame:
    rows = [
        {"source": s, "target": t, "split": "dev" if s == "c" else "train", "group": "nan",
         "generator": "real" if t == 0 else f"{s}{i % 2}"}
        for s in "abcd" for t in (0, 1) for i in range(8)
    ]  # fmt: skip
    made = pd.DataFrame(rows)
    made.loc[made.index[[0, 16]], "group"] = "same recording"  # of a and b
    return made


def test_nothing_judged_is_learnt_nor_its_kin() -> None:
    made = {name: (learnt, judged) for name, learnt, judged in folds(table())}
    source = table()["source"].to_numpy()
    for name in "abcd":
        learnt, judged = made[f"without {name}"]
        assert set(source[judged]) == {name}
        assert set(source[learnt]) == set("abcd") - ({"a", "b"} if name in "ab" else {name})
    learnt, judged = made["train to dev, c"]
    assert set(source[learnt]) == set("abd") and set(source[judged]) == {"c"}


def test_figures_follow_the_scores() -> None:
    rng, rows = np.random.default_rng(0), table()
    told = rng.standard_normal((len(rows), 5)).astype(np.float32)
    told[:, 0] += 6 * rows["target"].to_numpy()
    noise = rng.standard_normal((len(rows), 4))
    tested = {"statistics_stored": told, "mel_stored": noise}
    entries = measure(rows, told[:, None], tested, "stored")
    assert min(entry["auc"] for entry in entries) > 0.9
    assert max(entry["probe_auc"] for entry in entries) < 0.9
    text = markdown({"command": "c", "results": {"stored": entries}})
    assert "| without a | 8 | 8 |" in text and "mean over sources left out" in text


def test_matched_sound_has_no_high_band() -> None:
    sound = buzz(1.0)
    power = np.abs(np.fft.rfft(matched(sound, 0))) ** 2
    assert len(matched(sound, 0)) == len(sound)
    assert power[7300:].sum() < 1e-3 * power.sum()
