"""benchmarks.cross_family: what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import cross_family
from ffdetect.solving.statistics import MATCHED, Statistics, Store


def test_regenerated_pairs_are_refused(tmp_path, capsys):
    keys = np.array(["a.jpg#-1", *(f"a.jpg#-1#0@taef2@{target}" for target in (0, 1))])
    store = Store(tmp_path / "store", ["lite_rgb"])
    for view in (MATCHED, "P1"):
        store.write(view, Statistics(keys, {"lite_rgb": np.zeros((3, 2176), np.float16)}))
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,target,generator,family,source,group\na.jpg,0,ffhq,,ffhq,\n")
    command = [str(store.folder), "--manifest", str(manifest), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        cross_family.main([*command, "--fast"])
    assert "expected stores without pairs but got 2 of their faces" in capsys.readouterr().err
