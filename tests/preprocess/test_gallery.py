"""The contact sheet shows what was asked for, and each picture where it belongs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocess import gallery as command
from preprocess.arguments import status_of
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.gallery import gallery
from tests.fuzz import files_in
from tests.preprocess.rows import SMALL, make_row

SIDE, CAPTION, GAP = 160, 34, 8
LABEL_COLOURS = {0: (40, 120, 60), 1: (180, 40, 40), -1: (90, 90, 90)}


def write_cache(path: Path, targets: list[int], settings=SMALL) -> CacheReader:
    """One row for each target; the crop's upper half is flat and tells the row's number."""
    with CacheWriter(path, settings) as writer:
        for number, target in enumerate(targets):
            row = make_row(number, settings, target=target)
            row.crop[:64] = 10 * number + 5
            writer.add([row])
    return CacheReader(path)


def tile(sheet: Image.Image, place: int, kind: int, columns: int = 4) -> np.ndarray:
    """One of the pictures at a place: 0 the crop, 1 its spectrum, 2 its residual."""
    x = GAP + place % columns * (3 * SIDE + GAP) + kind * SIDE
    y = GAP + place // columns * (SIDE + CAPTION + GAP) + CAPTION
    return np.asarray(sheet.crop((x, y, x + SIDE, y + SIDE)))


def rows_shown(sheet: Image.Image, count: int, columns: int = 4) -> list[int]:
    shown = [tile(sheet, place, 0, columns)[5:60].mean() for place in range(count)]
    return [round((value - 5) / 10) for value in shown]


@pytest.mark.parametrize(
    ("faces", "count", "columns", "across", "down"),
    [(6, 6, 4, 4, 2), (6, 4, 2, 2, 2), (3, 24, 4, 3, 1), (1, 24, 4, 1, 1), (5, 5, 1, 1, 5)],
)
def test_size_of_the_sheet(tmp_path, faces, count, columns, across, down):
    sheet = gallery(write_cache(tmp_path / "c", [0, 1, 1, 0, 1, 0][:faces]), count, columns)
    width, height = 3 * SIDE + GAP, SIDE + CAPTION + GAP
    assert sheet.size == (across * width + GAP, down * height + GAP)
    assert sheet.mode == "RGB"


@pytest.mark.parametrize("maps", [("spectrum", "residual"), ()])
def test_each_face_shows_its_crop_spectrum_and_residual(tmp_path, astronaut, maps):
    settings = replace(SMALL, maps=maps)
    crop = astronaut[50:178, 160:288]
    with CacheWriter(tmp_path / "c", settings) as writer:
        rows = [make_row(0, settings), make_row(1, settings)]
        if not maps:  # computed from the crop where the cache has none
            rows[0].crop = crop.copy()
        writer.add(rows)
    sheet = gallery(CacheReader(tmp_path / "c"))
    for place, row in enumerate(rows):
        expected = Image.fromarray(row.crop).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(tile(sheet, place, 0, 2), expected)
        spectrum, residual = (tile(sheet, place, kind, 2).astype(float) for kind in (1, 2))
        assert spectrum.std() > 20 and (spectrum == spectrum[..., :1]).all()
        assert residual.std() > 20 and residual.mean() == pytest.approx(128, abs=12)
        # The spectrum of real numbers looks the same turned by 180 degrees around frequency zero,
        # which lies in row 64 and column 63 of 128, not in the middle between two.
        turned = np.roll(spectrum[::-1, ::-1, 0], (1, -1), (0, 1))
        inner = slice(8, -8), slice(8, -8)
        assert np.corrcoef(spectrum[..., 0][inner].ravel(), turned[inner].ravel())[0, 1] > 0.8


def test_spectrum_has_zero_frequency_in_its_middle(tmp_path):
    settings = replace(SMALL, maps=())
    y, x = np.mgrid[:128, :128]
    slow = (128 + 60 * np.cos(2 * np.pi * (x / 16 + y / 32))).astype(np.uint8)
    with CacheWriter(tmp_path / "c", settings) as writer:
        writer.add([make_row(0, settings, crop=np.repeat(slow[..., None], 3, 2))])
    spectrum = tile(gallery(CacheReader(tmp_path / "c")), 0, 1, 1)[..., 0].astype(float)
    # Eight cycles in 128 px to the right and four down, and the point reflection of it.
    step = SIDE / 128
    for sign in (1, -1):
        top, left = (int(SIDE / 2 + sign * cycles * step) for cycles in (4, 8))
        assert spectrum[top - 2 : top + 4, left - 2 : left + 4].max() > 250
        assert spectrum[top - 2 : top + 4, SIDE - left - 4 : SIDE - left + 2].max() < 250
    assert spectrum[:20].mean() < 128


def test_all_targets_are_shown_in_turn_with_their_own_colour(tmp_path):
    targets = [0] * 8 + [1] * 8 + [-1] * 8
    sheet = gallery(write_cache(tmp_path / "c", targets), count=6, columns=3)
    assert [targets[row] for row in rows_shown(sheet, 6, 3)] == [0, 1, -1, 0, 1, -1]
    pixels = np.asarray(sheet)
    for place, target in enumerate((0, 1, -1)):
        x = GAP + place * (3 * SIDE + GAP)
        caption = pixels[GAP : GAP + 16, x : x + 200].reshape(-1, 3)
        found = {value for value in LABEL_COLOURS if (caption == LABEL_COLOURS[value]).all(1).any()}
        assert found == {target}


def test_faces_are_spread_over_the_cache(tmp_path):
    sheet = gallery(write_cache(tmp_path / "c", [0] * 21), count=3)
    assert rows_shown(sheet, 3, 3) == [0, 10, 20]


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        ([0] + [1] * 9, 6),  # a short class is filled up by the other
        ([1] + [0] * 9, 8),
        ([0, 1, -1] + [1] * 9, 9),
        ([0, 1] * 5, 10),
        ([1] * 5, 24),
        ([0, 1, 1, 0, 1], 24),
    ],
)
def test_as_many_different_faces_as_asked_for_or_all(tmp_path, targets, count):
    expected = min(count, len(targets))
    sheet = gallery(write_cache(tmp_path / "c", targets), count)
    shown = rows_shown(sheet, expected, min(4, expected))
    assert len(set(shown)) == expected
    assert {targets[row] for row in shown} == set(targets)


def test_a_long_name_is_shortened_to_its_end(tmp_path):
    with CacheWriter(tmp_path / "c", SMALL) as writer:
        writer.add([make_row(0, path="very/long/" * 50 + "name.png", frame=7)])
        writer.add([make_row(1, path="a.png")])
    sheet = np.asarray(gallery(CacheReader(tmp_path / "c")))
    between = sheet[:CAPTION, GAP + 3 * SIDE : 2 * GAP + 3 * SIDE]
    assert (between == 255).all()  # it stays in its own column


# The command


def test_the_command_writes_a_picture(tmp_path, capsys):
    write_cache(tmp_path / "c", [0, 1, 1])
    out = tmp_path / "sheet.png"
    arguments = [str(tmp_path / "c"), "--out", str(out), "--count", "2", "--columns", "1"]
    assert command.main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(out)
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (3 * SIDE + 3 * GAP - GAP, 2 * (SIDE + CAPTION + GAP) + GAP)


def test_an_empty_cache_is_1(tmp_path, capsys):
    write_cache(tmp_path / "c", [])
    assert command.main([str(tmp_path / "c"), "--out", str(tmp_path / "sheet.png")]) == 1
    assert "expected faces but the cache is empty" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_that_cannot_be_written_is_1(tmp_path, capsys):
    write_cache(tmp_path / "c", [0])
    out = tmp_path / "missing" / "sheet.png"
    assert command.main([str(tmp_path / "c"), "--out", str(out)]) == 1
    assert "sheet.png: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected a cache but there is no cache.json"),
        (["--count", "0"], "expected 1 to 2000 faces and at least 1 column but got 0, 4"),
        (["--count", "1000000"], "expected 1 to 2000 faces"),
        (["--columns", "-1"], "at least 1 column but got 24, -1"),
    ],
)
def test_wrong_arguments_are_2(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as caught:
        command.main([str(tmp_path), *options])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_file_is_no_cache(tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SystemExit):
        command.main([str(tmp_path / "file")])
    assert "file: expected a cache but there is no cache.json" in capsys.readouterr().err


def test_a_damaged_part_is_named(tmp_path, capsys):
    write_cache(tmp_path / "c", [0, 1])
    (part,) = (tmp_path / "c").glob("part-*")
    reader = CacheReader(tmp_path / "c")
    crop = bytes(reader.crop(0).tobytes())
    data = part.read_bytes()
    at = data.index(crop)
    part.write_bytes(data[: at - 4] + b"xxxx" + data[at:])  # its header
    out = tmp_path / "sheet.png"
    assert command.main([str(tmp_path / "c"), "--out", str(out)]) == 1
    assert "expected a lossless" in capsys.readouterr().err
    assert not out.exists()


def test_a_sheet_is_written_whole_or_not_at_all(tmp_path, full_disk, capsys):
    write_cache(tmp_path / "c", [0, 1])
    out = tmp_path / "sheet.png"
    out.write_bytes(b"the one before")
    full_disk(1000)
    assert command.main([str(tmp_path / "c"), "--out", str(out)]) == 1
    assert "sheet.png: cannot be written: File too large" in capsys.readouterr().err
    assert [f.name for f in tmp_path.iterdir() if f.is_file()] == ["sheet.png"]
    assert out.read_bytes() == b"the one before"


def test_a_stop_is_130_without_a_trace(tmp_path, capsys, monkeypatch):
    write_cache(tmp_path / "c", [0, 1])

    def stop(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "gallery", stop)
    arguments = [str(tmp_path / "c"), "--out", str(tmp_path / "sheet.png")]
    assert status_of(lambda: command.main(arguments)) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_name_of_two_lines_is_captioned(tmp_path):
    with CacheWriter(tmp_path / "cache", SMALL) as writer:
        writer.add([make_row(0, path="two\nlines.jpg")])
    assert gallery(CacheReader(tmp_path / "cache")).width > 3 * SIDE


@pytest.mark.parametrize("name", ["cache.json", "part-00000.arrow", "failures.csv", "x.arrow"])
def test_a_sheet_is_not_written_over_a_cache(tmp_path, capsys, name):
    write_cache(tmp_path / "c", [0, 1])
    before = files_in(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        command.main([str(tmp_path / "c"), "--out", str(tmp_path / "c" / name)])
    assert "expected a file for --out that nothing else uses" in capsys.readouterr().err
    assert files_in(tmp_path) == before
