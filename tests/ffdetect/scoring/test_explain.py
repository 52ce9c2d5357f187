"""Heat maps: where they lie, what they add up to, and that looking changes nothing."""

from __future__ import annotations

import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from ffdetect.fakes.regenerate import create_regenerator
from ffdetect.models.gated import GatedNetwork
from ffdetect.models.weights import save_checkpoint
from ffdetect.scoring import explain as command
from ffdetect.scoring.analysis import NoFaceError
from ffdetect.scoring.detector import Detector
from ffdetect.scoring.explain import Explanation, explain, heat_map, save_explanation
from preprocess.faces import maps
from preprocess.faces.face import CropSettings
from preprocess.io.decode import decode_image
from tests.ffdetect.helpers import encode, random_crops, tiny_network
from tests.real import needs, rows_of

pytest.importorskip("captum", reason="heat maps need captum")

SIDES = ("left", "right", "upper", "lower")


def half(side: str, size: int) -> np.ndarray:
    """bool size x size."""
    mask = np.zeros((size, size), bool)
    mask[:, : size // 2] = True
    return {"left": mask, "right": mask[:, ::-1], "upper": mask.T, "lower": mask.T[::-1]}[side]


def lies_in(heat: np.ndarray, mask: np.ndarray) -> bool:
    """Whether there is more evidence for fake inside of the mask than outside."""
    evidence = heat.clip(0)
    return bool(evidence[mask].sum() > evidence[~mask].sum())


def add_grid(crops: torch.Tensor) -> torch.Tensor:
    """A coarse trace of up-sampling on every pixel."""
    marked = crops.clone().float()
    marked[..., ::2, ::2] += 24
    return marked.clamp(0, 255).to(torch.uint8)


def train_on_grids(streams: str) -> GatedNetwork:
    """A tiny network that tells crops with a grid all over from those without."""
    network = tiny_network(size=128, streams=streams).train()
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for step in range(15):
            real = random_crops(4, seed=step)
            crops = torch.cat([real, add_grid(real)])
            logits = network.stream_logits(crops)
            target = (torch.arange(8) >= 4).float()
            loss = sum(
                torch.nn.functional.binary_cross_entropy_with_logits(logit, target)
                for logit in logits
                if logit is not None
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("streams", ["both", "rgb", "frequency"])
def test_the_heat_lies_where_the_trace_is(streams):
    network = train_on_grids(streams)
    real = random_crops(16, seed=1000)
    assert (network(add_grid(real)) > network(real)).float().mean() > 0.9  # it has learnt
    hits = 0
    for number, crop in enumerate(real):
        mask = half(SIDES[number % 4], 128)
        marked = torch.where(torch.from_numpy(mask.copy()), add_grid(crop), crop)
        hits += lies_in(heat_map(network, marked[None]), mask)
    assert binomtest(hits, 16, alternative="greater").pvalue < 0.02, hits


def test_the_heat_of_the_shipped_weights_lies_in_the_regenerated_half(shared):
    folder = shared / "weights" / "regenerators"
    needs(folder / "realesr_general_x4v3.fp16.safetensors")
    shipped = Detector.load("fast", "cpu")  # the best ones take eight times as long
    regenerate = create_regenerator("realesr_general_x4v3", folder)
    hits = count = 0
    for file in rows_of(shared / "faces", 20, generator="ffhq", split="dev")["file"]:
        crop = shipped.crop_largest(decode_image(file))
        if crop is None:
            continue
        mask = half(SIDES[count % 4], len(crop))
        with torch.inference_mode():
            pixels = torch.from_numpy(crop.copy()).permute(2, 0, 1)
            made = regenerate(pixels, np.random.default_rng(count))
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 5)  # no seam to find
        mixed = made.real + (made.fake.float() - made.real) * torch.from_numpy(soft)
        hits += lies_in(heat_map(shipped.network, mixed.round().to(torch.uint8)[None]), mask)
        count += 1
        if count == 16:
            break
    assert count == 16
    assert binomtest(hits, count, alternative="greater").pvalue < 0.05, hits


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"streams": "rgb"},
        {"streams": "frequency", "residual": "srm"},
        {"backbone": "resnet18"},
        {"backbone": "test_efficientnet"},
        {"backbone": "test_convnext"},
        {"backbone": "test_vit", "streams": "rgb"},
    ],
    ids=lambda settings: "-".join(settings.values()) or "tiny",
)
def test_any_network_has_a_heat_map(settings):
    network = tiny_network(**{"size": 128, **settings})
    heat = heat_map(network, random_crops(1))
    assert heat.shape == (128, 128) and heat.dtype == np.float32
    assert np.isfinite(heat).all() and heat.std() > 0


def test_the_mean_of_the_heat_is_gradient_times_features():
    """By hand: the last maps of both streams, without captum."""
    network, crops = tiny_network(size=128), random_crops(1, seed=3)
    features = []

    def keep(module, inputs, output):
        features.append(output.requires_grad_())

    layers = (network.rgb.backbone.layer4, network.frequency.on_residual)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    logit = network(crops)
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(logit.sum(), features)
    expected = sum((f.detach() * g).sum().item() for f, g in zip(features, gradients, strict=True))
    assert heat_map(network, crops).mean() == pytest.approx(expected, rel=1e-3)


def test_an_explanation_holds_what_the_detector_saw(tiny, astronaut):
    result = explain(tiny, astronaut)
    face = tiny.analyze(astronaut).faces[0]
    assert result.score == pytest.approx(face.score, abs=1e-6)
    assert np.array_equal(result.crop, face.crop) and result.crop.dtype == np.uint8
    crops = torch.from_numpy(face.crop.copy()).permute(2, 0, 1)[None]
    logits = tiny.network.stream_logits(crops)
    assert result.rgb == pytest.approx(float(logits.rgb.sigmoid()), abs=1e-5)
    assert result.frequency == pytest.approx(float(logits.frequency.sigmoid()), abs=1e-5)
    assert result.heat.shape == face.crop.shape[:2] and result.heat.dtype == np.float32
    assert np.array_equal(result.residual, maps.residual(crops, "npr")[0].numpy())
    np.testing.assert_allclose(result.spectrum, maps.spectrum(crops)[0].numpy(), atol=0.01)


@pytest.mark.parametrize("streams", ["rgb", "frequency"])
def test_a_stream_that_is_not_there_has_no_opinion(streams, astronaut, tmp_path):
    file = tmp_path / "one.safetensors"
    save_checkpoint(file, tiny_network(streams=streams), CropSettings(), {})
    result = explain(Detector.load(file, "cpu"), astronaut)
    other = {"rgb": "frequency", "frequency": "rgb"}[streams]
    assert getattr(result, streams) == pytest.approx(result.score, abs=1e-5)
    assert getattr(result, other) is None
    save_explanation(result, tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").format == "PNG"


def test_looking_changes_nothing(tiny_weights, astronaut):
    detector = Detector.load(tiny_weights, "cpu")
    before = detector.score(astronaut)
    with torch.inference_mode():  # as a server may call it
        inside = explain(detector, astronaut).heat
    again = explain(detector, astronaut).heat
    np.testing.assert_allclose(again, inside, atol=1e-3 * abs(inside).max())
    assert detector.score(astronaut) == pytest.approx(before, abs=1e-5)
    for module in detector.network.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert not module.training
    for parameter in detector.network.parameters():
        assert not parameter.requires_grad and parameter.grad is None


def test_a_face_can_be_chosen(tiny, astronaut):
    small = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    both = np.hstack([astronaut, np.pad(small, ((0, 256), (0, 0), (0, 0)))])
    faces = tiny.analyze(both).faces
    assert len(faces) == 2
    for number, face in enumerate(faces):
        assert np.array_equal(explain(tiny, both, number).crop, face.crop)
    with pytest.raises(ValueError, match="expected a face from 0 to 1 but got 2"):
        explain(tiny, both, 2)


def test_no_face_and_no_picture_are_errors(tiny, noise):
    with pytest.raises(NoFaceError, match="expected a face but found none in 200 x 160 px"):
        explain(tiny, noise)
    with pytest.raises(ValueError, match="expected"):
        explain(tiny, b"no picture")


@pytest.fixture(scope="module")
def flat() -> Explanation:
    """Grey, with evidence for fake on the left and for real on the right."""
    crop = np.full((128, 128, 3), 128, np.uint8)
    batch = torch.from_numpy(crop).permute(2, 0, 1)[None]
    heat = np.where(half("left", 128), 3, -3).astype(np.float32)
    residual, spectrum = maps.residual(batch, "npr")[0], maps.spectrum(batch)[0]
    return Explanation("$a_b", 0.7, 0.8, None, crop, heat, residual.numpy(), spectrum.numpy())


def test_fake_is_drawn_red_and_real_blue(flat, tmp_path):
    red = {}
    for name, heat in (("as is", flat.heat), ("mirrored", flat.heat[:, ::-1])):
        save_explanation(replace(flat, heat=heat), tmp_path / "new" / f"{name}.png")
        with Image.open(tmp_path / "new" / f"{name}.png") as picture:
            assert picture.format == "PNG"
            pixels = np.array(picture.convert("RGB")).astype(int)
        strong = pixels[..., 0] - pixels[..., 2] > 60
        red[name] = set(np.flatnonzero(strong.sum(0) > 100))
    left, right = (red["as is"] - red["mirrored"]), (red["mirrored"] - red["as is"])
    assert len(left) > 100 and len(right) > 100  # the colour bar is in both
    assert max(left) < min(right)
    names = sorted(file.name for file in (tmp_path / "new").iterdir())
    assert names == ["as is.png", "mirrored.png"]


def test_faint_heat_is_drawn_faint(flat, tmp_path):
    save_explanation(replace(flat, heat=flat.heat * 1e-3), tmp_path / "faint.png")
    pixels = np.array(Image.open(tmp_path / "faint.png").convert("RGB")).astype(int)
    strong = np.abs(pixels[..., 0] - pixels[..., 2]) > 60
    assert (strong.sum(0) > 100).sum() < 30  # the colour bar alone


@pytest.mark.parametrize(
    ("module", "message"),
    [("captum.attr", "heat maps need captum"), ("matplotlib.figure", "drawing needs matplotlib")],
)
def test_a_missing_library_is_named_with_its_extra(
    module, message, tiny_weights, astronaut, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "a.png").write_bytes(encode(astronaut, "PNG"))
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as caught:
        run(tmp_path / "a.png", "--out", out, "--weights", tiny_weights)
    assert caught.value.code == 2
    assert f"{message}: pip install 'ffdetect[explain]'" in capsys.readouterr().err
    assert not out.exists()


def run(*arguments: object) -> int:
    return command.main([*map(str, arguments), "--device", "cpu"])


def test_the_command_draws_every_picture(tiny_weights, astronaut, noise, tmp_path, capsys):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").write_bytes(encode(astronaut, "JPEG"))
    (tmp_path / "noise.png").write_bytes(encode(noise, "PNG"))
    (tmp_path / "text.png").write_text("no picture")
    pictures = ["one/a.jpg", "noise.png", "text.png", "two/a.jpg"]
    out = tmp_path / "out"
    status = run(*(tmp_path / p for p in pictures), "--out", out, "--weights", tiny_weights)
    assert status == 0  # two could not be explained
    err = capsys.readouterr().err
    assert "noise.png: expected a face but found none" in err and "text.png: expected" in err
    files = sorted(out.iterdir())
    assert [file.name for file in files] == ["a.jpg-2.png", "a.jpg.png"]
    for file in files:
        with Image.open(file) as picture:
            picture.verify()
            assert picture.format == "PNG" and min(picture.size) > 400


def test_nothing_explained_is_a_failure(
    tiny_weights, noise, astronaut, tmp_path, full_disk, capsys
):
    (tmp_path / "noise.png").write_bytes(encode(noise, "PNG"))
    (tmp_path / "a.png").write_bytes(encode(astronaut, "PNG"))
    options = ("--out", tmp_path / "out", "--weights", tiny_weights)
    assert run(tmp_path / "noise.png", *options) == 1
    full_disk(1000)
    assert run(tmp_path / "a.png", tmp_path / "noise.png", *options) == 1
    assert "a.png.png: cannot be written: File too large" in capsys.readouterr().err


def test_the_command_draws_one_picture_to_a_file(tiny_weights, tiny, astronaut, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(encode(astronaut, "PNG"))
    out = tmp_path / "sheets" / "why.png"
    assert run(tmp_path / "a.png", "--out", out, "--weights", tiny_weights) == 0
    assert capsys.readouterr().out == f"{tiny.score(tmp_path / 'a.png'):.2f} {out}\n"
    assert Image.open(out).format == "PNG"


def test_wrong_arguments_end_with_a_message(tiny_weights, astronaut, tmp_path, capsys):
    picture = tmp_path / "a.png"
    picture.write_bytes(encode(astronaut, "PNG"))
    before = picture.read_bytes()
    weights = ("--weights", tiny_weights)
    for arguments, message in (
        ((picture, "--out", picture, *weights), "that nothing else uses but got"),
        ((picture, picture, "--out", tmp_path / "b.png", *weights), "to be a folder for several"),
        ((picture, "--out", picture / "below", *weights), "a.png is no folder"),
        ((picture, "--out", tmp_path, "--weights", "nowhere"), "nowhere: expected a weights file"),
    ):
        with pytest.raises(SystemExit) as caught:
            run(*arguments)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
    assert picture.read_bytes() == before
