from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess import check
from preprocess import sound as audio
from preprocess.cache.errors import CacheError
from preprocess.cache.log import read_failures
from preprocess.cache.parts import checksum, read_index
from preprocess.cache.reader import CacheReader, SoundCache
from preprocess.io.mel import sound_maps
from preprocess.listen import spread_windows
from preprocess.sound import main

from .sounds import buzz, make_mortal_listen, write_sound


def data(folder: Path) -> Path:
    write_sound(folder / "real" / "a.wav", buzz(9.0))
    write_sound(folder / "fake" / "b.mp3", buzz(1.0, 44_100, seed=1), 44_100)
    write_sound(folder / "fake" / "silence.flac", np.zeros(16_000))
    write_sound(folder / "fake" / "short.wav", buzz(0.2))
    (folder / "real" / "text.wav").write_text("words " * 99)
    return folder


def test_windows_labels_maps_and_failures(tmp_path: Path) -> None:
    out, report = tmp_path / "cache", tmp_path / "report.json"
    command = [str(data(tmp_path / "data")), "--out", str(out), "--workers", "0", "--quiet"]
    assert main([*command, "--report", str(report)]) == 0
    cache = SoundCache(out)
    table = cache.metadata
    assert list(table["key"]) == ["fake/b.mp3#0", "real/a.wav#0", "real/a.wav#4", "real/a.wav#8"]
    assert list(table["target"]) == [1, 0, 0, 0]
    assert list(table["source_rate"]) == [44_100, 16_000, 16_000, 16_000]
    assert table["seconds"].iloc[3] == pytest.approx(1.0)
    expected = buzz(9.0)[64_000:128_000]
    assert np.abs(cache.samples(2) / 32767 - expected).max() < 1e-4
    assert len(cache.samples(3)) == 16_000
    whole = torch.from_numpy(cache.samples(2).astype(np.float32) / 32767)[None]
    mel, high = sound_maps(whole)
    assert np.abs(cache.mel(2) - mel[0].numpy()).max() < 0.05
    assert np.abs(cache.high(2) - high[0].numpy()).max() < 0.05
    kinds = {failure.path: failure.kind for failure in read_failures(out)}
    assert kinds == {
        "fake/silence.flac": "no_sound",
        "fake/short.wav": "no_sound",
        "real/text.wav": "unreadable",
    }
    for name, value in read_index(out)["parts"].items():
        assert checksum((out / name).read_bytes()) == value
    values = json.loads(report.read_text())
    assert (values["windows"], values["failures"]["no_sound"]) == (4, 2)
    # Again: nothing to do; other settings: refused.
    assert main([*command, "--report", str(report)]) == 0
    assert json.loads(report.read_text())["new_windows"] == 0
    assert main([*command, "--seconds", "2"]) == 1


def test_workers_write_the_same_rows(tmp_path: Path) -> None:
    folder = data(tmp_path / "data")
    for workers in ("0", "2"):
        out = str(tmp_path / workers)
        assert main([str(folder), "--out", out, "--workers", workers, "--quiet"]) == 0
    here, there = SoundCache(tmp_path / "0"), SoundCache(tmp_path / "2")
    assert here.metadata.equals(there.metadata)
    assert (here.mel(1) == there.mel(1)).all()


def test_a_file_that_crashes_its_decoder_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = data(tmp_path / "data"), tmp_path / "cache"
    write_sound(folder / "fake" / "crash.wav", buzz(1.0))
    monkeypatch.setattr(audio, "make_listen", make_mortal_listen)
    assert main([str(folder), "--out", str(out), "--workers", "2", "--quiet"]) == 0
    assert list(SoundCache(out).metadata["path"].unique()) == ["fake/b.mp3", "real/a.wav"]
    failures = {failure.path: failure for failure in read_failures(out)}
    assert failures["fake/crash.wav"].kind == "crashed"
    assert "status 7" in failures["fake/crash.wav"].reason
    assert len(failures) == 4


def test_workers_import_neither_torch_nor_the_program() -> None:
    code = "import sys, preprocess.work.pool, preprocess.listen; print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    for module in ("torch", "pandas", "cv2", "pyarrow"):
        assert f"'{module}'" not in loaded.stdout


def test_caches_of_faces_and_of_sound_are_not_confused(tmp_path: Path) -> None:
    out = tmp_path / "cache"
    main([str(data(tmp_path / "data")), "--out", str(out), "--workers", "0", "--quiet"])
    with pytest.raises(CacheError, match="expected a cache of faces"):
        CacheReader(out)


def test_the_same_windows_in_two_caches_are_refused(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in "abc")
    folder = data(tmp_path / "data")
    for out in (first, second):
        assert main([str(folder), "--out", str(out), "--workers", "0", "--quiet"]) == 0
    write_sound(folder / "real" / "a.wav", buzz(9.0, seed=2))  # another file of the same name
    (folder / "fake" / "b.mp3").unlink()
    assert main([str(folder), "--out", str(other), "--workers", "0", "--quiet"]) == 0
    with pytest.raises(CacheError, match=r"without windows in common but .*a and .*b both hold"):
        SoundCache([first, second])
    assert len(SoundCache([first, other])) == 7


def test_a_damaged_cache_of_sound_is_found_and_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "cache"
    command = [str(data(tmp_path / "data")), "--out", str(out), "--workers", "0", "--quiet"]
    assert main(command) == 0
    before = SoundCache(out).metadata
    assert check.main([str(out)]) == 0
    assert "whole: 4 windows in 1 whole parts, 3 files without" in capsys.readouterr().out
    part = out / "part-00000.arrow"
    whole = bytearray(part.read_bytes())
    whole[len(whole) // 2] ^= 1
    part.write_bytes(whole)
    assert check.main([str(out)]) == 1
    assert f"python -m preprocess.sound DATA --out {out}" in capsys.readouterr().out
    assert check.main([str(out), "--repair"]) == 0
    assert f"now run: python -m preprocess.sound DATA --out {out}" in capsys.readouterr().out
    assert main(command) == 0
    assert check.main([str(out)]) == 0
    assert SoundCache(out).metadata.equals(before)


def test_windows_of_a_long_file_are_spread() -> None:
    loud = np.ones(16_000, np.float32)
    starts = [start for start, _ in spread_windows(iter([loud] * 1000), 1.0, 5)]
    assert len(starts) == 5
    assert starts[0] < 200 and starts[-1] > 800
    assert np.diff(starts).max() <= 2 * np.diff(starts).min()
    assert len(spread_windows(iter([loud] * 3), 1.0, 5)) == 3


def test_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "data").mkdir()
    assert main([str(tmp_path / "data"), "--out", str(tmp_path / "c")]) == 1
    assert "expected clips or audio files but found none" in capsys.readouterr().err
