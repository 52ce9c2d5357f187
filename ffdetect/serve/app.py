"""The HTTP API: what is asked for is checked and answered; `workers` and `jobs` do the work."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote_to_bytes

from fastapi import Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from preprocess.io.formats import HEAD, is_text, media_of_content

from . import schemas
from .errors import ServiceError, handle_errors, problem, responses
from .jobs import Jobs
from .messages import Fault, Wanted
from .middleware import Requests, Tokens
from .observe import Metrics
from .settings import MEBIBYTE, Settings
from .workers import Workers

_FORM = 2**16  # bytes of a form around its files
_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"]
_FIELDS = 16  # beside the files
# RFC 5987, as older versions of Python's requests write a name that is not ASCII.
_EXTENDED = re.compile(rb"filename\*=[\w-]+'[\w-]*'([^\s;\"]*)", re.IGNORECASE)
_NAME = 120  # characters of a name that are given back
_UNSEEN = re.compile(r"[^\w .,()+@#=-]+")
_ABOUT = """Scores how likely faces and voices are to be deepfakes. A score is a reason to look,
never a proof. Nothing is fetched, and nothing is kept but the results of jobs for a while."""
_bearer = HTTPBearer(auto_error=False, description="only where the service has tokens")
_BUSY = ("unauthorized", "too_slow", "too_large", "invalid_request", "queue_full", "unavailable")


class Service:
    """Everything behind the API; the page uses it too.

    Args:
        folder: for the files of jobs, emptied by whoever made it.
        broken: called with the reason if no worker can start.
    """

    def __init__(self, settings: Settings, folder: Path, broken=lambda reason: None) -> None:
        self.settings, self.folder = settings, folder
        self.tokens = Tokens.read(settings.tokens)
        self.metrics = Metrics()
        self.workers = Workers(settings, self.metrics, broken)
        self.jobs = Jobs(settings, self.workers, self.metrics)
        self.stopping = False

    def check_running(self) -> None:
        """Raises:
        ServiceError: "unavailable", it is stopping.
        """
        if self.stopping:
            raise ServiceError("unavailable", "the service is stopping")

    def check_open(self) -> None:
        """Raises:
        ServiceError: "unavailable", nothing can be scored now.
        """
        self.check_running()
        if not self.workers.ready:
            raise ServiceError("unavailable", "no worker is ready yet")

    def body_limit(self, path: str) -> int:
        """Bytes of a request."""
        settings = self.settings
        if path.startswith("/v1/images"):
            return min(settings.image_bytes * settings.max_images, settings.queue_bytes) + _FORM
        if path.startswith(("/v1/clips", "/v1/sounds")):
            return settings.media_bytes + _FORM
        return max(settings.media_bytes, settings.image_bytes) + _FORM

    async def score(self, files: list[bytes], wanted: Wanted) -> list:
        """A `Scored` or a `Fault` for each file of a picture."""
        self.check_open()
        found = {n: fault for n, file in enumerate(files) if (fault := self._refuse(file))}
        good = [file for number, file in enumerate(files) if number not in found]
        futures = iter(self.workers.score(good, wanted))
        return [
            found[number] if number in found else await asyncio.wrap_future(next(futures))
            for number in range(len(files))
        ]

    def _refuse(self, file: bytes) -> Fault | None:
        """What needs no decoding to be known, so that it costs the others nothing."""
        most, head = self.settings.max_image_mb, file[:HEAD]
        if len(file) > self.settings.image_bytes:
            got = f"{len(file) / MEBIBYTE:.1f} MiB"
            return Fault("too_large", f"expected at most {most:g} MiB but got {got}")
        media = media_of_content(head)
        if not file or media in ("clip", "sound") or (not media and is_text(head)):
            what = media or ("text" if file else "an empty file")
            return Fault("unsupported_type", f"expected a picture but got {what}")
        return None


def _user(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None,
) -> str:
    """The name of whoever asks, "" where everybody may."""
    tokens: Tokens | None = request.app.state.service.tokens
    if tokens is None:
        return ""
    name = tokens.name(given.credentials) if given else None
    if name is None:
        raise ServiceError("unauthorized", "expected a valid bearer token")
    request.state.user = name
    return name


User = Annotated[str, Depends(_user)]


def make_app(service: Service) -> FastAPI:
    """The API; `service` has to be started and closed by whoever serves it."""
    app = FastAPI(
        title="ffdetect",
        version=metadata.version("ffdetect"),
        description=_ABOUT,
        docs_url=None,  # these pages are made of scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    handle_errors(app)

    @app.post(
        "/v1/images",
        response_model=schemas.Pictures,
        responses=responses(*_BUSY, "unsupported_type", "unreadable", "crashed", "timeout"),
        openapi_extra=_upload("files", many=True),
        summary="Score the faces of one or several pictures",
    )
    async def images(
        request: Request, user: User, verdict: bool = True, provenance: bool = True
    ) -> schemas.Pictures:
        """Every face with its score and, unless `verdict=false` (which is faster), its verdict.

        What the file says of itself, which no score depends on, comes unless `provenance=false`.
        One picture that cannot be scored is an error. Of several, each has its own `error`.
        """
        service.check_open()
        service.workers.check_room()
        async with read_form(request, service.settings.max_images) as form:
            uploads = _files(form, "files")
            names = [shown_name(upload.filename) for upload in uploads]
            files = [await upload.read() for upload in uploads]
        results = await service.score(files, Wanted(verdicts=verdict, provenance=provenance))
        if len(results) == 1 and isinstance(results[0], Fault):
            raise ServiceError(results[0].code, results[0].message)
        pictures = [
            schemas.Picture(name=name, width=0, height=0, faces=[], error=problem(result))
            if isinstance(result, Fault)
            else result.answer.model_copy(update={"name": name})
            for name, result in zip(names, results, strict=True)
        ]
        about = service.workers.about
        return schemas.Pictures(images=pictures, weights=about.weights if about else "")

    def accept(kind: Literal["clip", "sound"], summary: str) -> None:
        @app.post(
            f"/v1/{kind}s",
            name=f"{kind}s",
            status_code=202,
            response_model=schemas.Job,
            responses=responses(*_BUSY, "unsupported_type"),
            openapi_extra=_upload("file"),
            summary=summary,
        )
        async def accepted(request: Request, response: Response, user: User) -> schemas.Job:
            """Answered at once by a job; ask for it at the `Location` of the answer."""
            service.check_open()
            service.jobs.check_room()
            async with read_form(request, 1) as form:
                (upload,) = _files(form, "file")
                head = await upload.read(HEAD)
                await upload.seek(0)
                # Sound may well come as a clip, and a clip may well be listened to.
                if not head or media_of_content(head) == "picture" or is_text(head):
                    got = f"expected a {kind} but got another file"
                    raise ServiceError("unsupported_type", got)
                name, path = shown_name(upload.filename), service.folder / secrets.token_hex(16)
                await asyncio.to_thread(_copy, upload, path)
            job = service.jobs.submit(kind, path, name=name, owner=user)
            response.headers["Location"] = f"/v1/jobs/{job.id}"
            return service.jobs.answer(job)

    accept("clip", "Score the faces and the voice of a clip")
    accept("sound", "Score the voice of a recording or a clip")

    job_errors = responses("unauthorized", "not_found")

    @app.get("/v1/jobs/{job_id}", response_model=schemas.Job, responses=job_errors)
    async def job(job_id: str, user: User) -> schemas.Job:
        """How far a job is, and its result. What went wrong with its file is its `error`."""
        return service.jobs.answer(service.jobs.get(job_id, user))

    @app.delete("/v1/jobs/{job_id}", response_model=schemas.Job, responses=job_errors)
    async def cancel(job_id: str, user: User) -> schemas.Job:
        """Stop a job, or forget its result."""
        return service.jobs.answer(service.jobs.cancel(job_id, user))

    @app.get("/v1/health", response_model=schemas.Health)
    async def health() -> schemas.Health:
        """Whether the process answers."""
        return schemas.Health()

    @app.get(
        "/v1/ready",
        response_model=schemas.Ready,
        responses={503: {"model": schemas.Ready, "description": "Not now"}},
    )
    async def ready(response: Response) -> schemas.Ready:
        """Whether requests should be sent here: 503 while it starts, stops or is full."""
        workers, jobs = service.workers, service.jobs
        full = workers.held >= service.settings.queue
        is_ready = workers.ready > 0 and not service.stopping and not full
        response.status_code = 200 if is_ready else 503
        return schemas.Ready(
            ready=is_ready, workers=workers.ready, pictures=workers.held, jobs=jobs.open
        )

    @app.get(
        "/v1/version",
        response_model=schemas.Version,
        responses=responses("unauthorized", "unavailable"),
    )
    async def version(user: User) -> schemas.Version:
        """The weights: their thresholds, their calibration, their card."""
        if service.workers.about is None:
            raise ServiceError("unavailable", "no worker is ready yet")
        return service.workers.about

    @app.get("/metrics", response_class=Response, responses=responses("unauthorized"))
    async def metrics(user: User) -> Response:
        """For Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    known = [route for route in app.routes if isinstance(route, APIRoute)]

    @app.api_route("/metrics", methods=_METHODS, include_in_schema=False)
    @app.api_route("/v1/{path:path}", methods=_METHODS, include_in_schema=False)
    async def nothing(request: Request) -> None:
        """Everything else, before the page gets to see it."""
        here = [route for route in known if route.path_regex.match(request.scope["path"])]
        if methods := ", ".join(sorted({name for route in here for name in route.methods or ()})):
            detail = f"expected {methods} but got {request.method}"
            raise HTTPException(405, detail, {"Allow": methods})
        raise ServiceError("not_found", "there is nothing here; /openapi.json tells what there is")

    app.add_middleware(
        Requests,
        metrics=service.metrics,
        limit=service.body_limit,
        seconds=service.settings.upload_seconds,
    )
    return app


class _Form(MultiPartParser):
    """Knows whether the end was seen, without which the last file, or all, would be missed."""

    ended = False

    def on_headers_finished(self) -> None:
        part = self._current_part
        if part.content_disposition is not None:
            part.content_disposition = _EXTENDED.sub(_quoted, part.content_disposition)
        super().on_headers_finished()

    def on_end(self) -> None:
        self.ended = True


def _quoted(match: re.Match[bytes]) -> bytes:
    return b'filename="%s"' % re.sub(rb'[\r\n"\\]', b"_", unquote_to_bytes(match[1]))


@asynccontextmanager
async def read_form(request: Request, most: int) -> AsyncIterator[FormData]:
    """The fields of a request, whose files are gone afterwards.

    Args:
        most: files.

    Raises:
        ServiceError: "unsupported_type", "bad_request": no form, a damaged one, too many files.
    """
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise ServiceError("unsupported_type", "expected a body of type multipart/form-data")
    parser = _Form(request.headers, request.stream(), max_files=most, max_fields=_FIELDS)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise ServiceError("bad_request", error.message) from error
    try:
        if not parser.ended:
            raise ServiceError("bad_request", "expected a whole form but its end is missing")
        yield form
    finally:
        await form.close()


def _files(form: FormData, field: str) -> list[UploadFile]:
    found = [value for value in form.getlist(field) if isinstance(value, UploadFile)]
    if not found:
        raise ServiceError("invalid_request", f'expected files in the field "{field}" but got none')
    return found


def _copy(upload: UploadFile, path: Path) -> None:
    with path.open("xb") as stream:
        shutil.copyfileobj(upload.file, stream, MEBIBYTE)


def shown_name(name: str | None) -> str:
    """A name for people; no path is made of it."""
    last = re.split(r"[\\/]", name or "")[-1]
    return _UNSEEN.sub("_", last)[-_NAME:] or "file"


def _upload(field: str, many: bool = False) -> dict:
    """What OpenAPI tells of a form that is read by hand, after it is known that there is room."""
    file = {"type": "string", "format": "binary"}
    kind = {"type": "array", "items": file, "minItems": 1} if many else file
    schema = {"type": "object", "required": [field], "properties": {field: kind}}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }
