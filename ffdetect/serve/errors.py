"""Everything that goes wrong has one shape: a problem of RFC 9457 with a code to program with."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from .messages import Fault
from .schemas import Problem

MEDIA_TYPE = "application/problem+json"
# Code -> status. Codes are what clients may rely on; messages are for people.
STATUS = {
    "bad_request": 400,
    "unauthorized": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_slow": 408,
    "too_large": 413,
    "unsupported_type": 415,
    "invalid_request": 422,
    "unreadable": 422,
    "crashed": 422,
    "timeout": 422,
    "queue_full": 429,
    "internal": 500,
    "unavailable": 503,
}
# Of what the framework raises: the first of each status.
_CODES = {status: code for code, status in reversed(STATUS.items())}
_RETRY_SECONDS = {"queue_full": "1", "unavailable": "5"}


class ServiceError(Exception):
    """What a request is answered with instead of a result."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(code, message)


def problem(fault: Fault, request_id: str = "") -> Problem:
    status = STATUS[fault.code]
    return Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=fault.code,
        detail=fault.message,
        request_id=request_id,
    )


def respond(fault: Fault, request_id: str) -> JSONResponse:
    """The whole answer."""
    body = problem(fault, request_id)
    headers = {}
    if fault.code in _RETRY_SECONDS:
        headers["Retry-After"] = _RETRY_SECONDS[fault.code]
    if fault.code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body.model_dump(), body.status, headers, MEDIA_TYPE)


def handle_errors(app: FastAPI) -> None:
    """Give every error of the API, the framework's own too, this shape."""

    @app.exception_handler(ServiceError)
    async def service(request: Request, error: ServiceError) -> JSONResponse:
        return respond(error.fault, id_of(request))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # Without "input", which would send what came back to whoever sent it, or to logs.
        found = [
            f"{'.'.join(map(str, one['loc'][1:])) or 'request'}: {one['msg']}"
            for one in error.errors()
        ]
        return respond(Fault("invalid_request", "; ".join(found)), id_of(request))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = _CODES.get(error.status_code, "bad_request")
        answer = respond(Fault(code, str(error.detail)), id_of(request))
        answer.headers.update(error.headers or {})  # which methods there are
        return answer


def responses(*codes: str) -> dict[int | str, dict]:
    """What OpenAPI tells of an endpoint's errors."""
    found: dict[int | str, dict] = {}
    for code in codes:
        status = STATUS[code]
        entry = found.setdefault(
            status,
            {
                "description": HTTPStatus(status).phrase,
                "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema(), "examples": {}}},
            },
        )
        example = problem(Fault(code, _EXAMPLES.get(code, "...")), "b7c1d6f0a2e94c58")
        entry["content"][MEDIA_TYPE]["examples"][code] = {"value": example.model_dump()}
    return found


_EXAMPLES = {
    "too_large": "expected at most 20 MiB but got 31.2 MiB",
    "unsupported_type": "expected a jpg, png, ... picture but the content is text",
    "unreadable": "expected a whole jpeg picture but it is damaged: image file is truncated",
    "queue_full": "256 pictures are waiting; try again later",
    "unavailable": "the service is stopping",
    "not_found": "no such job",
    "unauthorized": "expected a valid bearer token",
}


def id_of(request: Request) -> str:
    """Its number, in logs, headers and errors."""
    return getattr(request.state, "request_id", "")
