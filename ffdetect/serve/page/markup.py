"""What the page shows, as HTML that needs no script and nothing from elsewhere: pictures are inside
it, every picture has words beside it, and what can be opened opens by keyboard too."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ffdetect.scoring.verdict import Doubt
from ffdetect.serve import schemas
from ffdetect.serve.messages import Fault, Maps, Scored
from preprocess.io.storage import to_json

CANNOT = (
    "A score is a reason to look, never a proof: real faces can score high, and fakes low.",
    "Face swaps, dubbing and lip sync are hardly seen or not at all; so are generators unlike "
    "those that were learnt from.",
    "Small, blurred or strongly compressed faces cannot be judged; and whether a picture shows "
    "what it is said to show is another question.",
)
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
_CHART, _LEFT = (640, 160), 80  # of the drawing of faces; what stands left of it


@dataclass(frozen=True)
class Shown:
    """One file that was uploaded, and what became of it.

    Attributes:
        kind: "picture", "clip" or "sound".
    """

    name: str
    kind: str
    result: Scored | Fault


def results(shown: Sequence[Shown]) -> str:
    """Everything below the button."""
    return "".join(
        f'<article class="result" aria-label="{escape(one.name)}"><h2>{escape(one.name)}</h2>'
        f"{_body(number, one)}</article>"
        for number, one in enumerate(shown)
    )


def status(text: str, failed: bool = False) -> str:
    """A line that screen readers say when it changes."""
    return f'<p class="{"failed" if failed else "status"}" role="status">{escape(text)}</p>'


def cannot() -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in CANNOT)
    return f'<section class="cannot"><h2>What this cannot tell</h2><ul>{lines}</ul></section>'


def maps(found: Maps, label: str) -> str:
    """What moved the score of one face."""
    pictures = (
        (found.heat, "Heat map", "red moved the score towards fake, blue towards real"),
        (found.residual, "Residual", "fine detail that is left when the picture is smoothed"),
        (found.spectrum, "Spectrum", "slow changes in the middle, fine ones outside"),
    )
    figures = "".join(
        f'<figure><img src="{_data(data, "image/png")}" alt="{name} of {escape(label)}">'
        f"<figcaption><strong>{name}</strong>: {text}</figcaption></figure>"
        for data, name, text in pictures
    )
    note = "They show what moved the score. They are no proof, and real faces have red places too."
    return f'<section class="maps" aria-label="Why">{figures}<p>{note}</p></section>'


def downloads(shown: Sequence[Shown]) -> str:
    """Links to the table, which is inside of them."""
    rows = [row for one in shown for row in _rows(one)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({k: _harmless(v) for k, v in row.items()} for row in rows)
    answers = [_answer(one) for one in shown]
    files = (
        ("ffdetect.csv", "text/csv", text.getvalue().encode()),
        ("ffdetect.json", "application/json", to_json(answers, indent=1).encode()),
    )
    links = " ".join(
        f'<a download="{name}" href="{_data(data, kind)}">Download {name}</a>'
        for name, kind, data in files
    )
    return f'<p class="downloads">{links}</p>'


def _body(number: int, one: Shown) -> str:
    if isinstance(one.result, Fault):
        return f'<p class="failed">{escape(_sentence(one.result.message))}</p>'
    answer = one.result.answer
    if isinstance(answer, schemas.Picture):
        body = _picture(answer, one.result.previews)
    elif isinstance(answer, schemas.Clip):
        body = _clip(number, answer, one.result.previews)
    else:
        body = _sound(number, answer)
    return body + (_provenance(answer.provenance) if answer.provenance else "")


def _provenance(found: schemas.Provenance) -> str:
    claims = "".join(
        f"<li>{escape(_sentence(claim.text))} <small>({escape(claim.says.value)}; "
        f"{escape(claim.signer or claim.source)}: {escape(claim.trust.value)})</small></li>"
        for claim in found.claims
    )
    errors = [f"not readable: {error.source}: {error.message}" for error in found.errors]
    notes = "".join(f"<p>{escape(_sentence(note))}</p>" for note in [*errors, *found.not_read])
    return (
        f'<section class="provenance"><h3>What the file says of itself</h3>'
        f"<p>{escape(found.summary)} No score depends on it.</p>"
        + (f"<ul>{claims}</ul>" if claims else "")
        + f"{notes}</section>"
    )


def _picture(answer: schemas.Picture, previews: Sequence[bytes]) -> str:
    count = len(answer.faces)
    seen = f"{count} face{'s' * (count != 1)} found" if count else "No face was found"
    boxes = "".join(_box(n, face, answer.width) for n, face in enumerate(answer.faces, 1))
    image = "".join(
        f'<img src="{_data(data, "image/jpeg")}" alt="{escape(answer.name)}: {seen.lower()}">'
        for data in previews
    )
    drawn = (
        f'<div class="picture">{image}<svg viewBox="0 0 {answer.width} {answer.height}" '
        f'aria-hidden="true">{boxes}</svg></div>'
    )
    faces = "".join(_face(n, face) for n, face in enumerate(answer.faces, 1))
    more = ""
    if answer.faces_left_out:
        more = f"<p>{answer.faces_left_out} smaller faces were not scored.</p>"
    return f'{drawn}<p>{seen}.</p><ol class="faces">{faces}</ol>{more}'


def _box(number: int, face: schemas.Face, width: int) -> str:
    box, line = face.box, max(width / 250, 1)
    kind = face.verdict or "uncertain"
    return (
        f'<rect class="{kind}" x="{box.left:.0f}" y="{box.top:.0f}" '
        f'width="{box.right - box.left:.0f}" height="{box.bottom - box.top:.0f}" '
        f'stroke-width="{line:.1f}"/><text class="{kind}" x="{box.left + 2 * line:.0f}" '
        f'y="{box.top + 9 * line:.0f}" font-size="{9 * line:.0f}">{number}</text>'
    )


def _face(number: int, face: schemas.Face) -> str:
    reasons = "".join(
        f"<li>{_PLAIN[reason.doubt]} <small>({escape(reason)})</small></li>"
        for reason in face.reasons
    )
    why = f"<ul>{reasons}</ul>" if reasons else ""
    return (
        f'<li class="{face.verdict or "uncertain"}"><strong>Face {number}: '
        f"{_VERDICTS[face.verdict]}</strong>, {_score(face.score)}{why}</li>"
    )


def _clip(number: int, answer: schemas.Clip, previews: Sequence[bytes]) -> str:
    parts = (("Together", answer.score), ("Face", answer.face), ("Voice", answer.voice))
    scores = ", ".join(f"{name.lower()} {_percent(score)}" for name, score in parts)
    notes = "".join(f"<li>{escape(_sentence(note))}</li>" for note in answer.notes)
    frames = [(track, frame) for track in answer.tracks for frame in track.frames]
    pictures: Sequence[bytes | None] = previews or [None] * len(frames)
    listed = "".join(
        _frame(f"f{number}-{n}", track, frame, data)
        for n, ((track, frame), data) in enumerate(zip(frames, pictures, strict=True))
    )
    points = [(f.time, f.score, f"f{number}-{n}") for n, (_, f) in enumerate(frames)]
    chart = _chart(points, answer.windows)
    return (
        f"<p><strong>How likely it is fake</strong>: {scores}. A hint, and no verdict: 50 % says "
        f"nothing.</p>{chart}"
        + (f'<h3>Frames</h3><ol class="frames">{listed}</ol>' if frames else "")
        + (f"<h3>Notes</h3><ul>{notes}</ul>" if notes else "")
    )


def _frame(anchor: str, track: schemas.Track, frame: schemas.Frame, picture: bytes | None) -> str:
    told = f"person {track.track + 1} at {frame.time:.1f} s"
    image = ""
    if picture:
        image = f'<img src="{_data(picture, "image/jpeg")}" alt="{told}">'
    return (
        f'<li id="{anchor}"><details><summary>{image}<span>{frame.time:.1f} s: '
        f"{_percent(frame.score)}</span></summary><p>Frame {frame.frame}, {told}, "
        f"{_score(frame.score)}; the person in all frames: {_percent(track.score)}.</p></details>"
        "</li>"
    )


def _sound(number: int, answer: schemas.Sound) -> str:
    rows = "".join(
        f"<tr><td>{w.start:.0f} to {w.end:.0f} s</td><td>{_percent(w.score)}</td></tr>"
        for w in answer.windows
    )
    damaged = f"<p>{answer.damaged} damaged packets were left out.</p>" if answer.damaged else ""
    return (
        f"<p><strong>How likely the voice was made by a machine</strong>: "
        f"{_percent(answer.score)}. A hint, and no verdict.</p>{_chart([], answer.windows)}"
        f"<details><summary>Every stretch of sound</summary><table><thead><tr><th>Time</th>"
        f"<th>Score</th></tr></thead><tbody>{rows}</tbody></table></details>{damaged}"
    )


def _chart(points: Sequence[tuple[float, float, str]], windows: Sequence[schemas.Window]) -> str:
    """Scores over time: faces as points that lead to their frames, the voice as bars below."""
    ends = [time for time, _, _ in points] + [window.end for window in windows]
    if not ends:
        return ""
    length, (width, height) = max(*ends, 1e-3), _CHART
    across = lambda time: _LEFT + width * time / length  # noqa: E731
    panels, top = [], 34
    if points:
        dots = "".join(
            f'<a href="#{anchor}" aria-label="{time:.1f} s: {_percent(score)}">'
            f'<circle cx="{across(time):.1f}" cy="{top + height * (1 - score):.1f}" r="6"/></a>'
            for time, score, anchor in points
        )
        panels.append(_panel("Face", top, height) + dots)
        top += height + 54
    if windows:
        bars = "".join(
            f'<rect class="bar" x="{across(w.start):.1f}" y="{top + 80 * (1 - w.score):.1f}" '
            f'width="{max(across(w.end) - across(w.start) - 1, 1):.1f}" '
            f'height="{80 * w.score:.1f}"/>'
            for w in windows
            if w.score is not None
        )
        panels.append(_panel("Voice", top, 80) + bars)
        top += 134
    ticks = "".join(
        f'<text x="{across(length * share):.0f}" y="{top - 18}" text-anchor="middle">'
        f"{length * share:.1f} s</text>"
        for share in (0, 0.5, 1)
    )
    return (
        f'<svg class="chart" role="group" aria-label="Scores over time" '
        f'viewBox="0 0 {_LEFT + width + 30} {top}">{"".join(panels)}{ticks}</svg>'
    )


def _panel(title: str, top: int, height: int) -> str:
    lines = ""
    for share in (0, 0.5, 1):
        y = round(top + height * (1 - share))
        lines += (
            f'<line x1="{_LEFT}" x2="{_LEFT + _CHART[0]}" y1="{y}" y2="{y}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 5}" text-anchor="end">{share:.0%}</text>'
        )
    return f'{lines}<text x="{_LEFT}" y="{top - 8}">{title}</text>'


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


def _score(score: float) -> str:
    return f"score {score:.2f}"


def _percent(score: float | None) -> str:
    return "nothing to judge" if score is None else f"{score:.0%}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _data(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
