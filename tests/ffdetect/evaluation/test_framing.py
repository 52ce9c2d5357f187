"""The matched protocol: one framing, size and compression, and fair comparisons."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ffdetect.evaluation.framing import MATCHED, RAW, framing, main, match
from ffdetect.evaluation.matching import comparisons
from preprocess.cache.log import read_failures
from preprocess.cache.reader import CacheReader
from preprocess.faces.detect import FaceDetector
from preprocess.io.decode import decode_image
from tests.ffdetect.clips import write_talk
from tests.ffdetect.helpers import encode


def test_swaps_are_compared_with_their_own_reals_only():
    generator = np.array(["dfdc", "ffhq", "unsplash", "dfdc_swap", "sdxl", "sdxl", "dfdc"])
    target = np.array([0, 0, 0, 1, 1, 1, 0])
    rows = comparisons(generator, target)
    assert list(rows) == ["dfdc_swap", "sdxl"]
    assert rows["dfdc_swap"].tolist() == [0, 3, 6]
    assert rows["sdxl"].tolist() == [1, 2, 4, 5]


def test_a_generator_without_reals_of_its_kind_is_left_out():
    generator, target = np.array(["ffhq", "dfdc_swap", "sdxl"]), np.array([0, 1, 1])
    assert list(comparisons(generator, target)) == ["sdxl"]
    assert comparisons(np.array(["dfdc", "sdxl"]), np.array([0, 1])) == {}


def test_kinds_can_be_given():
    generator, target = np.array(["a", "b", "x", "y"]), np.array([0, 0, 1, 1])
    rows = comparisons(generator, target, {"x": ("b",)})
    assert rows["x"].tolist() == [1, 2] and rows["y"].tolist() == [0, 3]


def test_only_a_cache_of_this_protocol_counts_as_matched(matched, faces_cache):
    faces = CacheReader(matched).metadata
    assert framing(faces) == MATCHED and "320 px, JPEG 85" in MATCHED
    assert framing(CacheReader(faces_cache).metadata) == RAW and "confounded" in RAW
    for column, value in (("source_width", 319), ("source_height", 400), ("jpeg_quality", 90)):
        other = faces.copy()
        other.loc[3, column] = value  # one face is enough
        assert framing(other) == RAW
    assert framing(faces.iloc[:0]) == RAW


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


def test_every_picture_becomes_the_same_kind_of_file(detector, astronaut):
    small = np.array(Image.fromarray(astronaut).resize((300, 300)))
    noise = np.random.default_rng(0).integers(0, 256, (90, 400, 3), np.uint8)
    inputs = [
        astronaut,
        encode(astronaut, "JPEG", quality=30),
        encode(small, "WEBP"),
        encode(small, "PNG"),
        noise,
    ]
    files = [match(decode_image(picture), detector) for picture in inputs]
    images = [Image.open(io.BytesIO(file)) for file in files]
    reference = Image.open(io.BytesIO(encode(noise, "JPEG", quality=85)))
    for image in images:
        assert (image.format, image.size, image.mode) == ("JPEG", (320, 320), "RGB")
        assert image.quantization == reference.quantization
        assert image.layer == reference.layer  # the same chroma subsampling
    assert {decode_image(file).jpeg_quality for file in files} == {85}


def test_the_face_fills_the_same_part_of_the_frame(detector, astronaut):
    pictures = [astronaut, np.pad(astronaut, ((200, 0), (0, 300), (0, 0)))]
    box = detector.detect(astronaut)[0].box
    side = round(512 * 400 / 1.4 / max(box[2] - box[0], box[3] - box[1]))
    pictures.append(np.array(Image.fromarray(astronaut).resize((side, side))))
    for picture in pictures:
        matched = decode_image(match(decode_image(picture), detector))
        box = detector.detect(matched.pixels)[0].box
        # A fifth of the face's longer side all around: 320 / 1.4.
        assert max(box[2] - box[0], box[3] - box[1]) == pytest.approx(320 / 1.4, rel=0.08)
        assert (box[:2] + box[2:]) / 2 == pytest.approx([160, 160], abs=12)


def test_the_command_caches_what_the_face_path_finds_in_the_matched_file(
    matched, faces_folder, detector, tiny
):
    reader = CacheReader(matched)
    assert len(reader) == 12 and reader.settings.maps == ()
    table = reader.metadata
    assert (table["jpeg_quality"] == 85).all() and (table["source_width"] == 320).all()
    assert set(table["generator"]) == {"dfdc", "ffhq", "dfdc_swap", "gan"}
    assert table["split"].tolist().count("dev") == 4
    path = table["path"].iat[5]
    file = match(decode_image(faces_folder / path), detector)
    assert np.array_equal(reader.crop(5), tiny.analyze(file).faces[0].crop)


def test_a_split_is_chosen_and_failures_are_listed(faces_folder, tmp_path, capsys):
    data = tmp_path / "data"
    (data / "real").mkdir(parents=True)
    (data / "real" / "0.png").write_bytes((faces_folder / "real" / "0.png").read_bytes())
    (data / "real" / "1.png").write_text("no picture")
    noise = np.random.default_rng(0).integers(0, 256, (90, 100, 3), np.uint8)
    (data / "real" / "2.png").write_bytes(encode(noise, "PNG"))
    (data / "real" / "3.png").write_bytes((faces_folder / "real" / "1.png").read_bytes())
    lines = [f"real/{i}.png,0,{'train' if i == 3 else 'dev'}" for i in range(4)]
    (data / "manifest.csv").write_text("\n".join(["path,target,split", *lines]))
    command = [str(data), "--out", str(tmp_path / "cache"), "--split", "dev"]
    assert main(command) == 0
    assert CacheReader(tmp_path / "cache").metadata["path"].tolist() == ["real/0.png"]
    failures = {f.path: f.kind for f in read_failures(tmp_path / "cache")}
    assert failures == {"real/1.png": "unreadable", "real/2.png": "no_face"}
    assert main(command) == 0  # a second run has nothing left to do
    assert len(CacheReader(tmp_path / "cache")) == 1
    assert "1 matched faces in" in capsys.readouterr().out


def test_a_clip_gives_matched_frames(astronaut, tmp_path):
    (tmp_path / "fake").mkdir()
    write_talk(tmp_path / "fake" / "clip.avi", [astronaut] * 6)
    command = [str(tmp_path / "fake"), "--out", str(tmp_path / "cache"), "--frames", "3"]
    assert main(command) == 0
    faces = CacheReader(tmp_path / "cache").metadata
    assert faces["frame"].tolist() == [1, 3, 5] and framing(faces) == MATCHED


def test_labels_that_cannot_be_used_end_with_a_message(tmp_path, capsys):
    (tmp_path / "manifest.csv").write_text("path,target,split\na.png,0,fold 1\n")
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), "--out", str(tmp_path / "cache")])
    assert "manifest.csv: expected splits train, dev (val) or test" in capsys.readouterr().err


def test_missing_data_ends_with_a_message(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "cache")])
    assert caught.value.code == 2
    assert "nowhere: expected" in capsys.readouterr().err
