"""The picture of a matrix of AUCs."""

from __future__ import annotations

import matplotlib.figure
import pandas as pd
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from benchmarks.heat_map import NEW_PICTURES, SEEN, UNSEEN, draw_heat_map


def test_every_cell_shows_its_number_and_what_was_seen(tmp_path, monkeypatch):
    figures, save = [], matplotlib.figure.Figure.savefig

    def keep(figure, *args, **options):
        figures.append(figure)
        return save(figure, *args, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", keep)
    aucs = pd.DataFrame([[0.75, 0.998, 0.5], [0.4321, 0.6, 0.123]], ["sd", "gan"], list("xyz"))
    seen = [[UNSEEN, SEEN, NEW_PICTURES], [SEEN, UNSEEN, NEW_PICTURES]]
    seen = pd.DataFrame(seen, aucs.index, aucs.columns)
    file = tmp_path / "new" / "map.png"
    draw_heat_map(aucs, seen, "a title\nraw: confounded", file)
    assert Image.open(file).size > (300, 200)
    axes = figures[0].axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    written = ["0.750", "(0.998)", "0.500", "(0.432)", "0.600", "0.123"]
    places = [(x + 0.5, y + 0.5) for y in range(2) for x in range(3)]
    assert cells == dict(zip(places, written, strict=True))
    frames = {p.get_xy() for p in axes.patches if isinstance(p, Rectangle) and not p.get_fill()}
    assert frames == {(0, 0), (1, 1)}
    assert axes.yaxis_inverted()  # the first row on top
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sd", "gan"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y", "z"]
    written = [text.get_text() for text in figures[0].findobj(Text)]
    assert "a title\nraw: confounded" in written
    for words in ("generator unseen", "generator seen, pictures new", "seen in training"):
        assert any(words in text for text in written)
