"""Every file is found, gets the label that is its own, and what does not fit is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image, features

from preprocess.io.formats import SAMPLE_RATE
from preprocess.io.sound import SoundReader
from preprocess.io.sources import Listing, find_items, is_clip

from ..sounds import buzz, write_sound
from .test_clips import write_clip


def make_files(root: Path, *names: str) -> Path:
    """Tiny pictures (their content does not matter here) below a folder."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in (".jpg", ".png"):
            Image.new("RGB", (4, 4)).save(file)
        else:
            file.touch()
    return root


def write_labels(file: Path, header: str, *rows: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return file


def targets(listing: Listing) -> dict[str, int]:
    return {item.path: item.target for item in listing.items}


def test_pictures_and_clips_of_any_depth_sorted_by_path(tmp_path):
    names = ["b/deep/er/x.JPG", "a.png", "b/clip.MP4", "c.webm", "d.jpeg", "e.tiff", "f.gif"]
    make_files(tmp_path, *names)
    listing = find_items(tmp_path)
    assert [item.path for item in listing.items] == sorted(names)
    assert [item.path for item in listing.items if item.is_video] == ["b/clip.MP4", "c.webm"]
    for item in listing.items:
        assert item.file == tmp_path / item.path and item.file.is_file()
        assert item.group == item.path  # nothing better is known


def test_a_single_file(tmp_path):
    make_files(tmp_path, "a.png", "b.png")
    listing = find_items(tmp_path / "b.png")
    assert targets(listing) == {"b.png": -1}
    write_labels(tmp_path / "manifest.csv", "path,target,group", "a.png,0,x", "b.png,1,y")
    listing = find_items(tmp_path / "b.png")
    assert targets(listing) == {"b.png": 1} and listing.items[0].group == "y"
    assert listing.problems == {}


def test_missing_data(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing: expected a picture, a clip or a folder"):
        find_items(tmp_path / "missing")


def test_an_empty_folder(tmp_path):
    listing = find_items(tmp_path)
    assert listing.items == [] and listing.report().startswith("0 files: 0 real, 0 fake")


def test_no_labels_at_all(tmp_path):
    listing = find_items(make_files(tmp_path, "a.png", "b/c.png"))
    assert targets(listing) == {"a.png": -1, "b/c.png": -1}
    assert listing.labels_from == []
    assert listing.report() == "2 files: 0 real, 0 fake, 2 without a label (labels: none found)"


def test_linked_folders_are_followed_once_and_not_in_circles(tmp_path):
    make_files(tmp_path / "set", "a/x.png")
    make_files(tmp_path / "elsewhere", "y.png", "deep/z.png")
    links = {
        "set/a/loop": "set",
        "set/a/up": "",
        "set/far": "elsewhere",
        "set/zz/far again": "elsewhere/deep",
        "elsewhere/back": "set/a",
        "elsewhere/deep/itself": "elsewhere/deep",
    }
    (tmp_path / "set" / "zz").mkdir()
    for link, target in links.items():
        (tmp_path / link).symlink_to(tmp_path / target, target_is_directory=True)
    (tmp_path / "set" / "linked.png").symlink_to(tmp_path / "set" / "a" / "x.png")
    (tmp_path / "set" / "broken.png").symlink_to(tmp_path / "nowhere")
    listing = find_items(tmp_path / "set")
    assert list(targets(listing)) == [
        "a/x.png",
        "broken.png",
        "far/deep/z.png",
        "far/y.png",
        "linked.png",
    ]
    assert listing.left_out == {
        "link to a folder around this one": ["a/up"],
        "link to a folder listed elsewhere": [
            "a/loop",
            "zz/far again",
            "far/back",
            "far/deep/itself",
        ],
    }


def test_what_is_left_out_is_counted_by_its_kind(tmp_path):
    make_files(tmp_path, "a.png", ".hidden.jpg", ".thumbnails/a.jpg", ".thumbnails/b.jpg")
    make_files(tmp_path, "__MACOSX/._a.png", "Thumbs.db", "sub/desktop.ini", "n.TXT", "s.wav")
    make_files(tmp_path, "notes", "empty", "x.xyz", "camera.dng", "code.ts")
    (tmp_path / "notes").write_text("The free text of a note: its bytes 4 to 8 are no atom.\n")
    (tmp_path / "code.ts").write_text("export const answer: number = 42;\n")
    (tmp_path / "camera.dng").write_bytes(b"II*\0" + bytes(100))
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    listing = find_items(tmp_path)
    assert list(targets(listing)) == ["a.png"]
    assert listing.left_out == {
        "hidden": [".hidden.jpg", ".thumbnails"],
        "Thumbs.db": ["Thumbs.db"],
        "__MACOSX": ["__MACOSX"],
        "desktop.ini": ["sub/desktop.ini"],
        "pipe or device": ["pipe.jpg"],
        ".txt": ["n.TXT"],
        ".ts": ["code.ts"],
        ".dng": ["camera.dng"],
        "sound": ["s.wav"],
        "content that is not known": ["empty", "notes", "x.xyz"],
    }
    assert "  left out, hidden: 2 ('.hidden.jpg', '.thumbnails')" in listing.report().splitlines()
    assert find_items(tmp_path, media=["sound"]).items[0].path == "s.wav"


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [
        ("mp3", "libmp3lame", 8_000),  # each of MPEG's three kinds begins in another way
        ("mp3", "libmp3lame", 24_000),
        ("mp3", "libmp3lame", 44_100),
        ("mp2", "mp2", 22_050),
        ("mp2", "mp2", 44_100),
        ("au", "pcm_s16be", 16_000),
        ("w64", "pcm_s16le", 16_000),
        ("ac3", "ac3", 48_000),
        ("eac3", "eac3", 48_000),
        ("tta", "tta", 16_000),
        ("wv", "wavpack", 16_000),
        ("voc", "pcm_u8", 16_000),
    ],
)
def test_content_tells_sound(tmp_path, suffix, codec, rate):
    made = write_sound(tmp_path / f"x.{suffix}", buzz(1.0, rate), rate, codec)
    content = made.read_bytes()
    if content.startswith(b"ID3"):  # which most files have, and streams have not
        content = content[10 + int.from_bytes(content[6:10], "big") :]
    (tmp_path / "no_ending").write_bytes(content)
    paths = [item.path for item in find_items(tmp_path, media=["sound"]).items]
    assert paths == ["no_ending", f"x.{suffix}"]
    with SoundReader(tmp_path / "no_ending") as reader:
        assert sum(map(len, reader.blocks(0.5))) == pytest.approx(SAMPLE_RATE, rel=0.2)


def content_of(suffix: str, astronaut, folder: Path) -> bytes:
    """A small file of a format, from a real encoder."""
    file = folder / f"made.{suffix}"
    if suffix in CLIPS:
        write_clip(file, CLIPS[suffix], frames=4)
    else:
        Image.fromarray(astronaut[:64, :64]).save(file, PICTURES[suffix])
    return file.read_bytes()


PICTURES = {
    "jpg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "bmp": "BMP",
    "tiff": "TIFF",
    "gif": "GIF",
    "jp2": "JPEG2000",
    "j2k": "JPEG2000",
    "ppm": "PPM",
    "qoi": "QOI",
    "avif": "AVIF",
}
CLIPS = {
    "mp4": "libx264",
    "3gp": "libx264",
    "ts": "libx264",
    "mts": "libx264",
    "m2ts": "libx264",
    "mov": "libx264",
    "mkv": "libx264",
    "webm": "libvpx",
    "avi": "mpeg4",
    "mpg": "mpeg2video",
    "wmv": "wmv2",
    "flv": "flv",
    "ogv": "libtheora",
}


@pytest.mark.parametrize("suffix", [*PICTURES, *CLIPS])
def test_content_tells_where_a_name_does_not(tmp_path, astronaut, suffix):
    if PICTURES.get(suffix) == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    (tmp_path / "made").mkdir()
    content = content_of(suffix, astronaut, tmp_path / "made")
    root = tmp_path / "set"
    root.mkdir()
    names = ["no_ending", f"x.{suffix}", f"x.{suffix}_large", f"x.{suffix}?raw=1", f"x.{suffix}.1"]
    for name in names:
        (root / name).write_bytes(content)
    listing = find_items(root)
    assert sorted(item.path for item in listing.items) == sorted(names)
    assert {item.is_video for item in listing.items} == {suffix in CLIPS}
    assert listing.left_out == {}
    assert find_items(root / "no_ending").items[0].is_video == (suffix in CLIPS)


def test_a_file_is_decoded_as_what_it_is(tmp_path, astronaut):
    clip = write_clip(tmp_path / "clip.mp4", "mpeg4", frames=4)
    picture, other = tmp_path / "picture.png", tmp_path / "other.gif"
    Image.fromarray(astronaut[:8, :8]).save(picture)
    shutil.copy(clip, other)
    assert [is_clip(file) for file in (clip, picture, other)] == [True, False, True]
    shutil.copy(picture, clip)
    assert not is_clip(clip)
    clip.write_bytes(b"damaged")
    assert is_clip(clip) and not is_clip(tmp_path / "missing.png")
    clip.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(40))  # sound alone: a clip without pictures
    assert is_clip(clip)
