"""ask.py PICTURE: waits for the service of this machine, asks for its health and for a score."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path

URL = "http://127.0.0.1:8000"
PATIENCE = 300.0  # seconds until it must be ready


def ask(path: str, body: bytes | None = None, kind: str = "") -> dict:
    request = urllib.request.Request(URL + path, body, {"Content-Type": kind} if kind else {})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def main() -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            health = ask("/v1/health")
            ask("/v1/ready")
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="picture"\r\n\r\n'
    body = part + Path(sys.argv[1]).read_bytes() + b"\r\n--x--\r\n"
    (picture,) = ask("/v1/images", body, "multipart/form-data; boundary=x")["images"]
    (face,) = picture["faces"]
    assert health == {"status": "ok"} and 0 <= face["score"] <= 1
    print(f"health {health['status']}, one face, score {face['score']:.3f}, {face['verdict']}")


if __name__ == "__main__":
    main()
