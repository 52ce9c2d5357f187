"""python examples/client.py FILE ...: ask a running service about files (`ffdetect serve`).

Needs httpx alone. FFDETECT_URL says where the service is; FFDETECT_TOKEN, if it wants one, a token.
"""

from __future__ import annotations

import mimetypes
import os
import sys
import time
from pathlib import Path

import httpx

URL = os.environ.get("FFDETECT_URL", "http://127.0.0.1:8000")
TOKEN = os.environ.get("FFDETECT_TOKEN")


def ask(client: httpx.Client, method: str, path: str, **options) -> dict:
    """The answer; waits while the service is full, and raises what it says is wrong."""
    while True:
        answer = client.request(method, path, **options)
        if answer.status_code not in (429, 503):
            break
        time.sleep(float(answer.headers.get("retry-after", 1)))
    if answer.is_error:
        raise ValueError(answer.json()["detail"])
    return answer.json()


def score(client: httpx.Client, file: Path) -> str:
    kind = (mimetypes.guess_type(file.name)[0] or "image").partition("/")[0]
    data = (file.name, file.read_bytes())
    if kind == "image":
        (picture,) = ask(client, "POST", "/v1/images", files={"files": data})["images"]
        faces = [f"{face['score']:.2f} {face['verdict']}" for face in picture["faces"]]
        return ", ".join(faces) or "no face"
    job = ask(
        client, "POST", "/v1/sounds" if kind == "audio" else "/v1/clips", files={"file": data}
    )
    while job["state"] in ("queued", "running"):
        time.sleep(0.5)
        job = ask(client, "GET", f"/v1/jobs/{job['id']}")
    if job["result"] is None:
        raise ValueError(job["error"]["detail"] if job["error"] else job["state"])
    return str(job["result"]["score"])


if __name__ == "__main__":
    headers = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else {}
    with httpx.Client(base_url=URL, headers=headers, timeout=60) as client:
        for name in sys.argv[1:]:
            try:
                print(f"{name}: {score(client, Path(name))}")
            except (ValueError, httpx.HTTPError, OSError) as error:
                print(f"{name}: {error}", file=sys.stderr)
