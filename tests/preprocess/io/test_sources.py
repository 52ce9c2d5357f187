"""Every file is found, gets the label that is its own, and what does not fit is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image, features

from preprocess.io.labels import LabelError
from preprocess.io.sources import Listing, find_items, is_clip, printable
from tests.real import needs

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


# What is listed


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


def test_whatever_a_label_names_is_listed(tmp_path):
    make_files(tmp_path / "set", "a.png", "scan.xyz", "notes.txt", "x.wav")
    rows = ("a.png,1", "scan.xyz,0", "notes.txt,1", "x.wav,1")
    labels = write_labels(tmp_path / "labels.csv", "path,target", *rows)
    listing = find_items(tmp_path / "set", labels)
    assert targets(listing) == {"a.png": 1, "scan.xyz": 0}
    assert listing.problems == {"label of a file that is left out": ["notes.txt", "x.wav"]}
    assert listing.left_out == {".txt": ["notes.txt"], "sound": ["x.wav"]}


def test_the_label_file_itself_is_not_left_out(tmp_path):
    make_files(tmp_path, "a.png", "other.csv")
    write_labels(tmp_path / "manifest.csv", "path,target", "a.png,1")
    assert find_items(tmp_path).left_out == {".csv": ["other.csv"]}


# Folder names


@pytest.mark.parametrize(
    ("real", "fake"), [("real", "fake"), ("0_real", "1_fake"), ("Real", "FAKE")]
)
def test_folders_named_real_and_fake(tmp_path, real, fake):
    make_files(tmp_path, f"{real}/a.png", f"x/{fake}/b.png", f"{fake}/c.png")
    listing = find_items(tmp_path)
    assert targets(listing) == {f"{real}/a.png": 0, f"x/{fake}/b.png": 1, f"{fake}/c.png": 1}
    assert listing.labels_from == ["folder names"] and listing.problems == {}


@pytest.mark.parametrize(
    ("name", "target", "generator"),
    [
        ("fake/sdxl/a.png", 1, "sdxl"),
        ("real/ffhq/deep/a.png", 0, "ffhq"),
        ("progan/1_fake/a.png", 1, "progan"),
        ("progan/0_real/a.png", 0, "progan"),
        ("fake/a.png", 1, "fake"),
        ("fake/set/real/a.png", 0, "set"),  # the innermost counts
    ],
)
def test_folders_around_tell_the_generator(tmp_path, name, target, generator):
    (item,) = find_items(make_files(tmp_path, name)).items
    assert (item.target, item.generator) == (target, generator)


def test_files_outside_of_real_and_fake_are_named(tmp_path):
    listing = find_items(make_files(tmp_path, "real/a.png", "other/b.png", "realistic/c.png"))
    assert targets(listing)["other/b.png"] == -1
    assert listing.problems == {"file without a label": ["other/b.png", "realistic/c.png"]}


# Label files


@pytest.mark.parametrize("column", ["path", "img_path", "img_name", "video_name"])
@pytest.mark.parametrize("header", ["{},target", " {} , target", "\ufeff{},target"])
def test_header_variants(tmp_path, column, header):
    make_files(tmp_path / "set", "a.png", "b.png")
    labels = write_labels(
        tmp_path / "labels.txt", header.format(column), " a.png , 0 ", "./b.png,1"
    )
    listing = find_items(tmp_path / "set", labels)
    assert targets(listing) == {"a.png": 0, "b.png": 1}
    assert listing.labels_from == [str(labels)] and listing.problems == {}


def test_manifest_in_the_folder(tmp_path):
    make_files(tmp_path, "real/a.png", "b.png", "c.png")
    write_labels(
        tmp_path / "manifest.csv",
        "path,target,generator,split,group",
        "real/a.png,1,gan,dev,photo 7",  # beats the folder's name
        "b.png,0,ffhq,train,",
        "c.png,0,ffhq,train,nan",
    )
    b, c, a = find_items(tmp_path).items
    assert (a.target, a.generator, a.split, a.group) == (1, "gan", "dev", "photo 7")
    assert (b.target, b.generator, b.split, b.group) == (0, "ffhq", "train", "b.png")
    assert c.group == "c.png"


def test_manifest_one_above(tmp_path):
    make_files(tmp_path, "dev/real/a.png", "dev/b.png", "train/c.png")
    rows = ["dev/real/a.png,0", "dev/b.png,1", "train/c.png,1", "dev/lost.png,1"]
    write_labels(tmp_path / "manifest.csv", "path,target", *rows)
    listing = find_items(tmp_path / "dev")
    assert targets(listing) == {"b.png": 1, "real/a.png": 0}
    # What the manifest says of other folders is no problem of this one.
    assert listing.problems == {"label without a file": ["dev/lost.png"]}


def make_challenge(root: Path) -> Path:
    """The layout of the 2024 Global Multimedia Deepfake Detection challenge."""
    make_files(root / "trainset", "0a.png", "1b.png")
    make_files(root / "valset", "0a.png", "2c.png")
    write_labels(root / "trainset_label.txt", "img_path,target", "0a.png,1", "1b.png,0")
    write_labels(root / "valset_label.txt", "img_name,target", "0a.png,0", "2c.png,1")
    return root


def test_challenge_layout(tmp_path):
    listing = find_items(make_challenge(tmp_path / "phase1"))
    assert targets(listing) == {
        "trainset/0a.png": 1,
        "trainset/1b.png": 0,
        "valset/0a.png": 0,
        "valset/2c.png": 1,
    }
    assert [item.split for item in listing.items] == ["train", "train", "dev", "dev"]
    assert [Path(name).name for name in listing.labels_from] == [
        "trainset_label.txt",
        "valset_label.txt",
    ]
    assert listing.problems == {}


def test_label_file_beside_the_folder(tmp_path):
    root = make_challenge(tmp_path / "phase1")
    listing = find_items(root / "valset")
    assert targets(listing) == {"0a.png": 0, "2c.png": 1}
    assert [item.split for item in listing.items] == ["dev", "dev"]
    single = find_items(root / "valset" / "2c.png")
    assert targets(single) == {"2c.png": 1} and single.problems == {}


def test_given_labels_beat_those_found(tmp_path):
    root = make_challenge(tmp_path / "phase1")
    labels = write_labels(tmp_path / "mine.csv", "path,target", "0a.png,1", "2c.png,0")
    assert targets(find_items(root / "valset", labels)) == {"0a.png": 1, "2c.png": 0}


def test_real_challenge_files(shared):
    for name, column in (("multiFFDI", "img_path"), ("multiFFDV", "video_name")):
        root = needs(shared / "challenge" / name / "phase1")
        listing = find_items(root)
        expected = {
            f"{part}/{row[column]}": row["target"]
            for part in ("trainset", "valset")
            for row in pd.read_csv(root / f"{part}_label.txt").to_dict("records")
        }
        assert targets(listing) == expected != {}
        assert listing.problems == {}
        assert {item.is_video for item in listing.items} == {name == "multiFFDV"}


def test_real_manifest(shared):
    listing = find_items(needs(shared / "faces" / "dev"))
    table = pd.read_csv(shared / "faces" / "manifest.csv").query("split == 'dev'")
    expected = dict(zip(table["path"].str.removeprefix("dev/"), table["target"], strict=True))
    assert targets(listing) == expected
    assert listing.problems == {}
    groups = {item.path: item.group for item in listing.items}
    row = table.iloc[-1]
    assert groups[row["path"].removeprefix("dev/")] == row["group"]


# What does not fit together


def listing_of(tmp_path: Path, files: list[str], *rows: str) -> Listing:
    make_files(tmp_path / "set", *files)
    labels = write_labels(tmp_path / "labels.csv", "path,target", *rows)
    return find_items(tmp_path / "set", labels)


def test_label_without_file_and_file_without_label(tmp_path):
    listing = listing_of(tmp_path, ["a.png", "b.png"], "a.png,1", "gone.png,0")
    assert targets(listing) == {"a.png": 1, "b.png": -1}
    assert listing.problems == {
        "label without a file": ["gone.png"],
        "file without a label": ["b.png"],
    }
    assert "  file without a label: 1 ('b.png')" in listing.report().splitlines()


def test_the_same_file_under_two_names_is_labelled_twice(tmp_path):
    listing = listing_of(tmp_path, ["x/a.png"], "a.png,1", "x/a.png,0", "x\\a.png,0")
    assert targets(listing) == {"x/a.png": -1}
    assert listing.problems == {
        "file labelled twice": ["x/a.png"],
        "file labelled both real and fake": ["x/a.png"],
    }


def test_a_bare_name_is_found_at_any_depth_unless_ambiguous(tmp_path):
    files = ["x/a.png", "x/b.png", "y/b.png"]
    listing = listing_of(tmp_path, files, "a.png,1", "b.png,0", "z/a.png,0")
    assert targets(listing) == {"x/a.png": 1, "x/b.png": -1, "y/b.png": -1}
    assert listing.problems == {
        "label that fits several files": ["b.png"],
        "label without a file": ["z/a.png"],
        "file without a label": ["x/b.png", "y/b.png"],
    }


def test_the_report_shows_three_examples(tmp_path):
    report = listing_of(tmp_path, [f"{i}.png" for i in range(6)], "0.png,1").report()
    assert report.splitlines()[0].startswith("6 files: 0 real, 1 fake, 5 without a label (labels: ")
    assert report.splitlines()[1:] == [
        "  file without a label: 5 ('1.png', '2.png', '3.png' and 2 more)"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,fakeness\na.png,1\n", "expected columns path .* and target but got path, fakeness"),
        ("id,target\na.png,1\n", "expected columns .* but got id, target"),
        ("a.png 1\n", "expected columns"),
        ("", "expected a table with a header but got"),
        ('path,target\n"a.png,1\n', "expected a table with a header but got"),
        ("path,target\n\xff\n", "expected a table with a header but got"),
    ],
)
def test_label_files_that_cannot_be_used(tmp_path, content, message):
    make_files(tmp_path / "set", "a.png")
    labels = tmp_path / "labels.csv"
    labels.write_bytes(content.encode("latin-1"))
    with pytest.raises(LabelError, match=rf"labels\.csv: {message}"):
        find_items(tmp_path / "set", labels)


def test_rows_that_are_too_short_or_too_long(tmp_path):
    assert targets(listing_of(tmp_path, ["a.png", "b.png"], "a.png", "b.png,1")) == {
        "a.png": -1,
        "b.png": 1,
    }
    make_files(tmp_path / "set", "a.png")
    labels = write_labels(tmp_path / "long.csv", "path,target", "a.png,1", "b.png,1,2,3")
    with pytest.raises(LabelError, match=r"long\.csv: expected a table"):
        find_items(tmp_path / "set", labels)


def test_a_comma_at_the_end_of_each_row_does_not_shift_the_columns(tmp_path):
    listing = listing_of(tmp_path, ["a.png", "b.png"], "a.png,1,", "b.png,0,")
    assert targets(listing) == {"a.png": 1, "b.png": 0}


def test_missing_label_file(tmp_path):
    make_files(tmp_path / "set", "a.png")
    for labels in (tmp_path / "labels.csv", tmp_path):
        with pytest.raises(FileNotFoundError, match="expected a label file"):
            find_items(tmp_path / "set", labels)


# Names


NAMES = ["two words.png", "Größe.png", "照片.png", "a,b.png", 'quo"te.png', "per%20cent.png"]


@pytest.mark.parametrize("name", [*NAMES, "line\nbreak.png", "NA.png", "[x].png", "-1.png"])
def test_unusual_names(tmp_path, name):
    quoted = '"' + name.replace('"', '""') + '"'
    listing = listing_of(tmp_path, [name, "other.png"], f"{quoted},1", "other.png,0")
    assert targets(listing) == {name: 1, "other.png": 0}
    assert listing.problems == {}


def test_a_name_of_bytes_that_are_no_text(tmp_path):
    folder = os.fsencode(make_files(tmp_path / "set", "real/a.png"))
    try:
        Path(os.fsdecode(folder + b"/real/caf\xe9.png")).touch()
    except OSError:
        pytest.skip("this file system takes only text")
    listing = find_items(tmp_path / "set")
    assert targets(listing) == {"real/a.png": 0, r"real/caf\xe9.png": 0}
    assert all(item.file.is_file() for item in listing.items)
    for item in listing.items:
        item.path.encode("utf-8")
    listing.report().encode("utf-8")
    assert printable("plain ä") == "plain ä"


def test_a_folder_whose_name_is_no_text(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    try:
        make_files(folder, "a.png")
    except OSError:
        pytest.skip("this file system takes only text")
    write_labels(folder / "manifest.csv", "path,target", "a.png,1")
    listing = find_items(folder)
    assert targets(listing) == {"a.png": 1}
    listing.report().encode("utf-8")


def test_labels_never_reach_outside_of_the_folder(tmp_path):
    make_files(tmp_path, "secret.png")
    make_files(tmp_path / "set", "sub/a.png")
    outside = ["../secret.png,1", f"{tmp_path}/secret.png,1", "sub/../../secret.png,1"]
    listing = listing_of(tmp_path, ["sub/a.png"], *outside, "sub/../sub/a.png,1")
    assert targets(listing) == {"sub/a.png": -1}
    assert len(listing.problems["label without a file"]) == 4
    write_labels(tmp_path / "set" / "manifest.csv", "path,target", *outside)
    assert targets(find_items(tmp_path / "set")) == {"sub/a.png": -1}
