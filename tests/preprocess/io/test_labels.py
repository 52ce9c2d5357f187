"""Label files as people and programs write them: one cleaning for every column."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from preprocess.io.labels import FileIndex, Label, LabelError, clean, clean_splits, read_labels
from preprocess.io.sources import Item, find_items

from .test_sources import make_files


def read(tmp_path: Path, content: str | bytes) -> list[Label]:
    file = tmp_path / "labels.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(file)


EXPECTED = [
    Label("a.png", 0, "0", "ffhq", "g1", "train"),
    Label("b c.png", 1, "1", "sd xl", "", "dev"),
]
PLAIN = "path,target,generator,split,group\na.png,0,ffhq,train,g1\nb c.png,1,sd xl,dev,\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace(",", " , "),
        PLAIN.replace("train", "Train ").replace("dev", " val\u00a0"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", " | "),
        "sep=;\r\n" + PLAIN.replace(",", ";"),
        "SEP=;\n" + PLAIN.replace(",", ";"),
        '\ufeff"sep=,",,,,\n' + PLAIN,
        PLAIN.replace(",0,", ",'0,").replace(",1,", ',="1",'),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\r\r\n"),
        "\n\n" + PLAIN.replace("\n", "\n\n") + ",,,,\n",
        PLAIN.replace("path,target", " Img-Path,TARGET").replace("split", "Split"),
        PLAIN.replace("path,target", "File Name,Is Fake"),
        PLAIN.replace("ffhq", '"ffhq"').replace("b c.png", '"b c.png" '),
        PLAIN.replace("ffhq", "' ffhq '").replace(",1,", ", '1',"),
        PLAIN.replace("ffhq,train", 'ffhq, "train"'),
        PLAIN.replace("dev,\n", "dev,nan\n"),
        PLAIN.replace("\n", ",\n"),
        PLAIN.replace("\n", ",note\n", 1).replace("g1", "g1,seen"),
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-32"),
        b"\xfe\xff" + PLAIN.replace(",", "\t").encode("utf-16-be"),
    ],
)
def test_a_table_says_the_same_however_it_is_written(tmp_path, content):
    rows = read(tmp_path, content)
    names = [clean(row.name) for row in rows]
    assert [Label(n, *r) for n, r in zip(names, map(values, rows), strict=True)] == EXPECTED


def values(row: Label) -> tuple:
    return row.target, row.written, row.generator, row.group, row.split


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            0,
            [
                "0",
                "0.0",
                "0.",
                "-0",
                "00",
                " 0 ",
                "0,0",
                "false",
                "FALSE",
                "real",
                "Real",
                "REAL ",
                "bona-fide",
                "bonafide",
                "genuine",
                "original",
                "pristine",
                "0_real",
            ],
        ),
        (
            1,
            [
                "1",
                "1.0",
                "1.000",
                "+1",
                "1e0",
                "true",
                "True",
                "fake",
                "FAKE",
                "Deepfake",
                "spoof",
                "generated",
                "synthetic",
                "manipulated",
                "1_fake",
            ],
        ),
        (-1, ["2", "-1", "0.5", "0.97", "nan", "inf", "", "maybe", "1_0", "real?", "yes"]),
    ],
)
def test_targets_in_numbers_and_words(tmp_path, target, words):
    rows = read(tmp_path, "path;target\n" + "".join(f"{i}.png;{w}\n" for i, w in enumerate(words)))
    assert [(row.target, word) for row, word in zip(rows, words, strict=True)] == [
        (target, word) for word in words
    ]


def test_columns_that_mean_the_same_must_agree(tmp_path):
    rows = read(
        tmp_path,
        "path,target,is_fake,label\na,1,1.0,fake\nb,0,1,real\nc,1,,real\nd,,0,\ne,,,fake\n"
        "f,0,0,1\ng,2,,fake\n",
    )
    assert [(row.target, row.written) for row in rows] == [
        (1, "1"),
        (-1, "0 in target, 1 in is_fake, real in label"),
        (-1, "1 in target, real in label"),
        (0, "0"),
        (1, "fake"),
        (0, "0"),  # a number under label means nothing
        (-1, "2"),
    ]


def test_numbers_under_label_are_refused_since_they_are_written_either_way(tmp_path):
    assert [row.target for row in read(tmp_path, "filename,label\na.png,REAL\nb.png,FAKE\n")] == [
        0,
        1,
    ]
    with pytest.raises(LabelError, match=r"labels\.csv: expected words .* but got '1'.*target"):
        read(tmp_path, "filename,label\na.png,1\n")
    assert read(tmp_path, "filename,label,target\na.png,1,0\n")[0].target == 0


def test_splits_of_any_spelling_and_unknown_ones_listed(tmp_path):
    given = [
        "train",
        "TRAIN",
        "Training",
        "train_set",
        "dev",
        "val",
        "Validation",
        "valid",
        "test",
        "eval",
        "",
        "nan",
        "None",
        "-",
    ]
    assert clean_splits(given) == ["train"] * 4 + ["dev"] * 4 + ["test"] * 2 + [""] * 4
    with pytest.raises(LabelError) as caught:
        read(tmp_path, "path,target,split\na,0,train\nb,0,hold-out\nc,1,hold-out\nd,1,fold 3\n")
    message = str(caught.value)
    assert "labels.csv: expected splits train, dev (val) or test" in message
    assert "'hold-out' (2 rows), 'fold 3' (1 rows)" in message


TABLE = "expected a table with a header but got: "


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,target,target\na.png,0,1\n", "expected one column target but got 2"),
        ("path,Path,target\na.png,b.png,1\n", "expected one column path but got 2"),
        ("path;tgt\na.png;1\n", "expected columns path .* and target but got path;tgt"),
        ('path,target\n"a.png,1\nb.png,0\n', TABLE + "a quote that is not closed"),
        ("path,target\na.png,1,0,x\n", TABLE + "row 2 with 4 fields under 2 columns"),
        (b"path,target\ncaf\xe9.png,1\n", "expected UTF-8 or UTF-16 but got byte 0xe9 in line 2"),
        (b"\xff\xfea", "expected UTF-8 or UTF-16 but got byte 0x61 in line 1"),
        (b"PK\x03\x04\0\0", "expected a table as text but got a zip archive, as xlsx is"),
        (b"\x1f\x8b\x08", "expected a table as text but got a gzip archive"),
        ("\n \n", TABLE + "an empty file"),
        ("path,target\n" + "x" * 200_000 + ",1\n", TABLE + ".*field limit"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, content, message):
    with pytest.raises(LabelError, match=rf"labels\.csv: {message}"):
        read(tmp_path, content)


# Which file a label means

PATHS = ["real/a.png", "real/Größe.png", "fake/b.png", "fake/B.png", "fake/c d.png", "x/e.png"]


@pytest.fixture
def index(tmp_path) -> FileIndex:
    (tmp_path / "set").mkdir()
    return FileIndex(PATHS, tmp_path / "set")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("real/a.png", "real/a.png"),
        ("./real/a.png", "real/a.png"),
        ("real\\a.png", "real/a.png"),
        (" 'fake/c d.png' ", "fake/c d.png"),
        ("a.png", "real/a.png"),
        ("Real/A.PNG", "real/a.png"),  # of a system to which case means nothing
        ("fake/b.png", "fake/b.png"),
        ("fake/B.png", "fake/B.png"),
        ("FAKE/B.PNG", ["fake/B.png", "fake/b.png"]),
        (unicodedata.normalize("NFD", "real/Größe.png"), "real/Größe.png"),
        (unicodedata.normalize("NFD", "größe.png"), "real/Größe.png"),
        ("{root}/real/a.png", "real/a.png"),
        ("{root}/REAL/a.png", "real/a.png"),
        ("/home/somebody/data/set/real/a.png", "real/a.png"),
        ("D:\\data\\set\\real\\a.png", "real/a.png"),
        ("data/set/fake/B.png", "fake/B.png"),
        ("y/e.png", None),
        ("/home/somebody/other/e.png", None),
        ("{root}/../secret.png", None),
        ("../set/real/a.png", "real/a.png"),
        ("fake/c%20d.png", "fake/c d.png"),
        ("real/Gr%C3%B6%C3%9Fe.png", "real/Größe.png"),
        ("real//a.png", "real/a.png"),
        ("x/../real/./a.png", "real/a.png"),
        ("", None),
    ],
)
def test_names_that_labels_call_a_file_by(index, tmp_path, name, path):
    assert index.find(name.replace("{root}", str(tmp_path / "set"))) == path


def test_composed_and_decomposed_names_on_disk_are_two_files(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    index = FileIndex([composed, decomposed], tmp_path)
    assert (index.find(composed), index.find(decomposed)) == (composed, decomposed)
    index = FileIndex([decomposed], tmp_path)
    assert index.find(composed) == decomposed


def test_a_linked_root_may_be_named_either_way(tmp_path):
    make_files(tmp_path / "place", "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "place", target_is_directory=True)
    labels = tmp_path / "labels.csv"
    labels.write_text(f"path,target\n{tmp_path}/link/a.png,1\n{tmp_path}/place/a.png,1\n")
    listing = find_items(tmp_path / "link", labels)
    assert [(i.path, i.target) for i in listing.items] == [("a.png", 1)]
    assert "label without a file" not in listing.problems


# All of it


def listed(tmp_path: Path, table: str) -> tuple[dict[str, Item], dict[str, list[str]], str]:
    make_files(tmp_path / "set", "a.png", "b.png", "c.png")
    labels = tmp_path / "labels.csv"
    labels.write_text(table)
    listing = find_items(tmp_path / "set", labels)
    return {item.path: item for item in listing.items}, listing.problems, listing.report()


def test_rows_that_disagree_are_named(tmp_path):
    items, problems, _ = listed(
        tmp_path,
        "path,target,generator,group,split\n"
        "a.png,1,gan,g,train\na.png,1,gan,g,test\n"  # in two splits: the first counts
        "b.png,0,,,\nB.png,1,,,\nb.png,0,,,\n"  # real and fake: unknown
        "c.png,,,,\nc.png,1,sdxl,,dev\n",  # what one row leaves open, another one tells
    )
    assert (items["a.png"].target, items["a.png"].split) == (1, "train")
    assert items["b.png"].target == -1
    assert (items["c.png"].target, items["c.png"].generator, items["c.png"].split) == (
        1,
        "sdxl",
        "dev",
    )
    assert problems == {
        "file labelled twice": ["a.png", "b.png", "c.png"],
        "file labelled both real and fake": ["b.png"],
        "file labelled with more than one split": ["a.png"],
    }


def test_targets_that_are_not_understood_are_shown_as_they_are_written(tmp_path):
    items, problems, report = listed(
        tmp_path, "path,target\na.png, perhaps\nb.png,perhaps\nc.png,\n"
    )
    assert {item.target for item in items.values()} == {-1}
    shown = "target 'perhaps' is neither 0 (real) nor 1 (fake)"
    assert problems == {shown: ["a.png", "b.png"], "no target": ["c.png"]}
    assert f"  {shown}: 2 ('a.png', 'b.png')" in report.splitlines()


def test_a_column_of_scores_does_not_fill_the_screen(tmp_path):
    make_files(tmp_path / "set", *(f"{i:02}.png" for i in range(30)))
    labels = tmp_path / "labels.csv"
    labels.write_text("path,target\n" + "".join(f"{i:02}.png,0.{i:02}7\n" for i in range(30)))
    report = find_items(tmp_path / "set", labels).report().splitlines()
    assert len(report) == 7 and report[-1].startswith("  target is yet another value: 25 (")


def test_spaces_around_the_names_of_files_do_not_count(tmp_path):
    """Programs that write tables do not quote them, and those that read them take them away."""
    make_files(tmp_path / "set", " a.png", "b.png ")
    labels = tmp_path / "labels.csv"
    labels.write_text("path,target\n a.png,0\nb.png ,1\n")
    listing = find_items(tmp_path / "set", labels)
    assert {item.path: item.target for item in listing.items} == {" a.png": 0, "b.png ": 1}
    assert not listing.problems
