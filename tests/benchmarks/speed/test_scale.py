"""benchmarks.speed.scale: costs that add up, of caches that are what they claim to be."""

from __future__ import annotations

import json

import pytest

from benchmarks.speed import scale
from benchmarks.speed.scale import Effort, main, write_made_up
from preprocess.cache.check import check_cache
from preprocess.cache.faces import CacheSettings
from preprocess.cache.reader import CacheReader


def test_a_made_up_cache_is_a_cache(tmp_path):
    cache = write_made_up(tmp_path / "c", 300, CacheSettings(), None)
    reader, found = CacheReader(cache), check_cache(cache)
    assert len(reader) == 300 == reader.metadata["key"].nunique() and len(reader.parts) == 3
    assert found.whole and set(reader.metadata["target"]) == {0, 1}
    cost = scale.opened(cache)
    assert cost["seconds"] > 0 and cost["peak_mib"] >= 0 and cost["bytes_per_row"] > 100
    assert reader.crop(299).shape == (256, 256, 3)


def test_every_cost_is_measured(tmp_path, astronaut_folder, monkeypatch, capsys):
    monkeypatch.setattr(scale, "QUICK", Effort(pictures=2, rows=(), parts=(10,), cache=4, pairs=2))
    out = tmp_path / "new" / "scale"
    assert main([str(astronaut_folder()), "--quick", "--out", str(out)]) == 0
    values = json.loads(out.with_suffix(".json").read_text("utf-8"))
    spent = values["cpu_seconds_per_1000_faces"]
    assert list(spent) == "decode,detect and crop,spectrum,residual,encode,checksum,write".split(
        ","
    )
    assert spent["detect and crop"] > spent["decode"] > 0
    crop, whole = 256 * 256 * 3, values["bytes_per_face"]["ppm"]
    assert crop < whole["none"] < whole["spectrum"] < whole["residual"] < whole["both"] < 3 * crop
    assert values["bytes_per_face"]["png"]["none"] < crop
    assert values["flush"]["10"]["bytes"]["cache.json"] > 10 * 64
    assert values["drawn"]["cache_mib"] == pytest.approx(4, rel=0.2)
    assert "| all |" in capsys.readouterr().out


def test_pictures_without_a_face_are_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--quick", "--out", str(tmp_path / "scale")])
    assert "expected pictures but found none" in capsys.readouterr().err
