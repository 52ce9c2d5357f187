"""The demo's pictures: three real ones, and a self-blended fake of each."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ffdetect import demo


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
