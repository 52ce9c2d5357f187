"""python -m ffdetect.serve: listen, stop gently, leave nothing behind."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.util import get_temp_dir
from pathlib import Path
from types import FrameType

import h11
import uvicorn
from filelock import FileLock, Timeout
from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource
from uvicorn.protocols.http.h11_impl import H11Protocol

from ffdetect.weights import SHIPPED
from preprocess.work.pool import prepare

from .app import Service, make_app
from .errors import respond
from .messages import Fault
from .middleware import ID_HEADER, new_token
from .observe import log, log_to_stderr
from .settings import Settings
from .workers import refuse_connections

PROG = "ffdetect serve"
_PREFIX = "ffdetect-serve-"
_LOOK = 0.1  # seconds between looks at whether all is done


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Of the options that `settings` has."""
    parser: argparse.ArgumentParser = _options(prog).root_parser
    return parser


def _options(prog: str) -> CliSettingsSource:
    return CliSettingsSource(_Options, cli_prog_name=prog)


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0 after a signal to stop; 1 if it cannot serve; 2 wrong arguments."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments == ["--new-token"]:
        token, hashed = new_token()
        print(f"token, for whoever asks:  {token}\nline, for the file --tokens:  NAME {hashed}")
        return 0
    try:
        settings = CliApp.run(_Options, arguments, cli_settings_source=_options(prog))
        if settings.weights not in SHIPPED and not Path(settings.weights).is_file():
            raise ValueError(f"{settings.weights}: expected a weights file, best or fast")
        return serve(settings)
    except ValidationError as error:
        lines = [f"--{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        print("\n".join(lines), file=sys.stderr)
    except ValueError as error:
        print(error, file=sys.stderr)
    return 2


class _Options(
    Settings,
    cli_kebab_case=True,
    cli_implicit_flags=True,
    cli_hide_none_type=True,
):  # type: ignore[call-arg]
    """The detector as an HTTP service with a web page. `--new-token` alone makes a token.

    examples:
      ffdetect serve --port 8000
      ffdetect serve --host 0.0.0.0 --tokens tokens.txt --weights fast --workers 2
    """


_Options.__doc__ = inspect.cleandoc(_Options.__doc__ or "")  # the help shows it as it is


def serve(settings: Settings) -> int:
    """Serve until a signal to stop; see `main`.

    Raises:
        ValueError: settings that cannot be used.
    """
    log_to_stderr()
    with temporary_folder(settings.temporary) as folder:
        broken: list[str] = []

        def stop(reason: str) -> None:
            if not broken:
                broken.append(reason)
                log("broken", reason=reason)
            server.should_exit = True

        service = Service(settings, folder, stop)
        app = make_app(service)
        if settings.page:
            from .page.mount import mount_page

            mount_page(app, service)
        server = Server(service, app)
        listening = listen(settings)
        refuse_connections()
        prepare("ffdetect.serve.tasks")
        service.workers.start()
        host, port = listening.getsockname()[:2]
        log("listening", host=host, port=port, workers=settings.workers)
        try:
            server.run([listening])
        finally:
            service.workers.close(settings.stop_seconds if server.gently else 0)
        log("stopped")
        return 1 if broken else 0


def listen(settings: Settings) -> socket.socket:
    """Where the service will be asked.

    Raises:
        ValueError: nobody can listen there.
    """
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        found = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{settings.host}:{settings.port}: cannot listen: {reason}") from error
    # Connections take this over. Without it the second part of an answer waits for the client to
    # acknowledge the first, which is put off for 40 ms; asyncio sees to it for its own sockets.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


class Protocol(H11Protocol):
    """What is no HTTP gets an error of the same shape as what is."""

    def send_400_response(self, msg: str) -> None:
        request_id = secrets.token_hex(8)
        answer = respond(
            Fault("bad_request", "expected a valid request of HTTP/1.1 but got something else"),
            request_id,
        )
        headers = [*answer.raw_headers, (ID_HEADER.encode(), request_id.encode())]
        response = h11.Response(
            status_code=400, reason=b"Bad Request", headers=[*headers, (b"connection", b"close")]
        )
        for event in (response, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """Goes on answering after the first signal until what was accepted is done and fetched."""

    def __init__(self, service: Service, app) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                timeout_keep_alive=30,
                timeout_graceful_shutdown=10,
            )
        )
        self._service, self.gently = service, True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.stopping:  # the second signal
            self.gently = False
            self.should_exit = self.force_exit = True
            return
        self._service.stopping = True
        threading.Thread(target=self._stop, daemon=True).start()

    def _stop(self) -> None:
        service, seconds = self._service, self._service.settings.stop_seconds
        log("stopping", pictures=service.workers.held, jobs=service.jobs.open)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (service.workers.held or service.jobs.unfetched):
            time.sleep(_LOOK)
        self.should_exit = True


@contextlib.contextmanager
def temporary_folder(parent: Path | None) -> Iterator[Path]:
    """A folder of this service alone, in which all is written that is written, removed at the end.

    What a service that was killed has left there is removed too.

    Raises:
        ValueError: nothing can be written there.
    """
    before = tempfile.tempdir
    try:
        place = Path(parent or tempfile.gettempdir())
        place.mkdir(parents=True, exist_ok=True)
        get_temp_dir()  # of the workers' sockets, whose names must be short, is not in ours
        for left in place.glob(f"{_PREFIX}*"):
            _remove(left)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        lock = FileLock(folder / "lock")
        lock.acquire()
    except OSError as error:
        raise ValueError(f"{parent}: cannot be written: {error.strerror or error}") from error
    tempfile.tempdir = str(folder)  # where large uploads wait until they are read
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path) -> None:
    """A folder whose service does not run any more."""
    lock = FileLock(folder / "lock", timeout=0)
    with contextlib.suppress(Timeout, OSError), lock:
        shutil.rmtree(folder, ignore_errors=True)
