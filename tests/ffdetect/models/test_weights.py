"""Weights files: a round trip, and every damaged or foreign file refused by name."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ffdetect.models.tensor_file import from_int8, read_tensors, to_int8, write_tensors
from ffdetect.models.weights import (
    WeightsError,
    load_checkpoint,
    save_checkpoint,
    write_calibration,
)
from preprocess.faces.face import CropSettings
from tests.ffdetect.helpers import CALIBRATION, random_crops, tiny_network

CROP = CropSettings(size=160, margin=0.3, align="similarity", native=1.0, min_face=40)


@torch.inference_mode()
@pytest.mark.parametrize("half", [True, False])
def test_a_saved_network_comes_back(tmp_path, half):
    network = tiny_network(size=160, residual="srm")
    file = tmp_path / "new" / "w.safetensors"
    about = {"data": {"ffhq": 3}, "note": "Prüfung"}
    save_checkpoint(file, network, CROP, about, half=half)
    loaded = load_checkpoint(file)
    assert loaded.crop == CROP and loaded.about == about
    assert loaded.network.settings == network.settings
    assert not loaded.network.training
    tensors = loaded.network.state_dict()
    assert {t.dtype for t in tensors.values()} <= {torch.float32, torch.int64}
    assert not any(p.requires_grad for p in loaded.network.parameters())
    for name, tensor in network.state_dict().items():
        exact = not half or not tensor.is_floating_point()
        rtol, atol = (0, 0) if exact else (1e-3, 1e-7)
        torch.testing.assert_close(tensors[name], tensor, rtol=rtol, atol=atol)
    crops = random_crops(3, 160)
    before, after = network(crops).sigmoid(), loaded.network(crops).sigmoid()
    torch.testing.assert_close(after, before, atol=0.02 if half else 1e-5, rtol=0)
    kinds = {t.dtype for t in load_file(file).values() if t.is_floating_point()}
    assert kinds == {torch.float16 if half else torch.float32}
    assert [path.name for path in file.parent.iterdir()] == ["w.safetensors"]


@torch.inference_mode()
@pytest.mark.parametrize(
    ("streams", "absent"),
    [("rgb", {"residual": "srm"}), ("frequency", {"backbone": "resnet50", "frozen_norms": True})],
)
def test_a_stream_that_is_not_there_is_not_described(tmp_path, streams, absent):
    file, crops = tmp_path / "w.safetensors", random_crops(2)
    network = tiny_network(size=128, streams=streams, **absent)
    save_checkpoint(file, network, CropSettings(size=128), {}, half=False)
    tensors, metadata = read_tensors(file)
    described = json.loads(metadata["ffdetect"])
    assert not absent.keys() & described["network"].keys()
    described["network"] |= absent  # as versions before did
    older = tmp_path / "older.safetensors"
    write_tensors(older, tensors, {"ffdetect": json.dumps(described)})
    for path in (file, older):
        torch.testing.assert_close(load_checkpoint(path).network(crops), network(crops))


def test_frozen_norms_come_back(tmp_path):
    network = tiny_network(size=128, frozen_norms=True)
    save_checkpoint(tmp_path / "w.safetensors", network, CropSettings(size=128), {})
    loaded = load_checkpoint(tmp_path / "w.safetensors").network.train()
    before = loaded.rgb.backbone.bn1.running_mean.clone()
    loaded(random_crops(2))
    assert torch.equal(loaded.rgb.backbone.bn1.running_mean, before)


def test_values_beyond_float16_are_not_saved_as_infinity(tmp_path):
    network = tiny_network(streams="frequency")
    with torch.no_grad():
        network.frequency.head.logit.bias.fill_(1e6)
    file = tmp_path / "w.safetensors"
    with pytest.raises(ValueError, match=r"frequency.head.logit.bias: .*float16"):
        save_checkpoint(file, network, CropSettings(), {})
    assert not file.exists()
    save_checkpoint(file, network, CropSettings(), {}, half=False)
    assert load_checkpoint(file).network.frequency.head.logit.bias.item() == 1e6


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, file) -> None:
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def foreign_files(folder, weights):
    """Name -> a file that is no weights file of ours."""
    names = "missing truncated short empty text pickle old_pickle picked_trap folder plain".split()
    names += ["lfs", "page"]
    paths = {name: folder / f"{name}.safetensors" for name in names}
    whole = weights.read_bytes()
    paths["truncated"].write_bytes(whole[:-1000])
    paths["short"].write_bytes(whole[:100])
    paths["empty"].write_bytes(b"")
    paths["text"].write_text("no weights at all\n")
    torch.save(tiny_network(streams="frequency").state_dict(), paths["pickle"])
    torch.save({"a": Trap(folder / "sprung")}, paths["picked_trap"])
    paths["old_pickle"].write_bytes(pickle.dumps({"a": 1}))
    paths["lfs"].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    paths["page"].write_text("<!DOCTYPE html><title>404</title>")
    paths["folder"].mkdir()
    save_file({"a": torch.zeros(3)}, paths["plain"])
    return paths


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (float("nan"), torch.float32),
        (float("inf"), torch.float64),
        (float("nan"), torch.float8_e4m3fn),  # which cannot be asked
    ],
)
def test_weights_that_are_not_finite_are_refused(tmp_path, tiny_weights, value, dtype):
    """As a training that diverged leaves them."""
    with safe_open(tiny_weights, "pt") as stored:
        metadata = stored.metadata()
    tensors = load_file(tiny_weights)
    tensors["fusion.gate.weight"][0, 0] = value
    tensors["fusion.gate.weight"] = tensors["fusion.gate.weight"].to(dtype)
    save_file(tensors, tmp_path / "w.safetensors", metadata)
    for load in (load_checkpoint, read_tensors):
        with pytest.raises(WeightsError, match=r"1 of \d+ tensors hold nan .*fusion.gate"):
            load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("shape", [(8, 30), (8, 3, 5, 5)])
def test_int8_comes_nearest_with_a_scale_an_output_channel(shape):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    tensor *= 10.0 ** torch.arange(-4, 4).view(-1, *[1] * (len(shape) - 1))
    tensor[7] = 0
    values, steps = to_int8(tensor, tuple(range(1, len(shape))))
    assert values.dtype == torch.int8 and values.flatten(1).abs().amax(1)[:7].tolist() == [127] * 7
    got = from_int8({"a.q": values, "a.scale": steps.flatten(), "b": torch.ones(2).half()})
    assert ((got["a"] - tensor).abs() <= 0.501 * steps).all()
    assert (steps > 0).all()  # of zeros too
    assert got.keys() == {"a", "b"} and {t.dtype for t in got.values()} == {torch.float32}
    halved = from_int8({"a.q": values, "a.scale": steps.flatten().half()})["a"]
    torch.testing.assert_close(halved[2:], got["a"][2:], rtol=1e-3, atol=0)
    with pytest.raises(KeyError, match=r"a\.scale"):
        from_int8({"a.q": values})


def test_complex_weights_are_refused(tmp_path):
    save_file({"a": torch.zeros(3, dtype=torch.complex64)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="expected real numbers but a holds complex ones"):
        read_tensors(tmp_path / "w.safetensors")


def test_a_name_that_no_file_can_have_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"expected a weights file .* but got no such file"):
        read_tensors(tmp_path / ("x" * 5000))


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    resource = pytest.importorskip("resource", reason="needs limits on the size of files")
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_tensors(file, {"a": torch.zeros(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_bytes() == b"old" and [f.name for f in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "expected a weights file .* but got no such file"),
        ("truncated", "expected a weights file"),
        ("short", "expected a weights file"),
        ("empty", "but got an empty file"),
        ("text", "but got a file of another kind"),
        ("pickle", r"but got a pickle in a zip \(.pth, .pt\)"),
        ("old_pickle", r"but got a pickle \(.pth, .pt, .pkl\)"),
        ("lfs", "but got a Git LFS pointer"),
        ("page", "but got a web page"),
        ("picked_trap", "but got a pickle in a zip"),
        ("folder", "expected a weights file .* but got a folder"),
        ("plain", "no 'ffdetect' entry"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_by_name(tmp_path, tiny_weights, name, message):
    file = foreign_files(tmp_path, tiny_weights)[name]
    with pytest.raises(WeightsError, match=message) as caught:
        load_checkpoint(file)
    assert str(caught.value).startswith(f"{file}: expected")
    assert not (tmp_path / "sprung").exists()


def rewrite(source, target, change, tensors=None):
    """Copy a weights file with changed settings or tensors."""
    with safe_open(source, "pt") as opened:
        settings = json.loads(opened.metadata()["ffdetect"])
    text = change(settings)
    text = text if isinstance(text, str) else json.dumps(settings)
    save_file(tensors or load_file(source), target, {"ffdetect": text})


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(version=99),
        lambda s: s.pop("version"),
        lambda s: s["crop"].update(size=-4),
        lambda s: s["crop"].update(colour="red"),
        lambda s: s.pop("crop"),
        lambda s: s["network"].update(backbone="resnet19"),
        lambda s: s["network"].update(backbone="resnet10t"),
        lambda s: s["network"].update(streams="rgb"),
        lambda s: s["network"].update(width=128),
        lambda s: s["network"].update(width="wide"),
        lambda s: s["network"].update(width=2**40),
        lambda s: s["network"].update(size=2**20),
        lambda s: s["network"].update(dropout=0.5),
        lambda s: s.update(network=None),
        lambda s: s.pop("about"),
        lambda s: s.update(about="a text"),
        lambda s: s.pop("normalisation"),
        lambda s: s.update(maps=None),
        lambda s: "{not json",
        lambda s: "[]",
        lambda s: "null",
        lambda s: "[" * 10**5,
        lambda s: s["crop"].update(size=300.5),
        lambda s: s["crop"].update(min_face=float("nan")),
        lambda s: s["network"].update(size=float("inf")),
        lambda s: s["network"].update(size=10**400),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(tmp_path, tiny_weights, change):
    file = tmp_path / "w.safetensors"
    rewrite(tiny_weights, file, change)
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(file)
    assert str(caught.value).startswith(f"{file}: expected")


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda s: s["network"].update(design="traces"), "'traces'"),
        (lambda s: s["network"].update(design=None), "None"),
    ],
)
def test_weights_of_former_designs_are_refused_with_advice(tmp_path, tiny_weights, change, got):
    file = tmp_path / "w.safetensors"
    rewrite(tiny_weights, file, change)
    with pytest.raises(WeightsError, match=f"but got {got}.* train it anew") as caught:
        load_checkpoint(file)
    assert str(caught.value).startswith(f"{file}: expected a network of a design")


def test_another_version_is_named(tmp_path, tiny_weights):
    file = tmp_path / "w.safetensors"
    rewrite(tiny_weights, file, lambda s: s.update(version=2))
    with pytest.raises(WeightsError, match="expected weights format 1 but got 2"):
        load_checkpoint(file)


@pytest.mark.parametrize(
    ("entry", "name", "value"),
    [
        ("normalisation", "mean", [0.1, 0.2, 0.3]),
        ("maps", "spectrum", "hamming64"),
        ("maps", "residual", "srm"),
    ],
)
def test_weights_that_saw_other_inputs_are_refused(tmp_path, tiny_weights, entry, name, value):
    file = tmp_path / "w.safetensors"
    rewrite(tiny_weights, file, lambda s: s[entry].update({name: value}))
    with pytest.raises(WeightsError, match=f"{entry}.{name}") as caught:
        load_checkpoint(file)
    assert str(file) in str(caught.value) and repr(value) in str(caught.value)


def read(file):
    """The settings and the bytes of the tensors of a weights file."""
    with safe_open(file, "pt") as opened:
        settings = json.loads(opened.metadata()["ffdetect"])
    tensors = load_file(file)
    return settings, {name: (t.dtype, t.numpy().tobytes()) for name, t in tensors.items()}


def test_weights_without_a_calibration_have_none(tmp_path, tiny_weights):
    assert load_checkpoint(tiny_weights).calibration is None
    assert "calibration" not in read(tiny_weights)[0]
    rewrite(tiny_weights, tmp_path / "w.safetensors", lambda s: s.update(calibration=None))
    assert load_checkpoint(tmp_path / "w.safetensors").calibration is None


def test_a_calibration_is_saved_with_the_weights(tmp_path):
    file = tmp_path / "w.safetensors"
    save_checkpoint(file, tiny_network(), CropSettings(), {}, calibration=CALIBRATION)
    assert load_checkpoint(file).calibration == CALIBRATION


@pytest.mark.parametrize("half", [True, False])
def test_a_calibration_changes_nothing_else(tmp_path, half):
    file, out = tmp_path / "w.safetensors", tmp_path / "new" / "out.safetensors"
    save_checkpoint(file, tiny_network(), CropSettings(), {"note": "ä"}, half=half)
    write_calibration(file, out, CALIBRATION)
    write_calibration(out, out, replace(CALIBRATION, bias=0.5))  # again, in place
    (settings, tensors), (before, tensors_before) = read(out), read(file)
    assert settings.pop("calibration")["bias"] == 0.5 and settings == before
    assert tensors == tensors_before
    assert load_checkpoint(out).calibration == replace(CALIBRATION, bias=0.5)
    assert [path.name for path in out.parent.iterdir()] == ["out.safetensors"]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(temperature=float("nan")),
        lambda c: c.update(temperature="2"),
        lambda c: c.update(temperature=-2),
        lambda c: c.update(bias=float("inf")),
        lambda c: c.pop("bias"),
        lambda c: c.update(colour="red"),
        lambda c: c.pop("thresholds"),
        lambda c: c.update(thresholds=[0.5, 0.6, 0.9]),
        lambda c: c["thresholds"].pop("0.01"),
        lambda c: c["thresholds"].update(few=0.5),
        lambda c: c["thresholds"].update({"0.1": None}),
        lambda c: c.update(reals="many"),
        lambda c: c.update(sources=3),
        lambda c: c.update(date=20240101),
    ],
)
def test_a_damaged_calibration_is_refused_by_name(tmp_path, tiny_weights, change):
    entry = CALIBRATION.to_dict()
    change(entry)
    assert_refused(tmp_path / "w.safetensors", tiny_weights, entry)


@pytest.mark.parametrize("entry", ["yes", 2.5, True, []])
def test_what_is_no_calibration_is_refused_by_name(tmp_path, tiny_weights, entry):
    assert_refused(tmp_path / "w.safetensors", tiny_weights, entry)


def assert_refused(file, weights, calibration):
    """Weights with this calibration can neither be used nor be calibrated again."""
    rewrite(weights, file, lambda settings: settings.update(calibration=calibration))
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(file)
    assert str(caught.value).startswith(f"{file}: expected")
    out = file.with_name("out.safetensors")
    with pytest.raises(WeightsError):
        write_calibration(file, out, CALIBRATION)
    assert not out.exists()


@pytest.mark.parametrize("change", ["drop", "add", "reshape", "int64", "int8", "bool"])
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, tiny_weights, change):
    tensors = load_file(tiny_weights)
    if change == "drop":
        del tensors["fusion.gate.weight"]
    elif change == "add":
        tensors["fusion.extra"] = torch.zeros(2)
    elif change != "reshape":
        tensors["fusion.gate.weight"] = tensors["fusion.gate.weight"].to(getattr(torch, change))
    else:
        tensors["fusion.gate.weight"] = torch.zeros(3, 3)
    file = tmp_path / "w.safetensors"
    rewrite(tiny_weights, file, lambda s: None, tensors)
    with pytest.raises(WeightsError, match=rf"(?s)^{file}: .*fusion"):
        load_checkpoint(file)
