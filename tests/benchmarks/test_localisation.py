"""benchmarks.localisation: halves are altered as it says, and heat is counted where they are."""

from __future__ import annotations

import json
from math import comb

import cv2
import numpy as np
import pytest
import torch

from benchmarks import localisation
from benchmarks.localisation import (
    SELF_BLEND,
    alter_half,
    alterations,
    choose_rows,
    evaluate,
    heat_share,
    is_left,
    left_share,
    main,
    measure,
)
from ffdetect.fakes.regenerators import Autoencoder, AutoencoderSettings, Twins, save_autoencoder
from preprocess.cache.reader import CacheReader

from ..ffdetect.helpers import tiny_network

pytest.importorskip("captum", reason="heat maps need captum")


@pytest.fixture(scope="module")
def regenerators(tmp_path_factory):
    """A folder with one small random autoencoder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("regenerators")
    network = Autoencoder(AutoencoderSettings(width=8, latent=4, halvings=1, blocks=1))
    save_autoencoder(network, folder / "blur.safetensors", {})
    return folder


def redden(row: int, rng: np.random.Generator) -> Twins:
    """A portrait's colours drawn at random, and the same with more red."""
    real = torch.from_numpy(rng.integers(40, 160, (3, 128, 128), np.uint8))
    fake = real.clone()
    fake[0] += 80
    return Twins(real, fake)


def red(network: object, crops: torch.Tensor) -> np.ndarray:
    """Heat where a crop is redder than it is green."""
    crop = cv2.GaussianBlur(crops[0].permute(1, 2, 0).float().numpy(), (0, 0), 4)
    return crop[..., 0] - crop[..., 1]


@pytest.mark.parametrize("left", [True, False])
def test_one_half_is_of_the_twin_and_the_edge_is_soft(astronaut, left):
    real = torch.from_numpy(astronaut[0:256, 100:356].copy()).permute(2, 0, 1)
    mixed = alter_half(Twins(real, 255 - real), left)
    assert mixed.dtype == torch.uint8
    halves = [(mixed[..., :108], real[..., :108]), (mixed[..., -108:], real[..., -108:])]
    for altered, (found, before) in zip((left, not left), halves, strict=True):
        assert torch.equal(found, 255 - before if altered else before)
    white, black = torch.full((3, 256, 256), 255).byte(), torch.zeros(3, 256, 256).byte()
    row = alter_half(Twins(black, white), left)[0, 0].float()
    steps = row.diff() if not left else -row.diff()
    assert (steps >= 0).all() and steps.max() < 30 and abs(row[127] + row[128] - 255) <= 1


def test_heat_that_speaks_for_real_is_no_evidence():
    heat = np.full((4, 6), -5.0, np.float32)
    assert heat_share(heat, True) == heat_share(heat, False) == 0.5
    heat[1, 2], heat[3, 3], heat[0, 5] = 3, 0.5, 0.5
    assert heat_share(heat, True) == 0.75 and heat_share(heat, False) == 0.25


def test_the_heat_is_counted_in_the_half_that_was_altered(matched, monkeypatch):
    monkeypatch.setattr(localisation, "heat_map", red)
    reader, rows = CacheReader(matched), np.arange(12)
    network = tiny_network(size=128)
    shares = measure(network, reader, rows, "red", redden)
    assert shares.shape == (12, 2)
    sides = {is_left(key) for key in reader.metadata["key"]}
    assert sides == {True, False}
    assert (shares[:, 0] > 0.9).all()  # all of the red is there
    assert (abs(shares[:, 1] - 0.5) < 0.2).all() and shares[:, 1].std() > 0
    again = measure(network, reader, rows[3:5], "red", redden)
    np.testing.assert_allclose(again, shares[3:5], atol=1e-5)
    other = measure(network, reader, rows[:1], "other", redden)
    assert other[0, 1] != shares[0, 1]  # another draw for each kind


def test_both_pictures_are_saved_alike(matched, monkeypatch):
    qualities, recode = [], localisation.recode

    def keep(pictures, format, quality):
        qualities.append((len(pictures), format, quality))
        return recode(pictures, format, quality=quality)

    monkeypatch.setattr(localisation, "heat_map", red)
    monkeypatch.setattr(localisation, "recode", keep)
    measure(tiny_network(size=128), CacheReader(matched), np.arange(2), "red", redden)
    assert qualities == [(2, "JPEG", 85)] * 2


def test_figures_of_known_shares():
    rng = np.random.default_rng(0)
    untouched = rng.uniform(0.2, 0.8, 400)
    altered = np.clip(untouched + rng.normal(0.03, 0.1, 400), 0, 1)
    altered[:40] = untouched[:40]  # these do not move
    result = evaluate("x", np.column_stack([altered, untouched]))
    change = altered - untouched
    assert (result.kind, result.faces) == ("x", 400)
    assert result.found == np.mean([a > 0.5 for a in altered])
    assert result.found_untouched == np.mean([u > 0.5 for u in untouched])
    assert result.share - result.share_untouched == pytest.approx(result.change.value)
    error = 1.96 * change.std() / 20
    assert result.change.value == pytest.approx(change.mean())
    assert result.change.low == pytest.approx(change.mean() - error, abs=error / 5)
    assert result.change.high == pytest.approx(change.mean() + error, abs=error / 5)
    more = int((change > 0).sum())
    assert result.grew == more / 360
    tail = sum(comb(360, k) for k in range(max(more, 360 - more), 361)) / 2**360
    assert result.p_value == pytest.approx(min(1, 2 * tail))
    still = evaluate("x", np.column_stack([untouched, untouched]))
    assert still.change.low == still.change.high == 0 and still.p_value == 1


def test_a_side_that_is_always_hotter_shows(matched):
    faces = CacheReader(matched).metadata
    left = np.array([is_left(key) for key in faces["key"]])
    shares = np.column_stack([np.zeros(12), np.where(left, 0.8, 0.2)])
    assert left_share(faces, shares).value == pytest.approx(0.8)


def test_self_blends_change_the_face_and_regenerators_the_whole(matched, regenerators):
    reader = CacheReader(matched)
    ways = alterations(reader, regenerators, torch.device("cpu"))
    assert list(ways) == [SELF_BLEND, "blur"]
    for alter in ways.values():
        with torch.inference_mode():
            twins = alter(0, np.random.default_rng(0))
        assert twins.real.shape == twins.fake.shape == (3, 256, 256)
        resampled = (twins.real.float() - reader.crops([0])[0]).abs().mean()
        assert resampled < 3  # by regenerators at times
        assert (twins.fake.float() - twins.real).abs().mean() > 0.1


def test_held_out_reals_are_chosen(generated):
    faces = generated.metadata
    chosen = faces.iloc[choose_rows(faces)]
    assert chosen.groupby(["generator", "split"]).size().to_dict() == {
        ("dfdc", "dev"): 6,
        ("ffhq", "dev"): 6,
    }
    limited = faces.iloc[choose_rows(faces, 2)]
    assert limited["generator"].value_counts().to_dict() == {"dfdc": 2, "ffhq": 2}
    with pytest.raises(ValueError, match="expected two held-out real faces or more but got 0"):
        choose_rows(faces[faces["target"] == 1])


def test_the_command_is_resumed_and_writes_a_row_a_kind(
    matched, tiny_weights, regenerators, tmp_path, capsys, monkeypatch
):
    out, measured, original = tmp_path / "new" / "localisation", [], localisation.measure

    def stop_at_the_second(network, reader, rows, kind, alter):
        measured.append(kind)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return original(network, reader, rows, kind, alter)

    monkeypatch.setattr(localisation, "measure", stop_at_the_second)
    given = [str(matched), "--regenerators", str(regenerators), "--weights", str(tiny_weights)]
    given += ["--limit", "4", "--out", str(out)]
    assert main(given) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert main(given) == 0
    assert measured == [SELF_BLEND, "blur", "blur"]
    assert sorted(file.name for file in out.parent.iterdir()) == [
        "localisation.json",
        "localisation.md",
    ]
    values = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert values["command"] == " ".join(["python -m benchmarks.localisation", *given])
    assert values["faces"] == {"dfdc": 1, "ffhq": 1}
    assert [row["kind"] for row in values["results"]] == [SELF_BLEND, "blur"]
    for row in values["results"]:
        assert row["faces"] == 2 and 0 <= row["share"] <= 1
        assert row["change"]["low"] <= row["change"]["value"] <= row["change"]["high"]
    text = out.with_suffix(".md").read_text("utf-8")
    assert text.startswith(f"`{values['command']}`") and "| blur | 2 |" in text
    assert text.endswith(capsys.readouterr().out)


def test_wrong_arguments_end_with_a_message(matched, tiny_weights, tmp_path, capsys):
    given = [str(matched), "--weights", str(tiny_weights), "--regenerators", str(tmp_path)]
    for more, message in (([], "expected regenerators"), (["--limit", "0"], "expected --limit")):
        with pytest.raises(SystemExit) as caught:
            main([*given, *more, "--out", str(tmp_path / "x")])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
