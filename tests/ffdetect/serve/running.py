"""A service as users run it: a process of its own, asked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

PATIENCE = 240.0  # seconds; a machine may be busy with much else


class Running:
    """Attributes:
    client: asks it.
    folder: where it keeps its temporary folder.
    """

    def __init__(self, place: Path, *options: str) -> None:
        self.folder = place / "temporary"
        self._log = place / "log.jsonl"
        command = [sys.executable, "-m", "ffdetect.serve", "--port", "0", "--weights", "fast"]
        command += ["--temporary", str(self.folder), *options]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log)
        said = until(
            lambda: self._ended() or [e for e in self.events() if e["event"] == "listening"]
        )
        self.url = f"http://127.0.0.1:{said[0]['port']}"
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def _ended(self) -> None:
        assert self.process.poll() is None, self._log.read_text()

    def ready(self, workers: int = 1) -> Running:
        until(lambda: self.client.get("/v1/ready").json()["workers"] >= workers or self._ended())
        return self

    def events(self) -> list[dict]:
        """What it has logged."""
        whole = self._log.read_text().rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in whole if line.startswith("{")]

    def log(self) -> str:
        return self._log.read_text()

    def files(self) -> list[Path]:
        """What it keeps on disk, but for its lock."""
        return [p for p in self.folder.rglob("*") if p.is_file() and p.name != "lock"]

    def workers(self) -> list[int]:
        """Numbers of its worker processes."""
        children = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
        # Workers are children of the fork server, which is one of the service.
        return [
            pid for server in children.get(self.process.pid, ()) for pid in children.get(server, ())
        ]

    def stop(self) -> int:
        """Its exit status after a signal to stop."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.kill()

    def kill(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()

    def images(self, *files: bytes, **query: object) -> httpx.Response:
        sent = [("files", (f"{n}.jpg", file)) for n, file in enumerate(files)]
        return self.client.post("/v1/images", files=sent, params=query)

    def job(self, kind: str, file: bytes, name: str = "file") -> dict:
        """What comes of a clip or a sound."""
        answer = self.client.post(f"/v1/{kind}", files={"file": (name, file)})
        assert answer.status_code == 202, answer.text
        return self.wait(answer.headers["location"])

    def wait(self, location: str) -> dict:
        return until(lambda: ended(self.client.get(location).json()))


def ended(job: dict) -> dict | None:
    return job if job["state"] not in ("queued", "running") else None


def until(look: Callable):
    """What it gives as soon as that is something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, "expected something to happen, but it did not"
        time.sleep(0.05)
    return found


def kill_hard(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
