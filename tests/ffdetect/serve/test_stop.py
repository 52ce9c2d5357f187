"""A service of its own for each test: tokens, signals to stop, workers killed under load."""

from __future__ import annotations

import hashlib
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from ffdetect.serve.middleware import Tokens, new_token
from ffdetect.serve.server import listen, main, temporary_folder
from ffdetect.serve.settings import Settings

from .conftest import options
from .running import Running, kill_hard, until
from .test_api import problem


def test_workers_killed_under_load_lose_nothing_and_a_stop_finishes_what_was_accepted(
    tmp_path, portrait, clip
):
    service = Running(tmp_path, *options(queue=64, job_queue=8)).ready(2)
    try:
        with ThreadPoolExecutor(12) as users:
            answers = [users.submit(service.images, portrait, verdict=False) for _ in range(12)]
            sent = [
                service.client.post("/v1/clips", files={"file": ("talk.mp4", clip)})
                for _ in range(2)
            ]
            for pid in service.workers():
                kill_hard(pid)
            assert [answer.result().status_code for answer in answers] == [200] * 12
        jobs = [answer.headers["location"] for answer in sent]
        assert [service.wait(job)["state"] for job in jobs] == ["done"] * 2
        assert "ffdetect_worker_losses_total 0.0" not in service.client.get("/metrics").text

        # A stop: what was accepted is finished and can be fetched, nothing more is accepted.
        location = service.client.post("/v1/clips", files={"file": clip}).headers["location"]
        service.process.send_signal(signal.SIGTERM)
        until(lambda: [e for e in service.events() if e["event"] == "stopping"])
        problem(service.images(portrait), 503, "unavailable")
        assert service.client.get("/v1/ready").status_code == 503
        assert service.wait(location)["state"] == "done"
        assert service.process.wait(120) == 0
        assert [*service.folder.iterdir()] == []
        assert service.events()[-1]["event"] == "stopped"
    finally:
        service.kill()


def test_with_tokens_nobody_else_gets_an_answer(tmp_path, portrait, sound):
    tokens = {name: new_token() for name in ("ann", "bob")}
    file = tmp_path / "tokens"
    file.write_text("# who may ask\n" + "\n".join(f"{n} {h}" for n, (_, h) in tokens.items()))
    ann, bob = ({"Authorization": f"Bearer {tokens[name][0]}"} for name in ("ann", "bob"))
    service = Running(tmp_path, *options(tokens=file, workers=1, upload_seconds=2)).ready()
    try:
        post, get = service.client.post, service.client.get
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
            answer = post("/v1/images", files={"files": portrait}, headers=headers)
            problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
            for path in ("/v1/version", "/metrics", "/v1/jobs/0"):
                problem(get(path, headers=headers), 401, "unauthorized")
            assert get("/", headers=headers).status_code == 401
            upload = post("/gradio_api/upload", files={"files": portrait}, headers=headers)
            assert upload.status_code == 401
        assert get("/v1/health").status_code == get("/v1/ready").status_code == 200
        assert get("/", auth=("anyone", tokens["ann"][0])).status_code == 200
        assert post("/v1/images", files={"files": portrait}, headers=ann).status_code == 200
        job = post("/v1/sounds", files={"file": sound}, headers=ann).headers["location"]
        problem(get(job, headers=bob), 404, "not_found")  # of somebody else
        problem(service.client.delete(job, headers=bob), 404, "not_found")
        assert get(job, headers=ann).status_code == 200
        for token, hashed in tokens.values():
            assert token not in service.log() and hashed not in service.log()
        slow_upload_is_ended(service, ann)
    finally:
        service.kill()


def slow_upload_is_ended(service: Running, headers: dict[str, str]) -> None:
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port), timeout=60) as stream:
        lines = [
            "POST /v1/images HTTP/1.1",
            "Host: x",
            "Content-Type: multipart/form-data; boundary=x",
            "Content-Length: 1000",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        stream.sendall(("\r\n".join(lines) + "\r\n\r\n--x\r\n").encode())
        assert b" 408 " in stream.recv(100)


def test_a_service_that_cannot_start_says_why(tmp_path, capsys):
    assert main(["--port", "no"]) == 2
    assert "--port" in capsys.readouterr().err
    assert main(["--weights", str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors: expected a weights file" in capsys.readouterr().err
    (tmp_path / "tokens").write_text("ann secret\n")
    assert main(["--weights=fast", f"--tokens={tmp_path / 'tokens'}", "--no-page"]) == 2
    assert 'tokens:1: expected "NAME SHA-256"' in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--weights=fast", f"--port={port}", "--no-page"]) == 2
        assert "cannot listen" in capsys.readouterr().err


def test_answers_do_not_wait_for_acknowledgements():
    with listen(Settings(port=0)) as here, socket.create_connection(here.getsockname()):
        answering, _ = here.accept()
        with answering:
            assert answering.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_new_token_is_known_by_its_hash(capsys, tmp_path):
    assert main(["--new-token"]) == 0
    said = capsys.readouterr().out
    token, hashed = said.split()[4], said.split()[-1]
    assert hashlib.sha256(token.encode()).hexdigest() == hashed
    (tmp_path / "tokens").write_text(f"ann {hashed}\n")
    tokens = Tokens.read(tmp_path / "tokens")
    assert (tokens.name(token), tokens.name(token + "x"), tokens.name("")) == ("ann", None, None)


def test_what_a_killed_service_left_is_removed_and_what_another_uses_is_not(tmp_path):
    code = f"""
from pathlib import Path
from ffdetect.serve.server import temporary_folder
with temporary_folder(Path({str(tmp_path)!r})) as folder:
    (folder / "upload").write_bytes(b"x")
    print(folder, flush=True)
    input()
"""
    run = [sys.executable, "-c", code]
    first = subprocess.Popen(run, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    folder = Path(first.stdout.readline().strip())
    with temporary_folder(tmp_path) as own:
        assert (folder / "upload").exists() and own != folder
    first.kill()
    first.communicate()
    with temporary_folder(tmp_path) as own:
        assert not folder.exists() and own.exists()
    assert [p for p in tmp_path.iterdir() if p.name.startswith("ffdetect")] == []
