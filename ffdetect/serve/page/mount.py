"""The web page: drop pictures, a clip or a sound, and read what is thought of them.

It is made by gradio, from which only the parts that the page uses can be reached: what gradio would
fetch, serve or keep on disk for others is switched off. What was uploaded is read once and removed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from ffdetect.serve.app import Service, read_form, shown_name
from ffdetect.serve.errors import STATUS, ServiceError, id_of, respond
from ffdetect.serve.messages import Explain, Fault, Maps, Scored, Wanted
from ffdetect.serve.middleware import Tokens
from ffdetect.serve.schemas import Picture
from preprocess.io.formats import HEAD, media_of_content

from . import markup
from .markup import Shown

_PREFIX = "/gradio_api"
_UPLOAD, _PROGRESS = f"{_PREFIX}/upload", f"{_PREFIX}/upload_progress"
# What a browser asks for while somebody uses the page; everything else of gradio's is not there.
_NEEDED = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static|svelte)/[\w./-]+|"
    rf"{_PREFIX}/(queue/(join|data)|heartbeat/\w+|startup-events|info|theme\.css|cancel|reset)"
)
_KEPT_SECONDS = 900.0  # pictures of a session, for heat maps
_AT_ONCE = 32  # people who wait for an answer
_LOOK = 0.3  # seconds between looks at a job
_LABEL = "Pictures, a clip or a sound"
_INTRO = (
    "# Is this face or voice a deepfake?\nDrop files below, or choose them. They are scored on "
    "this machine, are sent nowhere else and are not kept."
)
_CSS = (Path(__file__).with_name("page.css")).read_text("utf-8")

Faces = dict[str, tuple[bytes, int]]
"""What can be explained: name -> the picture's file and the number of the face."""


def mount_page(app: FastAPI, service: Service) -> None:
    """Serve the page at /, and what a browser needs for it.

    With tokens a browser asks for a name and a password, which is a token.
    """
    # Before gradio looks at it; nothing that it writes goes elsewhere.
    uploads = _Uploads(service.folder / "uploads")
    os.environ["GRADIO_TEMP_DIR"] = str(uploads.folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

    @app.post(_UPLOAD, include_in_schema=False)
    async def upload(request: Request) -> Response:
        """In place of gradio's, which makes paths of the names of files."""
        paths = []
        try:
            service.check_running()
            async with read_form(request, service.settings.max_images) as form:
                for file in form.getlist("files"):
                    if not isinstance(file, str):
                        paths.append(uploads.keep(shown_name(file.filename), await file.read()))
        except ServiceError as error:  # gradio shows people what it is answered, letter by letter
            fault = error.fault
            return PlainTextResponse(fault.message, STATUS[fault.code])
        return JSONResponse(paths)

    @app.get(_PROGRESS, include_in_schema=False)
    async def progress() -> Response:
        return PlainTextResponse('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    gr.mount_gradio_app(
        app,
        _blocks(service, uploads),
        "/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=True,
        mcp_server=False,
        enable_monitoring=False,
        theme=_theme(),
        css=_CSS,
    )
    # Innermost, so that what it turns away is numbered and logged like everything else.
    app.user_middleware.append(Middleware(_Door, tokens=service.tokens))


def _theme() -> gr.themes.Base:
    """Fonts of the machine, and a button whose words stand out as WCAG asks (4.5 to 1)."""
    theme = gr.themes.Base(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return theme.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
    )


class _Uploads:
    """Files between their upload and the button that scores them, under names of ours."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._names: dict[str, tuple[str, float]] = {}

    def keep(self, name: str, data: bytes) -> str:
        """Where it is from now on."""
        now = time.monotonic()
        for key in [key for key, (_, since) in self._names.items() if now - since > _KEPT_SECONDS]:
            self._remove(key)
        key = secrets.token_hex(16)
        self._names[key] = name, now
        path = self.folder / key
        path.write_bytes(data)
        return str(path)

    def take(self, key: str) -> tuple[str, bytes]:
        """The name that it was sent under, and what it holds; it is removed.

        Raises:
            ServiceError: "not_found".
        """
        if key not in self._names:
            raise ServiceError("not_found", "the file is gone; choose it again")
        name, data = self._names[key][0], (self.folder / key).read_bytes()
        self._remove(key)
        return name, data

    def _remove(self, key: str) -> None:
        self._names.pop(key)
        # gradio makes a copy, and for each file that a function gets an empty one.
        for copy in [*self.folder.rglob(key), *self.folder.glob("tmp*")]:
            copy.unlink(missing_ok=True)


class _Door:
    """Lets through what belongs to the API or to the page, the latter by password if need be."""

    def __init__(self, app: ASGIApp, tokens: Tokens | None) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        of_api = path.startswith("/v1/") or path in ("/metrics", "/openapi.json")
        if scope["type"] != "http" or of_api:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if not (_NEEDED.fullmatch(path) or path in (_UPLOAD, _PROGRESS)):
            answer: Response = respond(Fault("not_found", "Not Found"), id_of(request))
        elif self._tokens is not None and not _password(request, self._tokens):
            fault = Fault("unauthorized", "expected a token as the password")
            answer = respond(fault, id_of(request))
            answer.headers["WWW-Authenticate"] = 'Basic realm="ffdetect: a token as password"'
        else:
            await self._app(scope, receive, send)
            return
        await answer(scope, receive, send)


def _password(request: Request, tokens: Tokens) -> bool:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return False
    try:
        text = base64.b64decode(given, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    return tokens.name(text.partition(":")[2]) is not None


def _blocks(service: Service, kept: _Uploads) -> gr.Blocks:
    with gr.Blocks(title="ffdetect", analytics_enabled=False) as blocks:
        gr.Markdown(_INTRO)
        files = gr.File(label=_LABEL, file_count="multiple", elem_id="files")
        button = gr.Button("Score", variant="primary", elem_id="score")
        status = gr.HTML(elem_id="status")
        results = gr.HTML(elem_id="results")
        faces = gr.State({}, time_to_live=_KEPT_SECONDS)
        with gr.Row(visible=False, elem_id="why") as why:
            face = gr.Dropdown(label="Face", choices=[], interactive=True)
            explain = gr.Button("Show heat map, residual and spectrum", elem_id="explain")
        maps = gr.HTML(elem_id="maps")
        downloads = gr.HTML(elem_id="downloads")
        gr.HTML(markup.cannot())

        async def score(paths: list[str] | None) -> AsyncIterator[dict]:
            clear = {results: "", downloads: "", maps: "", faces: {}, why: gr.Row(visible=False)}
            yield {**clear, status: markup.status("Reading the files ...")}
            try:
                uploads = [kept.take(Path(path).name) for path in paths or []]
                if not uploads:
                    raise ServiceError("invalid_request", "choose files first")
                shown: list[Shown] = []
                async for text in _work(service, uploads, shown):
                    yield {status: markup.status(text)}
            except ServiceError as error:
                yield {status: markup.status(error.fault.message, failed=True), files: None}
                return
            found = _faces(uploads, shown)
            yield {
                status: markup.status(f"Done: {len(shown)} file{'s' * (len(shown) != 1)}."),
                results: markup.results(shown),
                downloads: markup.downloads(shown),
                faces: found,
                why: gr.Row(visible=bool(found)),
                face: gr.Dropdown(choices=list(found), value=next(iter(found), None)),
                files: None,
            }

        async def show(known: Faces, chosen: str | None) -> AsyncIterator[str]:
            yield markup.status("Looking for what moved the score ...")
            file = known.get(chosen or "")
            try:
                if file is None:
                    raise ServiceError("not_found", "the picture is gone; score it again")
                result = await asyncio.wrap_future(service.workers.do(Explain(*file)))
                if isinstance(result, Maps):
                    yield markup.maps(result, str(chosen))
                else:
                    yield markup.status(result.message, failed=True)
            except ServiceError as error:
                yield markup.status(error.fault.message, failed=True)

        outputs = [status, results, downloads, maps, faces, why, face, files]
        for clicked, work, given, told in (
            (button, score, [files], outputs),
            (explain, show, [faces, face], [maps]),
        ):
            clicked.click(
                work,
                given,
                told,
                api_visibility="private",
                show_progress="hidden",
                concurrency_limit=_AT_ONCE,
            )
    blocks.queue(max_size=128)
    return blocks


async def _work(
    service: Service, uploads: list[tuple[str, bytes]], shown: list[Shown]
) -> AsyncIterator[str]:
    """Fills `shown` in the order of the uploads; yields how far it is."""
    while not service.workers.ready:
        service.check_running()
        yield "The detector is starting ..."
        await asyncio.sleep(_LOOK)
    kinds = [media_of_content(data[:HEAD]) or "picture" for _, data in uploads]
    pictures = [data for (_, data), kind in zip(uploads, kinds, strict=True) if kind == "picture"]
    if pictures:
        yield f"Scoring {len(pictures)} picture{'s' * (len(pictures) != 1)} ..."
    scored = iter(await service.score(pictures, Wanted(previews=True)))
    for (name, data), kind in zip(uploads, kinds, strict=True):
        result: Scored | Fault
        if kind == "picture":
            result = next(scored)
        else:
            path = service.folder / secrets.token_hex(16)
            path.write_bytes(data)
            job = service.jobs.submit(
                "clip" if kind == "clip" else "sound", path, name=name, previews=True
            )
            while job.is_open:
                yield f"{'Watching' if kind == 'clip' else 'Listening'}: {job.progress:.0%} ..."
                await asyncio.sleep(_LOOK)
            service.jobs.get(job.id)
            result = job.scored or job.fault or Fault("unavailable", "it was cancelled")
        if isinstance(result, Scored):
            answer = result.answer.model_copy(update={"name": name})
            result = Scored(answer, result.previews)
        shown.append(Shown(name, kind, result))


def _faces(uploads: list[tuple[str, bytes]], shown: list[Shown]) -> Faces:
    found: Faces = {}
    for (_, data), one in zip(uploads, shown, strict=True):
        if isinstance(one.result, Scored) and isinstance(one.result.answer, Picture):
            for number in range(len(one.result.answer.faces)):
                found[f"{one.name}, face {number + 1}"] = data, number
    return found
