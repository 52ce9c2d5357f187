"""Clips by unseen methods and of unseen people: the folds, and that a trace is found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.cross_method import clip_auc, judge, learn, people, read_frames
from ffdetect.network import NetworkSettings
from ffdetect.traces import TraceNet


def clips(names, per: int = 4) -> pd.DataFrame:
    rows = [
        {"path": f"{name}{i}", "generator": name, "target": int(name != "real"),
         "group": f"{'set' if name == 'real' else name}/{i % 3}"}
        for name in names for i in range(6) for _ in range(per)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_person_is_in_one_fold_whatever_the_source():
    faces = clips(["real", "a", "b"])
    fold = people(faces, 3)
    assert sorted(set(fold)) == [0, 1, 2]
    person = faces["group"].str.split("/").str[1]
    assert (pd.Series(fold).groupby(person).nunique() == 1).all()


def test_a_clip_counts_once():
    faces = clips(["real", "a"], per=3)
    logit = np.where(faces["target"] == 1, 1.0, 0.0)
    logit[faces["path"] == "a0"] = [-9, 1, 1]  # its mean falls below all reals
    found = clip_auc(faces, logit, np.arange(len(faces)))
    assert found.value == pytest.approx(5 / 6)


def test_what_is_left_out_teaches_nothing():
    """Fakes of "a" differ from reals in one statistic, those of "b" in another."""
    network = TraceNet(NetworkSettings(design="traces", residual="detail", size=64, width=8)).eval()
    faces = clips(["real", "a", "b"], per=60)
    rng = np.random.default_rng(0)
    seen, tested = {}, {}
    for stream in ("rgb", "frequency"):
        for drawn in (seen, tested):
            values = rng.normal(size=(len(faces), getattr(network, stream).linear.in_features))
            for place, name in enumerate("ab"):
                values[faces["generator"] == name, place] += 4
            drawn[stream] = torch.from_numpy(values).float()
    learn(network, [seen], faces, np.flatnonzero(faces["generator"] != "b"), {})
    logit = judge(network, tested, np.arange(len(faces)))
    means = pd.Series(logit).groupby(faces["generator"]).mean()
    assert means["a"] > means["real"] + 1
    assert abs(means["b"] - means["real"]) < (means["a"] - means["real"]) / 4


def test_frames_are_read_as_said(generated):
    network = TraceNet(NetworkSettings(design="traces", residual="detail", size=256)).eval()
    one, again, other = (read_frames(network, generated, v) for v in ("view 1", "view 1", "view 2"))
    assert len(one["rgb"]) == len(generated)
    assert torch.equal(one["rgb"], again["rgb"]) and not torch.equal(one["rgb"], other["rgb"])
