"""The probe of residuals runs from caches to its table and JSON."""

from __future__ import annotations

import json

from benchmarks.residuals import main
from preprocess.faces.maps import RESIDUALS


def test_every_residual_is_judged_by_every_generator(faces_cache, tmp_path, capsys):
    out = tmp_path / "new" / "residuals.json"
    assert main([str(faces_cache), str(faces_cache), "--out", str(out)]) == 0
    results = json.loads(out.read_text())["results"]
    assert set(results) >= set(RESIDUALS)
    for rows in results.values():
        assert [row["generator"] for row in rows] == ["dfdc_swap", "gan"]
        assert all(0 <= row["auc"]["value"] <= 1 for row in rows)
    printed = capsys.readouterr().out
    assert all(f"| {kind} |" in printed for kind in results)
