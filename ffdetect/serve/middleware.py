"""What every request passes: a number, limits on what it sends, headers, one line of log."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ServiceError, respond
from .messages import Fault
from .observe import Metrics, log

ID_HEADER = "X-Request-ID"
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")
_DISCARDED = 2**28  # bytes of a body that is too large which are read, so that the answer is seen
_GONE = 499  # in logs and metrics, as others call it
_PROBES = ("/v1/health", "/v1/ready", "/metrics")  # asked for all the time: not logged
# Nothing that a page of ours shows comes from elsewhere, and the browser sees to it.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; "
        "base-uri 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Requests:
    """Numbers, measures and logs requests, and stops bodies that are too large or too slow.

    Args:
        metrics: is kept up to date.
        limit: bytes of the body of a request to a path.
        seconds: in which a body must have arrived.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, limit: Callable[[str], int], seconds: float
    ) -> None:
        self._app, self._metrics, self._limit, self._seconds = app, metrics, limit, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # as GET; the server leaves the body out
            scope = {**scope, "method": "GET"}
        start = time.perf_counter()
        given = Headers(scope=scope).get(ID_HEADER, "")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        body = _Body(receive, self._limit(scope["path"]), self._seconds, Headers(scope=scope))
        status = 0

        async def respond_with(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[ID_HEADER] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, body.receive, respond_with)
        except ClientDisconnect:  # before its request was whole: nobody waits for an answer
            status = _GONE
        except Exception as error:
            log("failed", request=request_id, error=type(error).__name__)
            if status:
                raise
            fault = Fault("internal", "something went wrong; the logs tell more")
            if isinstance(error, ServiceError):
                fault = error.fault
            await respond(fault, request_id)(scope, receive, respond_with)
            if not isinstance(error, ServiceError):
                raise
        finally:
            self._count(scope, status, time.perf_counter() - start, body.size, request_id)

    def _count(self, scope: Scope, status: int, seconds: float, size: int, request: str) -> None:
        found = scope.get("route")
        route = getattr(found, "path", "") or "other"  # paths themselves may be anything
        self._metrics.requests.labels(route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if route in _PROBES:
            return
        log(
            "request",
            request=request,
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=round(1000 * seconds, 1),
            bytes=size,
            user=scope["state"].get("user", ""),
        )


class _Body:
    """What a request sends, up to a limit of bytes and seconds."""

    def __init__(self, receive: Receive, limit: int, seconds: float, headers: Headers) -> None:
        self._receive, self._limit = receive, limit
        self._seconds, self._deadline = seconds, time.monotonic() + seconds
        length = headers.get("content-length", "")
        self._declared = int(length) if length.isdecimal() else 0
        self._ended = False
        self.size = 0

    async def receive(self) -> Message:
        """The next message.

        Raises:
            ServiceError: "too_large", "too_slow".
        """
        if self._ended:  # what comes now is that the client went away
            return await self._receive()
        if self._declared > self._limit + _DISCARDED:
            raise self._too_large()
        message = await self._next()
        if max(self.size, self._declared) > self._limit:
            while not self._ended and self.size < _DISCARDED:
                await self._next()
            raise self._too_large()
        return message

    def _too_large(self) -> ServiceError:
        most = f"{self._limit / 2**20:.4g} MiB"
        return ServiceError("too_large", f"expected at most {most} in a request")

    async def _next(self) -> Message:
        left = self._deadline - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0))
        except asyncio.TimeoutError:
            self._ended = True
            if self._declared > self._limit:  # however long it would have taken
                raise self._too_large() from None
            raise ServiceError(
                "too_slow", f"expected the request within {self._seconds:g} s"
            ) from None
        self.size += len(message.get("body", b""))
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message


class Tokens:
    """Who may use the service: hashes of tokens, each with a name for the logs.

    A token is random and long, so that its SHA-256 cannot be turned back and needs no salt.
    """

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    @classmethod
    def read(cls, file: Path | None) -> Tokens | None:
        """From lines "NAME SHA-256"; None without a file.

        Raises:
            ValueError: the file cannot be read, or a line is another.
        """
        if file is None:
            return None
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{file}: expected a file of tokens but got: {error}") from error
        names = {}
        for number, line in enumerate(lines, 1):
            parts = line.split()
            if not parts or line.startswith("#"):
                continue
            if len(parts) != 2 or not _HASH.fullmatch(parts[1]):
                raise ValueError(f'{file}:{number}: expected "NAME SHA-256" but got another line')
            names[parts[1]] = parts[0]
        if not names:
            raise ValueError(f"{file}: expected at least one token but got none")
        return cls(names)

    def name(self, token: str) -> str | None:
        """Whose token it is, None if it is nobody's."""
        hashed = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        found = None
        for known, name in self._names.items():  # all of them, so that time tells nothing
            if hmac.compare_digest(known, hashed):
                found = name
        return found


def new_token() -> tuple[str, str]:
    """A token, and the hash of it that `Tokens` knows it by."""
    token = secrets.token_urlsafe(32)
    return token, hashlib.sha256(token.encode()).hexdigest()
