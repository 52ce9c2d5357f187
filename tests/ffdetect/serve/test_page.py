"""The page in a real browser: upload, wait, read; nothing is asked of anybody else."""

from __future__ import annotations

import base64
import csv
import io
import json
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ffdetect.provenance import Claim, ReadError, Says
from ffdetect.scoring.quality import Quality
from ffdetect.scoring.verdict import Reason, judge
from ffdetect.serve import schemas
from ffdetect.serve.messages import Fault, Scored
from ffdetect.serve.page import markup
from ffdetect.serve.page.markup import Shown

from ..helpers import CALIBRATION
from .conftest import options
from .running import Running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser, service) -> Iterator:
    """With what it asked for in `page.asked`."""
    page = opened(browser, service)
    yield page
    page.close()


def opened(browser, service: Running):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.set_default_timeout(180_000)
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(service.url)
    page.wait_for_selector("#score")
    return page


def score(page, *files: Path) -> str:
    page.set_input_files("#files input[type=file]", [str(file) for file in files])
    page.wait_for_function(
        "n => document.querySelectorAll('#files tr').length >= n", arg=len(files)
    )
    page.focus("#score")
    page.keyboard.press("Enter")
    page.wait_for_selector("#results article, #status .failed")
    return page.inner_text("#results")


def test_a_picture_is_boxed_judged_explained_and_downloaded(page, service, portrait, tmp_path):
    (tmp_path / "portrait.jpg").write_bytes(portrait)
    (tmp_path / "notes.txt").write_text("no picture")
    text = score(page, tmp_path / "portrait.jpg", tmp_path / "notes.txt")
    assert "portrait.jpg" in text and "1 face found" in text
    assert any(verdict in text for verdict in ("Likely fake", "Likely real", "Cannot tell"))
    assert "Expected a picture but got text." in text
    assert "What the file says of itself" in text and "does not say how it was made" in text
    assert page.locator(".picture rect").count() == 1
    assert page.get_attribute(".picture img", "alt") == "portrait.jpg: 1 face found"
    link = page.get_attribute("a[download='ffdetect.csv']", "href")
    assert link.startswith("data:text/csv")
    page.click("#explain")
    page.wait_for_selector("#maps figure")
    assert page.locator("#maps figure img").count() == 3
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390  # nothing to scroll to the side on a phone
    ours = (service.url, "data:", "blob:")
    assert [url for url in page.asked if not url.startswith(ours)] == []
    assert service.files() == []  # read once, and removed


def test_a_clip_has_its_scores_over_time(page, clip, tmp_path):
    (tmp_path / "talk.mp4").write_bytes(clip)
    text = score(page, tmp_path / "talk.mp4")
    assert "How likely it is fake" in text
    assert page.locator(".chart circle").count() == page.locator(".frames li").count() == 3
    assert page.locator(".chart .bar").count() >= 1
    page.locator(".frames summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator(".frames details[open]").count() == 1


def test_a_recording_has_its_voice_judged(page, sound, tmp_path):
    (tmp_path / "call.wav").write_bytes(sound)
    text = score(page, tmp_path / "call.wav")
    assert re.search(r"How likely the voice was made by a machine: \d+%", text)
    assert page.locator(".chart .bar").count() >= 1


def test_files_may_be_dropped_before_the_detector_has_started(browser, portrait, tmp_path):
    starting = Running(tmp_path, *options(workers=1))
    try:
        page = opened(browser, starting)
        (tmp_path / "portrait.jpg").write_bytes(portrait)
        assert "1 face found" in score(page, tmp_path / "portrait.jpg")
        page.close()
    finally:
        starting.kill()


def test_what_is_too_large_is_told_in_words(page, tmp_path):
    """What gradio's upload shows is all that was answered: no JSON."""
    (tmp_path / "large.jpg").write_bytes(b"\xff\xd8" + bytes(5 * 2**20))
    page.set_input_files("#files input[type=file]", str(tmp_path / "large.jpg"))
    page.get_by_text("expected at most 3.062 MiB in a request").wait_for()
    assert "{" not in page.inner_text("body")


@pytest.mark.parametrize("element", ["#score", "#files .or", ".cannot li"])
def test_words_stand_out(page, element):
    """Contrast of 4.5 to 1 and more, as WCAG 2.2 asks of text (1.4.3)."""
    colours = page.eval_on_selector(
        element,
        """found => {
            const ink = getComputedStyle(found).color;
            let ground = 'rgba(0, 0, 0, 0)';
            for (; found && ground === 'rgba(0, 0, 0, 0)'; found = found.parentElement)
                ground = getComputedStyle(found).backgroundColor;
            return [ink, ground];
        }""",
    )
    rgb = np.array([re.findall(r"[\d.]+", colour)[:3] for colour in colours], float) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    assert light / dark >= 4.5, colours


def test_only_what_the_page_needs_can_be_reached(service, portrait):
    get, post = service.client.get, service.client.post
    for path in (
        "/gradio_api/file=/etc/passwd",
        "/monitoring",
        "/gradio_api/runs",
        "/docs",
        "/login",
    ):
        answer = get(path)
        assert answer.status_code == 404, path
        assert answer.json()["request_id"] == answer.headers["X-Request-ID"], path
    named = {"files": ("../../name.jpg", portrait)}
    (path,) = post("/gradio_api/upload", files=named).json()
    assert Path(path).is_file() and Path(path).parent == next(service.folder.glob("*/uploads"))
    assert "name" not in path
    Path(path).unlink()


GOOD = Quality(200, 0, 0, -1, "png")


def face_of(reasons: list[Reason]) -> schemas.Face:
    return schemas.Face(
        box=schemas.Box(left=1, top=2, right=3, bottom=4),
        probability=1,
        score=0.5,
        verdict="uncertain",
        reasons=reasons,
        quality=schemas.Quality(side=2, blur=0, blocks=0, jpeg_quality=None, format="png"),
    )


@pytest.mark.parametrize(
    ("score", "quality", "calibration", "words"),
    [
        (0.95, Quality(50, 0, 0, 90, "jpeg"), CALIBRATION, "The face is too small."),
        (0.95, Quality(200, 0.9, 0, 90, "jpeg"), CALIBRATION, "The face is too blurred."),
        (0.95, Quality(200, 0, 0, 10, "jpeg"), CALIBRATION, "The file was compressed too .*"),
        (0.95, Quality(200, 0, 2, 90, "jpeg"), CALIBRATION, "The picture was compressed too .*"),
        (0.95, Quality(200, 0, 0, -1, "webp"), CALIBRATION, "Its file format makes real faces .*"),
        (0.55, GOOD, CALIBRATION, "Its score is too high to call it real, and too low .*"),
        (0.05, GOOD, CALIBRATION, "It scores differently when it is shifted .*"),
        (0.95, GOOD, None, "Nobody has measured yet how often a real face scores as high."),
    ],
    ids="small blurred jpeg blocks webp between views uncalibrated".split(),
)
def test_every_reason_is_shown_in_plain_words(score, quality, calibration, words):
    """Also of a worker process."""
    (found,) = judge(score, [score, 0.9], quality, calibration).reasons
    face = face_of([pickle.loads(pickle.dumps(found))])
    answer = schemas.Picture(name="", width=9, height=9, faces=[face])
    shown = markup.results([Shown("", "picture", Scored(answer))])
    assert re.search(rf"<li>{words} <small>\({re.escape(found)}\)", shown)
    assert json.loads(answer.model_dump_json())["faces"][0]["reasons"] == [str(found)]


def test_names_and_metadata_do_no_harm():
    """Neither to the page, nor to whoever opens the table."""
    name = '=cmd("x")<script>alert(1)</script>'
    face = face_of([])
    said = schemas.Provenance(
        says_generated=True,
        summary=name,
        claims=[Claim(Says.GENERATED, name, "text", name)],
        manifests=[],
        generators=[],
        camera=None,
        jpeg=None,
        container=None,
        errors=[ReadError("text", name)],
        not_read=[name],
    )
    answer = schemas.Picture(name=name, width=9, height=9, faces=[face], provenance=said)
    shown = [Shown(name, "picture", Scored(answer)), Shown(name, "clip", Fault("unreadable", name))]
    assert "<script" not in markup.results(shown)
    assert markup.results(shown).count("&lt;script") >= 5 + 3  # each text of the file is shown
    link = markup.downloads(shown).partition("text/csv;base64,")[2].partition('"')[0]
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(link).decode())))
    assert [row["file"][:2] for row in rows] == ["'=", "'="]
    assert (rows[0]["face"], rows[0]["verdict"], rows[0]["right"]) == ("1", "uncertain", "3.0")
