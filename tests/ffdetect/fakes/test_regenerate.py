"""Regenerated pairs: close to the real face, cached in pairs, continued after a stop."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ffdetect.fakes import regenerate
from ffdetect.fakes.regenerate import regenerate_cache
from ffdetect.fakes.regenerators import Autoencoder, Regenerated, create_regenerator
from preprocess.cache.faces import CacheSettings
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.faces.crop import crop_face
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import CropSettings
from tests.ffdetect.helpers import random_crops, write_cache
from tests.real import needs

UPSCALER = "realesr_general_x4v3"


@pytest.fixture(scope="session")
def regenerators(shared):
    folder = shared / "weights" / "regenerators"
    for kind in ("taef2", UPSCALER):
        needs(folder / f"{kind}.fp16.safetensors")
    return folder


@pytest.fixture(scope="session")
def face(astronaut) -> torch.Tensor:
    """The portrait's face: uint8 3 x 160 x 160."""
    settings = CropSettings(size=160)
    crop = crop_face(astronaut, FaceDetector().detect(astronaut)[0], settings)
    return torch.from_numpy(crop).permute(2, 0, 1)


def psnr(left: torch.Tensor, right: torch.Tensor) -> float:
    error = (left.float() - right.float()).square().mean()
    return float(20 * torch.log10(255 / error.sqrt()))


def test_the_autoencoder_fits_its_file_and_keeps_a_face(regenerators, face):
    state = load_file(regenerators / "taef2.fp16.safetensors")
    network = Autoencoder()
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True)
    picture = face[None].float() / 255
    with torch.inference_mode():
        latent = network.encoder(picture)
        again = network(picture)
    assert latent.shape == (1, 32, 20, 20)
    assert psnr(again.clamp(0, 1) * 255, picture * 255) >= 30


@pytest.mark.parametrize("kind", ["taef2", UPSCALER])
def test_both_of_a_pair_show_the_same_face(regenerators, face, kind):
    make = create_regenerator(kind, regenerators)
    with torch.inference_mode():
        made = make(face, np.random.default_rng(0))
        again = make(face, np.random.default_rng(0))
    for picture in (made.real, made.fake):
        assert picture.shape == face.shape and picture.dtype == torch.uint8
    assert torch.equal(made.fake, again.fake) and torch.equal(made.real, again.real)
    assert not torch.equal(made.real, made.fake)
    assert psnr(made.real, face) > 25
    assert psnr(made.fake, made.real) > (30 if kind == "taef2" else 24)


def real_rows(count: int, fakes: int = 0) -> list[dict]:
    crops = random_crops(count + fakes).permute(0, 2, 3, 1).numpy()
    return [
        {
            "crop": crop,
            "target": int(i >= count),
            "generator": "gan" if i >= count else f"s{i}",
            "group": f"g{i}",
            "split": "train",
        }
        for i, crop in enumerate(crops)
    ]


@pytest.fixture
def invert(monkeypatch):
    """A regenerator without weights, registered as "invert"; counts its calls."""
    calls = []

    def make(crop, rng):
        calls.append(crop)
        return Regenerated(crop, 255 - crop)

    monkeypatch.setattr(regenerate, "create_regenerator", lambda *_: make)
    return calls


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "invert.safetensors").touch()
    return tmp_path


def run(folder, *more: str) -> int:
    out = str(folder / "pairs")
    command = [str(folder / "faces"), "--regenerators", str(folder), "--out", out]
    return regenerate.main([*command, "--kinds", "invert", *more])


def test_the_command_writes_pairs_of_every_real_face(folder, invert, capsys):
    source = write_cache(folder / "faces", real_rows(3, fakes=1))
    assert run(folder) == 0
    assert "3 pairs in" in capsys.readouterr().out
    pairs = CacheReader(folder / "pairs")
    assert pairs.settings.crop == source.settings.crop and pairs.settings.maps == ()
    table = pairs.metadata
    assert len(table) == 6 and table["key"].is_unique
    for path, rows in table.groupby("path"):
        real, fake = rows.index
        assert rows["target"].tolist() == [0, 1]
        number = int(path.split(".")[0])
        assert path == f"{number}.png#-1#0@invert"
        assert rows["generator"].tolist() == [f"s{number}", "invert"]
        assert set(rows["group"]) == {f"g{number}"} and set(rows["split"]) == {"train"}
        assert np.array_equal(pairs.crop(real), source.crop(number))
        assert np.array_equal(pairs.crop(fake), 255 - source.crop(number))


def test_a_second_run_adds_only_what_is_missing(folder, invert):
    write_cache(folder / "faces", real_rows(4))
    assert run(folder, "--limit", "2") == 0
    assert len(invert) == 2
    assert run(folder) == 0
    assert len(invert) == 4
    assert run(folder) == 0
    assert len(invert) == 4
    assert len(CacheReader(folder / "pairs")) == 8


def test_a_stopped_run_keeps_what_it_has(folder, invert, monkeypatch):
    write_cache(folder / "faces", real_rows(4))

    def stop_at_the_third(crop, rng):
        invert.append(crop)
        if len(invert) == 3:
            raise KeyboardInterrupt
        return Regenerated(crop, 255 - crop)

    monkeypatch.setattr(regenerate, "create_regenerator", lambda *_: stop_at_the_third)
    assert run(folder) == 130
    assert len(CacheReader(folder / "pairs")) == 4
    assert run(folder) == 0
    assert len(CacheReader(folder / "pairs")) == 8 and len(invert) == 5


def test_sources_and_limit_choose_the_reals(folder, invert):
    write_cache(folder / "faces", real_rows(5))
    assert run(folder, "--sources", "s1,s3,s4", "--limit", "2") == 0
    assert set(CacheReader(folder / "pairs").metadata["generator"]) == {"s1", "s4", "invert"}


def test_the_command_with_real_weights(regenerators, face, tmp_path):
    """Its fakes are close to their reals, and a run is repeatable from key to pixels."""
    write_cache(tmp_path / "faces", [{"crop": face[:, :128, :128].permute(1, 2, 0).numpy()}])
    readers = []
    for name in ("one", "two"):
        command = [str(tmp_path / "faces"), "--regenerators", str(regenerators)]
        assert regenerate.main([*command, "--out", str(tmp_path / name)]) == 0
        readers.append(CacheReader(tmp_path / name))
    real, fake = readers[0].crops([0, 1])
    assert torch.equal(readers[1].crops([0, 1]), torch.stack([real, fake]))
    assert psnr(real, fake) > 30
    assert readers[0].metadata["generator"].tolist() == ["", "taef2"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sources", "nobody"], "expected real faces .* but found none"),
    ],
)
def test_wrong_arguments_end_with_a_message(folder, invert, capsys, more, message):
    write_cache(folder / "faces", real_rows(1))
    with pytest.raises(SystemExit) as caught:
        run(folder, *more)
    assert caught.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_missing_cache_ends_with_a_message(folder, invert, capsys):
    with pytest.raises(SystemExit) as caught:
        run(folder)
    assert caught.value.code == 2
    assert "faces: expected a cache" in capsys.readouterr().err


def test_the_tensors_tell_what_a_file_holds(regenerators, tmp_path):
    (tmp_path / "mine.safetensors").symlink_to(regenerators / f"{UPSCALER}.fp16.safetensors")
    crop = random_crops(1, 64)[0]
    made, expected = (
        create_regenerator(*named)(crop, np.random.default_rng(0))
        for named in (("mine", tmp_path), (UPSCALER, regenerators))
    )
    assert torch.equal(made.fake, expected.fake)


@pytest.mark.parametrize("kind", ["taef2", UPSCALER])
@pytest.mark.parametrize("content", ["text", "other"])
def test_a_file_of_something_else_is_refused_by_name(tmp_path, tiny_weights, kind, content):
    file = tmp_path / f"{kind}.safetensors"
    file.write_bytes(b"no weights" if content == "text" else tiny_weights.read_bytes())
    with pytest.raises(ValueError, match=rf"{file}: expected"):
        create_regenerator(kind, tmp_path)


def test_continuing_with_other_settings_is_refused(folder, invert, capsys):
    write_cache(folder / "faces", real_rows(1))
    write_cache(folder / "pairs", [], size=160)
    assert run(folder) == 1
    assert "crop.size: 128, not 160" in capsys.readouterr().err


def test_a_stopped_run_leaves_a_sample_of_the_whole_cache(tmp_path):
    """Pairs are made in random order, the same each time."""
    reader = write_cache(tmp_path / "faces", [{}] * 30)  # crop i is the flat grey i
    orders = []
    for name in ("a", "b"):
        seen = []

        def note(crop, rng, seen=seen):
            if len(seen) == 10:
                raise KeyboardInterrupt
            seen.append(int(crop[0, 0, 0]))
            return Regenerated(crop, crop)

        settings = CacheSettings(crop=reader.settings.crop, maps=())
        with pytest.raises(KeyboardInterrupt), CacheWriter(tmp_path / name, settings) as writer:
            regenerate_cache(reader, writer, {"none": note}, range(30))
        orders.append(seen)
    assert orders[0] == orders[1]
    assert max(orders[0]) > 15 and orders[0] != sorted(orders[0])
