"""What the page shows, as `markup.html` has it, and the tables that it offers."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ffdetect.scoring.verdict import Doubt
from ffdetect.serve import schemas
from ffdetect.serve.messages import Fault, Maps, Scored
from preprocess.io.storage import to_json

_VERDICTS = {
    "fake": "Likely fake",
    "real": "Likely real",
    "uncertain": "Cannot tell",
    None: "Not judged",
}
_PLAIN = {
    Doubt.SCORE: "Its score is too high to call it real, and too low to call it fake.",
    Doubt.VIEWS: "It scores differently when it is shifted or mirrored a little.",
    Doubt.SMALL: "The face is too small.",
    Doubt.BLURRED: "The face is too blurred.",
    Doubt.JPEG_QUALITY: "The file was compressed too strongly.",
    Doubt.BLOCKS: "The picture was compressed too strongly, now or before.",
    Doubt.UNCALIBRATED: "Nobody has measured yet how often a real face scores as high.",
    Doubt.FORMAT: "Its file format makes real faces look fake.",
}
_COLUMNS = "file kind face time score verdict reasons left top right bottom error".split()


@dataclass(frozen=True)
class Shown:
    """One file that was uploaded, and what became of it.

    Attributes:
        kind: "picture", "clip" or "sound".
    """

    name: str
    kind: str
    result: Scored | Fault

    @property
    def failed(self) -> bool:
        return isinstance(self.result, Fault)


def results(shown: Sequence[Shown]) -> str:
    """Everything below the button."""
    return _macros().results(shown)


def status(text: str, failed: bool = False) -> str:
    """A line that screen readers say when it changes."""
    return _macros().status(text, failed)


def cannot() -> str:
    """What a score does not say."""
    return _macros().cannot()


def maps(found: Maps, label: str) -> str:
    """What moved the score of one face."""
    return _macros().maps(found, label)


def downloads(shown: Sequence[Shown]) -> str:
    """Links to the tables, which are inside of them."""
    rows = [row for one in shown for row in _rows(one)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({k: _harmless(v) for k, v in row.items()} for row in rows)
    answers = [_answer(one) for one in shown]
    return _macros().downloads(
        (
            ("ffdetect.csv", "text/csv", text.getvalue().encode()),
            ("ffdetect.json", "application/json", to_json(answers, indent=1).encode()),
        )
    )


@cache
def _macros() -> Any:
    """The macros of the template; what is put into it is escaped."""
    folder = FileSystemLoader(Path(__file__).parent)
    made = Environment(autoescape=True, loader=folder, trim_blocks=True, undefined=StrictUndefined)
    made.filters |= {
        "frames": lambda clip: [(track, frame) for track in clip.tracks for frame in track.frames],
        "inside": lambda data, kind: f"data:{kind};base64,{base64.b64encode(data).decode()}",
        "percent": lambda score: "nothing to judge" if score is None else f"{score:.0%}",
        "plain": lambda reason: _PLAIN[reason.doubt],
        "px": lambda length: f"{length:.1f}",
        "sentence": lambda text: f"{text[:1].upper()}{text[1:].rstrip('.')}.",
        "verdict": _VERDICTS.__getitem__,
    }
    return made.get_template("markup.html").module


def _rows(one: Shown) -> Iterator[dict[str, object]]:
    common = {"file": one.name, "kind": one.kind}
    if isinstance(one.result, Fault):
        yield {**common, "error": one.result.message}
        return
    answer = one.result.answer
    if isinstance(answer, schemas.Picture):
        for number, face in enumerate(answer.faces, 1):
            judged = {"verdict": face.verdict, "reasons": "; ".join(face.reasons)}
            score = {"face": number, "score": face.score}
            yield {**common, **score, **judged, **face.box.model_dump()}
        if not answer.faces:
            yield {**common, "error": "no face"}
        return
    yield {**common, "score": answer.score}
    for track in answer.tracks if isinstance(answer, schemas.Clip) else ():
        for frame in track.frames:
            seen = {"face": track.track + 1, "time": frame.time, "score": frame.score}
            yield {**common, **seen, **frame.box.model_dump()}
    for window in answer.windows:
        yield {**common, "kind": "voice", "time": window.start, "score": window.score}


def _answer(one: Shown) -> dict:
    if isinstance(one.result, Fault):
        return {"name": one.name, "error": one.result.message}
    return one.result.answer.model_dump(mode="json")


def _harmless(value: object) -> object:
    """What spread sheets would take for a formula becomes text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
