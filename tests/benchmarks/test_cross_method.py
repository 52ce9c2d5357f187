"""Clips by unseen methods and of unseen people: the folds, and that a trace is found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file

from benchmarks.cross_method import clip_auc, judge, learn, make_network, people, read_frames
from ffdetect.models.network import NetworkSettings
from ffdetect.models.traces import Statistics, TraceNet
from ffdetect.models.weights import save_checkpoint
from preprocess.faces.face import CropSettings


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
    drawn = []
    for _ in range(2):
        streams = []
        for head in (network.rgb, network.frequency, network.face):
            values = rng.normal(size=(len(faces), len(head.centre)))
            for place, name in enumerate("ab"):
                values[faces["generator"] == name, place] += 4
            streams.append(torch.from_numpy(values).float())
        drawn.append(Statistics(*streams))
    seen, tested = drawn
    network.face.silence()
    learn(network, [seen], faces, np.flatnonzero(faces["generator"] != "b"), {})
    logit = judge(network, tested, np.arange(len(faces)))
    means = pd.Series(logit).groupby(faces["generator"]).mean()
    assert means["a"] > means["real"] + 1
    assert abs(means["b"] - means["real"]) < (means["a"] - means["real"]) / 4
    learn(network, [seen], faces, np.flatnonzero(faces["generator"] != "b"), {}, sureness=0.25)
    np.testing.assert_allclose(judge(network, tested, np.arange(len(faces))), logit / 4, atol=1e-4)


def test_a_face_stream_is_given_and_knows_no_tested_clip(tmp_path):
    settings = NetworkSettings(design="traces", residual="detail", size=64)
    given = TraceNet(settings)
    init = tmp_path / "mobilenet.safetensors"
    save_file(timm.create_model("mobilenetv2_100", num_classes=0).state_dict(), init)
    file = tmp_path / "swaps.safetensors"
    save_checkpoint(file, given, CropSettings(), {"recipe": {"swaps": "b,c"}})
    network = make_network(init, 64, file, ["a", "real"])
    torch.testing.assert_close(network.face.layers[-1].weight, given.face.layers[-1].weight,
                               atol=1e-3, rtol=1e-3)  # fmt: skip
    with pytest.raises(ValueError, match="learnt from b"):
        make_network(init, 64, file, ["a", "b", "real"])
    with pytest.raises(ValueError, match="size=64"):
        make_network(init, 128, file, ["a", "real"])
    assert make_network(init, 64, None, ["a"]).face.layers[-1].bias.item() == -20


def test_frames_are_read_as_said(generated):
    network = TraceNet(NetworkSettings(design="traces", residual="detail", size=256)).eval()
    one, again, other = (read_frames(network, generated, v) for v in ("view 1", "view 1", "view 2"))
    assert len(one.rgb) == len(generated)
    torch.testing.assert_close(one.rgb, again.rgb, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(one.rgb, other.rgb, rtol=1e-3, atol=1e-4)
