"""`ffdetect provenance`, and that what a file says moves no score."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from ffdetect.provenance.command import main

from .files import WEB_UI, authority, created, exif, picture, png, signed, xmp


def test_reports(tmp_path, capsys):
    pytest.importorskip("c2pa")
    made, plain, pem = (tmp_path / name for name in ("made.jpg", "plain.png", "trust.pem"))
    made.write_bytes(signed(picture(), created()))
    plain.write_bytes(png())
    pem.write_bytes(authority())
    assert main([str(made), str(plain), str(tmp_path / "missing.jpg")]) == 0
    out, err = capsys.readouterr()
    assert f"{made}: The file says that it was generated: c2pa.created" in out
    assert "signed by Tests, Camera Maker" in out and "nobody vouches" in out
    assert "saved last with ijg tables of quality 75" in out
    assert f"{plain}: The file does not say how it was made." in out
    assert "missing.jpg: expected a readable file" in err
    assert main([str(made), "--trust-list", str(pem), "--json"]) == 0
    (found,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert found["says_generated"] and "trust list" in found["claims"][0]["trust"]
    assert found["claims"][0]["says"] == "generated" and found["jpeg"]["family"] == "ijg"
    assert main([str(tmp_path / "missing.jpg")]) == 1
    with pytest.raises(SystemExit) as ended:
        main([str(made), "--trust-list", str(plain)])
    assert ended.value.code == 2 and "expected certificates in PEM" in capsys.readouterr().err


def test_no_score_depends_on_it(astronaut, tiny):
    pytest.importorskip("c2pa")

    def saved(**options) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(astronaut).save(stream, "PNG", compress_level=1, **options)
        return stream.getvalue()

    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("parameters", WEB_UI)
    text.add_text("Software", "NovelAI")
    plain = saved()
    files = {
        "text": saved(pnginfo=text),
        "exif": saved(exif=exif(Make="Canon", Model="EOS R5")),
        "c2pa": signed(plain, created(), "PNG"),
        "c2pa of a camera": signed(plain, created("digitalCapture"), "PNG"),
    }
    wanted = tiny.analyze(plain)
    assert wanted.provenance.claims == () and len(wanted.faces) == 1
    for name, data in files.items():
        got = tiny.analyze(data)
        assert got.provenance.claims, name
        assert [one.score for one in got.faces] == [one.score for one in wanted.faces]
        for ours, theirs in zip(got.faces, wanted.faces, strict=True):
            assert (ours.verdict, ours.reasons) == (theirs.verdict, theirs.reasons)
    assert tiny.analyze(np.asarray(astronaut)).provenance is None


def test_a_hostile_file_is_scored_all_the_same(astronaut, tiny):
    stream = io.BytesIO()
    Image.fromarray(astronaut).save(stream, "JPEG", xmp=b"<!DOCTYPE x []><x/>")
    found = tiny.analyze(stream.getvalue())
    assert len(found.faces) == 1 and found.provenance.errors[0].source == "xmp"
    assert xmp()  # a whole packet is no error
    stream = io.BytesIO()
    Image.fromarray(astronaut).save(stream, "JPEG", xmp=xmp())
    assert tiny.analyze(stream.getvalue()).provenance.errors == ()
