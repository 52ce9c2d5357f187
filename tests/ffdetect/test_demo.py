"""The demo's pictures: three real ones, and a self-blended fake of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ffdetect import Detector, demo


def test_the_demo_writes_reals_and_their_fakes(astronaut, tmp_path, capsys):
    assert demo.main([str(tmp_path)]) == 0
    names = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.*")}
    pictures = ("astronaut_512.png", "astronaut_400.jpg", "astronaut_320.webp")
    assert names == {f"{kind}/{name}" for kind in ("real", "fake") for name in pictures}
    assert len(capsys.readouterr().out.splitlines()) == 6
    for name in pictures:
        real, fake = (np.array(Image.open(tmp_path / kind / name)) for kind in ("real", "fake"))
        assert real.shape == fake.shape
        assert 0.1 < np.abs(real.astype(float) - fake).mean() < 40
    assert np.array_equal(np.array(Image.open(tmp_path / "real" / pictures[0])), astronaut)


def test_the_sheet_shows_what_is_said_of_every_picture(astronaut, tmp_path):
    portraits = sorted((Path(__file__).parents[2] / "examples/portraits").glob("*.jpg"))[:2]
    blank = tmp_path / "blank.png"
    Image.new("RGB", (300, 200), "white").save(blank)
    photograph = tmp_path / "photograph.png"
    Image.fromarray(astronaut).save(photograph)
    drawn = demo.verdict_sheet([photograph, *portraits, blank, blank], Detector.load("fast"))
    assert drawn.size == (5 * 212 + 12, 252 + 12)
    shown = np.array(drawn.crop((12, 12, 212, 212)).convert("L")).astype(float)
    face = np.array(Image.fromarray(astronaut).resize((200, 200)).convert("L")).astype(float)
    assert np.corrcoef(shown.ravel(), face.ravel())[0, 1] > 0.95
    captions = [np.array(drawn)[214:232, 12 + 212 * n : 212 + 212 * n] for n in range(4)]
    assert all(caption.min() < 200 for caption in captions)  # something is written there
    assert not np.array_equal(captions[0], captions[3])  # and not "no face" of everything
