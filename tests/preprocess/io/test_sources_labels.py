"""What labels say of files, and which file each label is of."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from preprocess.io.labels import LabelError
from preprocess.io.sources import Listing, find_items, printable
from tests.real import needs

from .test_sources import make_files, targets, write_labels


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
        ("path,target\n\xff\n", "expected UTF-8 or UTF-16 but got"),
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
    listing = listing_of(tmp_path, ["sub/a.png"], *outside)
    assert targets(listing) == {"sub/a.png": -1}
    assert len(listing.problems["label without a file"]) == 3
    write_labels(tmp_path / "set" / "manifest.csv", "path,target", *outside)
    assert targets(find_items(tmp_path / "set")) == {"sub/a.png": -1}
