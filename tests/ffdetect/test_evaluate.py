"""ffdetect evaluate: from a table of scores and labels, or from a cache and weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ffdetect.evaluate import main
from preprocess.cache.reader import CacheReader
from tests.ffdetect.helpers import write_cache


@pytest.fixture
def table(tmp_path: Path) -> list[str]:
    """The command's arguments: 40 scores, the labels of 39 of them, one of which has none."""
    rng = np.random.default_rng(0)
    labels, scores = ["path,target,generator,group"], ["img_name,y_pred"]
    for number in range(40):
        fake, source = number % 2, number % 4 // 2
        generator = (["ffhq", "unsplash"], ["sdxl", "flux"])[fake][source]
        name = f"{'fake' if fake else 'real'}/{number}.jpg"
        scores.append(f"{name},{rng.normal(0.4 + 0.2 * fake, 0.1):.6f}")
        if number:
            labels.append(f"{name},{fake},{generator},")
    labels.append("real/nobody.jpg,0,ffhq,")
    (tmp_path / "labels.csv").write_text("\n".join(labels), "utf-8")
    (tmp_path / "prediction.txt").write_text("\n".join(scores), "utf-8")
    return [str(tmp_path / "prediction.txt"), "--labels", str(tmp_path / "labels.csv")]


def test_a_table_is_judged_by_its_labels(table, tmp_path, capsys):
    out = tmp_path / "new" / "figures.json"
    assert main([*table, "--json", str(out), "--rounds", "20"]) == 0
    said = capsys.readouterr().out
    assert "39 files with a score and a label, 1 without a label; 1 labels without a score" in said
    values = json.loads(out.read_text("utf-8"))
    rows = [line.split(",") for line in Path(table[0]).read_text("utf-8").splitlines()[2:]]
    fake = [name.startswith("fake") for name, _ in rows]
    expected = roc_auc_score(fake, [float(score) for _, score in rows])
    assert values["auc"]["value"] == pytest.approx(expected)
    assert {row["generator"] for row in values["generators"]} == {"sdxl", "flux"}
    assert {row["source"]: row["reals"] for row in values["sources"]} == {"ffhq": 9, "unsplash": 10}


def test_generators_are_matched_as_asked(table, tmp_path):
    out = tmp_path / "figures.json"
    assert main([*table, "--match", "flux=ffhq", "--json", str(out), "--rounds", "5"]) == 0
    found = json.loads(out.read_text("utf-8"))["generators"]
    assert {row["generator"]: row["reals"] for row in found} == {"sdxl": 10, "flux": 9}


def test_fakes_and_reals_that_nobody_names_are_a_unit_each(table, tmp_path):
    labels, out = Path(table[2]), tmp_path / "figures.json"
    rows = [line.split(",")[:2] for line in labels.read_text("utf-8").splitlines()]
    labels.write_text("\n".join(map(",".join, rows)), "utf-8")
    assert main([*table, "--json", str(out), "--rounds", "5"]) == 0
    found = json.loads(out.read_text("utf-8"))
    assert [row["generator"] for row in found["generators"]] == ["fake"]
    assert [row["source"] for row in found["sources"]] == ["real"]


def test_what_shares_a_group_is_drawn_together(tmp_path):
    """Frames of 12 clips a class, alike within a clip: as sure as 12 scores, not as 60."""
    rng, out, widths = np.random.default_rng(0), tmp_path / "figures.json", []
    clip = np.repeat(np.arange(24), 5)
    score = 0.45 + 0.1 * (clip % 2) + rng.normal(0, 0.1, 24)[clip] + rng.normal(0, 0.005, 120)
    scores = [f"{n}.jpg,{value:.6f}" for n, value in enumerate(score)]
    (tmp_path / "scores.txt").write_text("\n".join(["img_name,y_pred", *scores]), "utf-8")
    for named in (True, False):
        rows = [
            f"{n}.jpg,{c % 2},{('ffhq', 'gan')[c % 2]},{f'clip {c}' if named else ''}"
            for n, c in enumerate(clip)
        ]
        lines = ["path,target,generator,group", *rows]
        (tmp_path / "labels.csv").write_text("\n".join(lines), "utf-8")
        files = [str(tmp_path / "scores.txt"), "--labels", str(tmp_path / "labels.csv")]
        assert main([*files, "--json", str(out), "--rounds", "100"]) == 0
        found = json.loads(out.read_text("utf-8"))["auc"]
        widths.append(found["high"] - found["low"])
    assert widths[0] > 1.5 * widths[1]


def test_a_cache_is_scored_and_judged(matched, tiny, tiny_weights, tmp_path, capsys):
    out = tmp_path / "figures.json"
    command = [str(matched), "--weights", str(tiny_weights), "--json", str(out), "--rounds", "5"]
    assert main([*command, "--all"]) == 0
    assert "12 of 12 faces, matched: 320 px, JPEG 85" in capsys.readouterr().out
    values, reader = json.loads(out.read_text("utf-8")), CacheReader(matched)
    expected = roc_auc_score(reader.metadata["target"], tiny.score_cache(reader))
    assert values["auc"]["value"] == pytest.approx(expected)
    counts = {row["generator"]: (row["fakes"], row["reals"]) for row in values["generators"]}
    assert counts == {"dfdc_swap": (3, 3), "gan": (3, 3)}
    assert main(command) == 0  # faces that may have trained do not count
    values = json.loads(out.read_text("utf-8"))
    assert (values["fakes"], values["reals"]) == (2, 2)


def test_faces_of_a_cache_that_share_a_group_are_drawn_together(tiny_weights, tmp_path):
    """Four crops each of ten people a class, all alike: as sure as 20 scores, not as 80."""
    colours, out = np.random.default_rng(0).integers(0, 256, (20, 3), np.uint8), tmp_path / "f.json"
    widths = []
    for named in (True, False):
        rows = [
            {
                "crop": np.full((256, 256, 3), colour, np.uint8),
                "target": number % 2,
                "group": f"person {number}" if named else "",
            }
            for number, colour in enumerate(colours)
            for _ in range(4)
        ]
        cache = tmp_path / f"named {named}"
        write_cache(cache, rows, size=256)
        command = [str(cache), "--weights", str(tiny_weights), "--json", str(out)]
        assert main([*command, "--rounds", "100"]) == 0
        found = json.loads(out.read_text("utf-8"))
        assert [row["generator"] for row in found["generators"]] == ["fake"]
        assert [row["source"] for row in found["sources"]] == ["real"]
        widths.append(found["auc"]["high"] - found["auc"]["low"])
    assert widths[0] > 1.5 * widths[1]


def test_scores_of_a_cache_are_in_its_order(matched, tiny):
    reader = CacheReader(matched)
    scores = tiny.score_cache(reader, batch_size=5)
    assert scores.dtype == np.float32 and scores.shape == (12,)
    alone = [float(tiny.score_crops(reader.crop(row)[None])[0]) for row in (0, 4, 5, 11)]
    np.testing.assert_allclose(scores[[0, 4, 5, 11]], alone, atol=1e-4)
    some = tiny.score_cache(reader, np.array([7, 2, 4]), batch_size=2)
    np.testing.assert_allclose(some, scores[[7, 2, 4]], atol=1e-4)


def test_crops_of_other_settings_are_refused(faces_cache, tiny_weights, capsys):
    assert status(faces_cache, "--weights", tiny_weights) == 2
    assert "size: 256, not 128" in capsys.readouterr().err


def status(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", "expected a table with the columns of img_name,y_pred but got 'a,b'"),
        ("img_name,y_pred\nx.jpg,much\n", "expected a name and its score in every row"),
        ("img_name,y_pred\nx.jpg,7\n", "expected scores from 0 to 1 but got 7.0 for x.jpg"),
        ("img_name,y_pred\nx.jpg,nan\n", "expected scores from 0 to 1 but got nan for x.jpg"),
        ("img_name,y_pred\nx.jpg,0,5\n", "and its score in every row: got 'x.jpg,0,5'"),
        ("img_name,y_pred\nx.jpg,0.5\n", "expected labels of files in"),
        ("img_name,y_pred\nx.jpg,0.5\nx.jpg,0.7\n", "x.jpg has the scores 0.5 and 0.7"),
        ("img_name,y_pred\nreal/2.jpg,0.5\n", "expected labels of real and fake files but got 1"),
        (b"img_name,y_pred\n\xe4.jpg,0.5\n", "expected UTF-8 or UTF-16 but got byte 0xe4 in line"),
    ],
)
def test_what_is_no_table_of_scores_is_named(table, tmp_path, capsys, content, message):
    (tmp_path / "odd.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert status(tmp_path / "odd.txt", *table[1:]) == 2
    said = capsys.readouterr().err
    assert message in said and "odd.txt" in said


def test_tables_may_be_saved_by_spreadsheets(table, tmp_path):
    written = Path(table[0]).read_text("utf-8")
    figures = []
    for data in (written.encode(), written.replace("\n", "\r\n\r\n").encode("utf-16")):
        Path(table[0]).write_bytes(data)
        out = tmp_path / "figures.json"
        assert main([*table, "--json", str(out), "--rounds", "5"]) == 0
        figures.append(json.loads(out.read_text("utf-8")))
    assert figures[0] == figures[1]


def test_two_tables_with_other_scores_of_a_file_are_refused(table, tmp_path, capsys):
    other = tmp_path / "other.txt"
    other.write_text("img_name,y_pred\nreal/2.jpg,0.987\n", "utf-8")
    assert status(table[0], other, *table[1:]) == 2
    assert "expected one score of real/2.jpg but tables give two" in capsys.readouterr().err


def test_rows_of_one_file_are_joined_as_everywhere(table, capsys):
    """A file labelled both real and fake has no label, whichever row comes last."""
    with Path(table[2]).open("a", encoding="utf-8") as stream:
        stream.write("\nfake/1.jpg,0,,\nfake/3.jpg,1,,\nfake/5.jpg,,,")
    assert main([*table, "--rounds", "5"]) == 0
    said = capsys.readouterr().out
    assert "38 files with a score and a label, 2 without a label; 1 labels without a score" in said
    assert "file labelled twice: 3; file labelled both real and fake: 1" in said
    assert "| 19 fake, 19 real |" in said


def test_figures_are_not_written_over_what_they_are_of(table, capsys):
    for file in (table[0], table[2]):
        before = Path(file).read_bytes()
        assert status(*table, "--json", file) == 2
        assert "expected a file for --json that nothing else uses" in capsys.readouterr().err
        assert Path(file).read_bytes() == before


def test_figures_that_could_not_be_written_are_printed(table, tmp_path, full_disk, capsys):
    out = tmp_path / "figures.json"
    full_disk(100)
    assert main([*table, "--json", str(out), "--rounds", "5"]) == 1
    shown = capsys.readouterr()
    assert "39 files with a score" in shown.out
    assert shown.err == f"{out}: cannot be written: File too large\n"
    assert not out.exists()


def test_wrong_arguments_end_with_a_message(table, matched, tmp_path, capsys):
    for arguments, message in (
        (table[:1], "expected --labels FILE beside a table of scores"),
        ([matched, *table[1:]], "expected tables with --labels but got caches"),
        ([table[0], matched, *table[1:]], "expected a file"),
        ([tmp_path / "nowhere"], "nowhere: expected"),
        ([tmp_path / "nowhere", *table[1:]], "nowhere: expected a table of scores but got no such"),
        ([matched, "--weights", tmp_path / "nowhere"], "nowhere: expected"),
        ([*table, "--rounds", 0], "expected --rounds of at least 1"),
    ):
        assert status(*arguments) == 2
        assert message in capsys.readouterr().err
