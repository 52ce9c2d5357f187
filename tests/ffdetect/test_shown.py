"""Pictures that are not looked at as they are stored: animations, and those in HDR."""

from __future__ import annotations

import csv
import struct

import pytest
from PIL import Image, features

from ffdetect.scoring import predict


def test_an_animation_scores_as_its_first_frame_and_this_is_said(
    astronaut, tiny, tiny_weights, noise, tmp_path, capsys
):
    folder, out = tmp_path / "animations", tmp_path / "prediction.txt"
    folder.mkdir()
    face = Image.fromarray(astronaut).resize((320, 320))
    other = Image.fromarray(noise).resize((320, 320))
    for name, kind in (("a.apng", "PNG"), ("a.gif", "GIF"), ("a.webp", "WEBP")):
        face.save(folder / name, kind, save_all=True, append_images=[other])
    options = ["--out", str(out), "--weights", str(tiny_weights), "--device", "cpu"]
    assert predict.main([str(folder), *options]) == 0
    said = capsys.readouterr().err.splitlines()
    scores = {row["img_name"]: float(row["y_pred"]) for row in csv.DictReader(out.open())}
    for name in ("a.apng", "a.gif", "a.webp"):
        assert f"{name}: an animation, of which the first frame is looked at" in said
        assert scores[name] == pytest.approx(tiny.score(folder / name), abs=1e-4)
    assert scores["a.apng"] == pytest.approx(tiny.score(face), abs=1e-4)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
def test_a_picture_in_hdr_is_scored_and_this_is_said(astronaut, tiny_weights, tmp_path, capsys):
    file = tmp_path / "a.avif"
    Image.fromarray(astronaut).save(file)
    data = file.read_bytes()
    at = data.index(b"colrnclx") + 8
    file.write_bytes(data[:at] + struct.pack(">HH", 9, 16) + data[at + 4 :])
    options = ["--weights", str(tiny_weights), "--device", "cpu"]
    assert predict.main([str(file), "--out", str(tmp_path / "prediction.txt"), *options]) == 0
    assert "a.avif: it is HDR (PQ), shown in SDR by tone mapping" in capsys.readouterr().err
