"""Statistics of faces: what is kept of them, and how a stopped run goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ffdetect.fakes.regenerate import regenerate_cache
from ffdetect.fakes.regenerators import Regenerated
from ffdetect.models.frozen.readers import create_readers
from ffdetect.solving import statistics
from ffdetect.solving.statistics import (
    MATCHED,
    Known,
    Statistics,
    Store,
    large_faces,
    read_statistics,
    view_of,
)
from preprocess import crop
from preprocess.cache.faces import CacheSettings
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter

FEATURES = {"lite_rgb": 2176, "lite_residual": 640}


@pytest.fixture(scope="module")
def frames(astronaut, tmp_path_factory):
    """A cache of three framed faces."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        Image.fromarray(np.roll(astronaut, 8 * number, 1)).save(folder / f"{number}.png")
    out = folder.parent / "frames"
    options = ["--size", "388", "--margin", "0.35", "--native", "1", "--maps", "none"]
    assert crop.main([str(folder), "--out", str(out), "--workers", "0", "--quiet", *options]) == 0
    return out


def test_every_view_of_every_face_is_read_once(frames, tmp_path, capsys):
    command = [str(frames), "--out", str(tmp_path / "store"), "--readers", "lite_rgb"]
    assert statistics.main([*command, "--degraded", "1"]) == 0
    store = Store(tmp_path / "store")
    matched, degraded = store.read(MATCHED), store.read("P1")
    assert matched.keys.tolist() == ["0.png#-1", "1.png#-1", "2.png#-1"]
    assert matched.values["lite_rgb"].dtype == np.float16
    assert not np.allclose(matched.values["lite_rgb"], degraded.values["lite_rgb"], atol=0.1)
    before = [file.stat().st_mtime_ns for file in store.parts(MATCHED)]
    assert statistics.main([*command, "--degraded", "1"]) == 0  # nothing is left to do
    assert [file.stat().st_mtime_ns for file in store.parts(MATCHED)] == before


def test_statistics_are_read_in_the_precision_that_is_asked_for(frames, tmp_path, monkeypatch):
    seen = []

    def reader(crops):
        seen.append(torch.is_autocast_enabled("cpu"))
        return torch.zeros(len(crops), 2)

    monkeypatch.setattr(statistics, "create_readers", lambda names: {"lite_rgb": reader})
    for precision in ("fp32", "bf16"):
        out = ["--out", str(tmp_path / precision), "--readers", "lite_rgb", "--degraded", "0"]
        assert statistics.main([str(frames), *out, "--precision", precision]) == 0
    assert seen == [False, True]


def test_faces_of_another_cache_and_another_precision_are_refused(frames, tmp_path, capsys):
    """Of the same file names; a view of its own may have a precision of its own."""
    other, out = tmp_path / "other", tmp_path / "store"
    for number in range(3):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        picture = Image.fromarray(CacheReader(frames).crop(number)).resize((500, 500))
        picture.save(tmp_path / "pictures" / f"{number}.png")
    options = ["--size", "388", "--margin", "0.35", "--native", "1", "--maps", "none"]
    pictures = [str(tmp_path / "pictures"), "--out", str(other), "--workers", "0", "--quiet"]
    assert crop.main([*pictures, *options]) == 0
    assert CacheReader(other).metadata["path"].tolist() == ["0.png", "1.png", "2.png"]
    command = ["--out", str(out), "--readers", "lite_residual"]
    assert statistics.main([str(frames), *command, "--degraded", "0"]) == 0
    assert Store(out).read(MATCHED).precision == "fp32"
    for cache, more, expected in (
        (other, [], "same face 0.png#-1"),
        (frames, ["--precision", "bf16"], "in bf16 but got fp32"),
    ):
        with pytest.raises(SystemExit) as ended:
            statistics.main([str(cache), *command, "--degraded", "1", *more])
        assert ended.value.code == 2 and expected in capsys.readouterr().err
        assert not Store(out).parts("P1")  # before anything was read


def test_faces_that_share_a_key_are_refused(astronaut, tmp_path, capsys):
    small = Image.fromarray(astronaut).resize((300, 300))
    two = Image.new("RGB", (600, 300))
    two.paste(small, (0, 0))
    two.paste(small, (300, 0))
    (tmp_path / "data").mkdir()
    two.save(tmp_path / "data" / "two.png")
    options = "--workers 0 --quiet --size 388 --margin 0.35 --native 1 --maps none".split()
    cache = tmp_path / "frames"
    assert crop.main([str(tmp_path / "data"), "--out", str(cache), "--faces", "all", *options]) == 0
    assert len(CacheReader(cache)) == 2
    with pytest.raises(SystemExit):
        statistics.main([str(cache), "--out", str(tmp_path / "store")])
    assert "several of two.png#-1" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_both_faces_of_a_pair_are_read(frames, tmp_path):
    reader = CacheReader(frames)
    settings = CacheSettings(crop=reader.settings.crop, maps=())
    with CacheWriter(tmp_path / "pairs", settings) as writer:
        inverted = {"inverted": lambda crop, rng: Regenerated(crop, 255 - crop)}
        regenerate_cache(reader, writer, inverted, [0, 2])
    out = tmp_path / "store"
    command = [str(tmp_path / "pairs"), "--out", str(out), "--readers", "lite_rgb"]
    assert statistics.main([*command, "--degraded", "0"]) == 0
    found = Store(out).read(MATCHED)
    assert [Known.of(key) for key in found.keys.tolist()] == [
        (path, "inverted", target) for path in ("0.png", "2.png") for target in (0, 1)
    ]
    assert statistics.main([str(frames), *command[1:], "--degraded", "0"]) == 0
    whole = Store(out).read(MATCHED)
    assert len(whole.keys) == 7
    as_it_is = whole.values["lite_rgb"][whole.keys.tolist().index("0.png#-1")]
    np.testing.assert_array_equal(found.values["lite_rgb"][0], as_it_is)
    assert not np.allclose(found.values["lite_rgb"][1], as_it_is, atol=0.1)


@pytest.mark.parametrize(
    "key, known",
    [
        ("a/b.jpg#-1", ("a/b.jpg", "", -1)),
        ("a#1#0@x@1.mp4#25", ("a#1#0@x@1.mp4", "", -1)),
        ("a@b#c.mp4#25#1@real_4x@0", ("a@b#c.mp4", "real_4x", 0)),
    ],
)
def test_what_a_key_says(key, known):
    assert Known.of(key) == known


def test_only_degraded_views_of_frames_of_clips_keep_the_detail_of_large_faces(frames, monkeypatch):
    cache, seen = CacheReader(frames), []
    faces = cache.metadata
    faces["box"] = [np.array([0, 0, 300, 300], np.float32)] * len(faces)
    faces["frame"] = [-1, 4, 9]

    def noted(frame, key, view, large):
        seen.append((view, large))
        return frame[:320, :320]

    monkeypatch.setattr(statistics, "view_of", noted)
    readers = create_readers(["lite_residual"])
    for view in (MATCHED, "P1"):
        list(read_statistics(readers, cache, [0, 1, 2], view))
    matched, degraded = [(MATCHED, True)] * 3, [("P1", True), ("P1", False), ("P1", False)]
    assert seen == matched + degraded


def test_every_face_is_read_however_many_there_are(frames):
    readers, cache = create_readers(["lite_residual"]), CacheReader(frames)
    (alone,) = read_statistics(readers, cache, [0, 1, 2], MATCHED)
    (many,) = read_statistics(readers, cache, [0, 1, 2] * 3, MATCHED)
    expected = np.tile(alone.values["lite_residual"], (3, 1))
    np.testing.assert_allclose(many.values["lite_residual"], expected, rtol=0.01, atol=0.01)


def test_faces_that_were_shrunk_to_the_frame_are_large(astronaut, tmp_path):
    small = Image.fromarray(astronaut[:224, 110:334])
    for name, side in (("small", 224), ("large", 700)):
        small.resize((side, side)).save(tmp_path / f"{name}.png")
    options = "--workers 0 --quiet --size 388 --margin 0.35 --native 1 --maps none".split()
    assert crop.main([str(tmp_path), "--out", str(tmp_path / "frames"), *options]) == 0
    reader = CacheReader(tmp_path / "frames")
    names = reader.metadata["path"].tolist()
    assert dict(zip(names, large_faces(reader), strict=True)) == {
        "large.png": True,
        "small.png": False,
    }
    frame = reader.crop(names.index("large.png"))
    assert not np.array_equal(*(view_of(frame, "a", "P1", large) for large in (True, False)))
    views = [view_of(frame, "a", MATCHED, large) for large in (True, False)]
    readers = create_readers(["lite_residual"])
    (part,) = read_statistics(readers, reader, [names.index("large.png")], MATCHED)
    got = torch.from_numpy(part.values["lite_residual"]).float()
    crops = [torch.from_numpy(view.copy()).movedim(-1, 0)[None] for view in views]
    with torch.inference_mode():
        near = [float((got - readers["lite_residual"](x)).abs().max()) for x in crops]
    assert near[0] < 0.05 < near[1]


def test_a_stopped_run_goes_on_with_what_is_missing(tmp_path):
    store = Store(tmp_path, ["lite_rgb"])
    values = np.arange(6, dtype=np.float16).reshape(2, 3)
    keys, digests = np.array(["a#0", "b#0"]), np.array(["A", "B"])
    store.write(MATCHED, Statistics(keys, {"lite_rgb": values}, digests, "fp32"))
    wanted = ["a#0", "c#0", "b#0", "d#0"]
    assert store.missing(MATCHED, wanted, "ACBD".__getitem__, "fp32") == [1, 3]
    found = Store(tmp_path).read(MATCHED)
    assert found.values["lite_rgb"].tolist() == values.tolist()
    assert (found.digests.tolist(), found.precision) == (["A", "B"], "fp32")


def test_statistics_that_do_not_say_what_they_are_of_can_only_be_read(tmp_path):
    store, values = Store(tmp_path, ["lite_rgb"]), {"lite_rgb": np.ones((2, 3), np.float16)}
    store.write(MATCHED, Statistics(np.array(["a#0", "b#0"]), values))
    assert store.read(MATCHED).keys.tolist() == ["a#0", "b#0"]
    assert store.read(MATCHED).digests is None
    with pytest.raises(ValueError, match="of a version before"):
        store.missing(MATCHED, ["c#0"], "C".__getitem__, "fp32")
    assert store.missing("P1", ["c#0"], "C".__getitem__, "fp32") == [0]


def test_what_two_runs_at_once_read_from_different_things_is_refused(tmp_path):
    """Neither could see that the other would write."""
    values = {"lite_rgb": np.ones((1, 3), np.float16)}
    for view, other in (("P1", ("B", "fp32")), ("P2", ("A", "bf16"))):
        for digest, precision in (("A", "fp32"), other):
            part = Statistics(np.array(["a#0"]), values, np.array([digest]), precision)
            Store(tmp_path, ["lite_rgb"]).write(view, part)
    with pytest.raises(ValueError, match="got two of a#0"):
        Store(tmp_path).read("P1")
    with pytest.raises(ValueError, match="one precision"):
        Store(tmp_path).read("P2")


def test_runs_at_once_lose_nothing(tmp_path, monkeypatch):
    """Another run writes a part of its own, and the same one, while a part is being written."""
    values, save = {"lite_rgb": np.zeros((1, 3), np.float16)}, np.savez

    def part(name: str) -> Statistics:
        return Statistics(np.array([f"{name}#0"]), values)

    def meanwhile(stream, **arrays):
        monkeypatch.setattr(np, "savez", save)
        for name in ("b", "a"):
            Store(tmp_path, ["lite_rgb"]).write(MATCHED, part(name))
        save(stream, **arrays)

    monkeypatch.setattr(np, "savez", meanwhile)
    Store(tmp_path, ["lite_rgb"]).write(MATCHED, part("a"))
    assert Store(tmp_path).read(MATCHED).keys.tolist() == ["a#0", "b#0"]
    assert len(Store(tmp_path).parts(MATCHED)) == 2


def test_stores_of_other_readers_or_trunks_are_refused(tmp_path):
    Store(tmp_path, ["lite_rgb"])
    with pytest.raises(ValueError, match="expected statistics of"):
        Store(tmp_path, ["lite_residual"])
    file = tmp_path / "store.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps({**about, "readers": {"lite_rgb": "another"}}))
    with pytest.raises(ValueError, match="another"):
        Store(tmp_path, ["lite_rgb"])
    with pytest.raises(ValueError, match="expected a store"):
        Store(tmp_path / "nothing")


@pytest.mark.parametrize(
    "options", ["", "--size 388 --margin 0.35", "--size 388 --margin 0.35 --native 1 --detail 214"]
)
def test_faces_of_another_framing_are_refused(astronaut_folder, tmp_path, capsys, options):
    cache = tmp_path / "cache"
    folder = astronaut_folder(real=1, fake=0)
    command = [str(folder), "--out", str(cache), "--workers", "0", "--quiet", *options.split()]
    assert crop.main(command) == 0
    with pytest.raises(SystemExit):
        statistics.main([str(cache), "--out", str(tmp_path / "store")])
    assert "--size 388 --margin 0.35 --native 1 --detail 0" in capsys.readouterr().err
