"""Mixes of training data, judged by the heads that they give."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks.ablations import Part, Row, judge, main, rows_to_try
from tests.ffdetect.helpers import random_crops, write_cache


def part(rng: np.random.Generator, direction: int, count: int = 200) -> Part:
    """Pairs whose fakes differ in one coordinate of six."""
    x = rng.normal(size=(2 * count, 6))
    x[1::2, direction] += 3
    return Part(torch.from_numpy(x).float(), torch.from_numpy(x).float())


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    return {"twin": part(rng, 0), "gan": part(rng, 1), "swaps": part(rng, 2)}


@pytest.fixture
def matched(parts):
    """Generators "gan", "new" (like the twins) and "dfdc_swap", each beside its reals."""
    rng = np.random.default_rng(1)
    generator = np.repeat(["ffhq", "gan", "new", "dfdc", "dfdc_swap"], 80)
    target = np.repeat([0, 1, 1, 0, 1], 80)
    x = rng.normal(size=(400, 6))
    for name, direction in (("gan", 1), ("new", 0), ("dfdc_swap", 2)):
        x[generator == name, direction] += 3
    both = torch.from_numpy(x).float()
    return Part(both, both), generator, target


def test_a_mix_finds_what_it_was_made_of(parts, matched):
    twins = judge(Row("t", ("twin",)), parts, *matched)
    assert twins["new"] > 0.95 > 0.6 > max(twins["gan"], twins["dfdc_swap"])
    swaps = judge(Row("s", ("twin", "swaps")), parts, *matched)
    assert min(swaps["new"], swaps["dfdc_swap"]) > 0.9


def test_the_generator_that_is_judged_does_not_train(parts, matched):
    aucs = judge(Row("g", ("twin", "gan")), parts, *matched)
    assert aucs["gan"] < 0.6 and aucs["new"] > 0.85
    assert "gan" not in judge(Row("g", ("gan",)), parts, *matched)


@pytest.mark.parametrize("options", [{"reading": "rgb"}, {"reading": "frequency"},
                                     {"head": "hidden"}, {"head": "logistic"}])  # fmt: skip
def test_other_readings_and_heads(parts, matched, options):
    assert judge(Row("o", ("twin",), **options), parts, *matched)["new"] > 0.9


def test_the_logistic_head_is_that_of_scikit_learn(parts, matched):
    x, seen = parts["twin"].rgb.numpy(), matched[0].rgb.numpy()
    solved = LogisticRegression(C=0.03).fit(
        (x - x.mean(0)) / x.std(0), np.tile([0, 1], len(x) // 2)
    )
    score = solved.decision_function((seen - x.mean(0)) / x.std(0))
    row = Row("o", ("twin",), reading="rgb", head="logistic")
    chosen = np.isin(matched[1], ["ffhq", "new"])
    expected = roc_auc_score(matched[2][chosen], score[chosen])
    assert judge(row, parts, *matched)["new"] == pytest.approx(expected, abs=1e-3)


def test_the_rows_hold_each_kind_and_each_without_it():
    rows = {row.name: row.kinds for row in rows_to_try(["a", "b", "c"], ["d"], ["gan"])}
    assert rows["a alone"] == ("a",) and rows["d alone"] == ("d",)
    assert rows["all but b"] == ("a", "c")
    assert rows["all and d"] == ("a", "b", "c", "d")
    assert rows["each other generator"] == ("gan",)


def test_the_command_reads_judges_and_goes_on(tmp_path, matched, capsys):
    torch.manual_seed(0)
    save_file(timm.create_model("mobilenetv2_100", num_classes=0).state_dict(),
              tmp_path / "init.safetensors")  # fmt: skip
    crops = random_crops(24).permute(0, 2, 3, 1).numpy()
    names = ["ffhq", "gan", "dfdc", "dfdc_swap"] * 6
    rows = [{"crop": crop, "generator": name, "target": int(name in ("gan", "dfdc_swap")),
             "split": "dev" if i >= 16 else "train"} for i, (crop, name) in
            enumerate(zip(crops, names, strict=True))]  # fmt: skip
    write_cache(tmp_path / "faces", rows)
    twins = [{"crop": crops[i], "path": f"{i // 2}", "target": i % 2, "split": "train",
              "generator": "taef2" if i % 2 else "ffhq"} for i in range(8)]  # fmt: skip
    write_cache(tmp_path / "twins", twins)
    command = [str(tmp_path / "faces"), str(tmp_path / "faces"), "--twins", str(tmp_path / "twins"),
               "--init", str(tmp_path / "init.safetensors"), "--pairs", "16",
               "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 0
    first = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert set(first["results"]["taef2 alone"]) == {"gan", "dfdc_swap"}
    kept = sorted((tmp_path / "runs").rglob("*.npz"))
    times = [file.stat().st_mtime_ns for file in kept]
    assert {file.parent.name for file in kept} == {"taef2", "swaps", "blends", "gan"}
    assert main(command) == 0
    assert [file.stat().st_mtime_ns for file in kept] == times
    assert json.loads((tmp_path / "out.json").read_text("utf-8"))["results"] == first["results"]
    assert "| taef2 alone |" in (tmp_path / "out.md").read_text("utf-8")
