"""python -m benchmarks.speed.service_load PICTURES: what `ffdetect serve` does under load.

Clients on this machine ask one service for scores of pictures, one a request, each as soon as it
has its answer. Per number of clients: pictures a second, the latency of answers, and what was
refused because the queue was full; beside them `Detector.score_batch` on the same files, and what
the service does with a picture done here to one after the other, which is all that a client can get
who sends one and waits for the answer. Then one client sends --files of them a request, as
`score_batch` is given many. In the end a third of the requests is hostile (truncated, empty, no
picture, enormous), and the latency of the others is compared. Requests without an answer are lost,
and there should be none.

With --requests so many small pictures are sent afterwards (of 32 to 64 px, most without a face),
and the memory of all processes is read on the way: it should come to rest. --clients without a
number leaves out the rest.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks._harness import Parser, save_result
from ffdetect.evaluation.tables import markdown
from ffdetect.scoring.analysis import analyze_pictures
from ffdetect.scoring.detector import Detector
from preprocess.io.decode import decode_image
from preprocess.io.formats import media_of_name
from preprocess.spread import evenly

_PATIENCE = 300.0  # seconds for one answer
_STEADY = 8  # clients while memory is watched


@dataclass
class Load:
    """What clients got.

    Attributes:
        clients: how many asked at once.
        seconds: from the first question to the last answer.
        latency: seconds of each answer to good pictures.
        pictures: good ones that were answered.
        statuses: HTTP status -> answers; good and hostile ones together.
        wrong: good pictures that were refused for what they are, and hostile ones that were not.
        lost: requests without an answer.
    """

    clients: int
    seconds: float = 0.0
    latency: list[float] = field(default_factory=list)
    pictures: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    lost: int = 0

    def to_dict(self) -> dict[str, Any]:
        middle, late = np.quantile(self.latency, (0.5, 0.99)) if self.latency else (np.nan, np.nan)
        return {
            "clients": self.clients,
            "pictures": self.pictures,
            "pictures a second": round(self.pictures / self.seconds, 2),
            "p50 seconds": round(float(middle), 3),
            "p99 seconds": round(float(late), 3),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "wrong": self.wrong,
            "lost": self.lost,
        }


def hostile_files() -> list[bytes]:
    """A truncated picture, nothing, text, an archive's head, and a small file of 400 megapixels."""
    whole = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(whole, "PNG")
    header = b"IHDR" + (20_000).to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header
    bomb += zlib.crc32(header).to_bytes(4, "big")
    return [whole.getvalue()[:60], b"", b"no picture", b"PK\x03\x04" + bytes(200), bomb]


async def ask(
    url: str,
    pictures: Sequence[bytes],
    clients: int,
    *,
    seconds: float = math.inf,
    requests: float = math.inf,
    hostile: float = 0,
    files: int = 1,
) -> Load:
    """Ask for `seconds`, or so many requests of `files` each; a share of the requests is hostile.
    Where the service is full, a client waits and asks the same again, beyond `seconds` too."""
    load, hostiles, start = Load(clients), hostile_files(), time.perf_counter()
    asked = 0

    async def client(number: int) -> None:
        nonlocal asked
        rng = np.random.default_rng(number)
        async with httpx.AsyncClient(base_url=url, timeout=_PATIENCE) as http:
            while asked < requests and time.perf_counter() - start < seconds:
                asked += 1
                bad = rng.random() < hostile
                choice = hostiles if bad else pictures
                data = [choice[i] for i in rng.integers(len(choice), size=files)]
                while (answer := await post(http, data)) is not None:
                    load.statuses[answer.status_code] += 1
                    if answer.status_code == 429:
                        await asyncio.sleep(float(answer.headers.get("retry-after", 1)))
                        continue
                    good = answer.status_code == 200 and not _failed(answer)
                    load.wrong += good == bad
                    if good and not bad:
                        load.latency.append(answer.elapsed.total_seconds())
                        load.pictures += files
                    break

    async def post(http: httpx.AsyncClient, data: Sequence[bytes]) -> httpx.Response | None:
        try:
            return await http.post(
                "/v1/images",
                params={"verdict": "false", "provenance": "false"},
                files=[("files", ("picture.jpg", one)) for one in data],
            )
        except httpx.HTTPError:
            load.lost += 1
            return None

    await asyncio.gather(*map(client, range(clients)))
    load.seconds = time.perf_counter() - start
    return load


def _failed(answer: httpx.Response) -> bool:
    """Whether a picture of the request was refused."""
    return any(picture.get("error") is not None for picture in answer.json()["images"])


class Service:
    """`ffdetect serve` in a process of its own, on a free port."""

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self._log = folder / "log.jsonl"
        command = [sys.executable, "-m", "ffdetect.serve", "--port", "0", *options]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--temporary", str(folder / "temporary")], stderr=log
            )

    def url(self) -> str:
        """Where it listens, when it is ready."""
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"expected a service but got {self._log.read_text()[-2000:]}")
            lines = [x for x in self._log.read_text().splitlines() if x.startswith("{")]
            ports = [e["port"] for e in map(json.loads, lines) if e["event"] == "listening"]
            if ports:
                url = f"http://127.0.0.1:{ports[0]}"
                if httpx.get(f"{url}/v1/ready").status_code == 200:
                    return url
            time.sleep(0.2)

    def megabytes(self) -> float:
        """Resident memory of the service and of the processes it started."""
        parents = {}
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                lines = dict(x.split(":", 1) for x in status.read_text().splitlines() if ":" in x)
            except OSError:
                continue
            parents[int(lines["Pid"])] = (int(lines["PPid"]), lines.get("VmRSS", "0 kB").split()[0])
        own, known = {self.process.pid}, 0
        while len(own) > known:
            known = len(own)
            own |= {pid for pid, (parent, _) in parents.items() if parent in own}
        return sum(int(parents[pid][1]) for pid in own if pid in parents) / 1024


def small_pictures(files: Sequence[Path]) -> list[bytes]:
    """The same pictures with a longer side of 32 to 64 px, as JPEG."""
    made = []
    for number, file in enumerate(files):
        image = Image.fromarray(decode_image(file).pixels)
        image.thumbnail((32 + 8 * (number % 5),) * 2)
        stream = io.BytesIO()
        image.save(stream, "JPEG")
        made.append(stream.getvalue())
    return made


def watch_memory(
    service: Service, url: str, pictures: Sequence[bytes], requests: int, every: int
) -> Iterator[dict[str, Any]]:
    """Megabytes of the service before the first request and after each `every` of them."""
    yield {"requests": 0, "megabytes": round(service.megabytes(), 1), "lost": 0, "wrong": 0}
    start = time.perf_counter()
    for done in range(0, requests, every):
        count = min(every, requests - done)
        load = asyncio.run(ask(url, pictures, _STEADY, requests=count))
        yield {
            "requests": done + count,
            "megabytes": round(service.megabytes(), 1),
            "lost": load.lost,
            "wrong": load.wrong,
            "minutes": round((time.perf_counter() - start) / 60, 1),
        }


def page(values: dict[str, Any]) -> str:
    """A result for people."""
    parts = []
    if "loads" in values:
        rows = [(f"{r['clients']}", r) for r in values["loads"]]
        if "together" in values:
            rows.append((f"1, {values['files a request']} files a request", values["together"]))
        rows.append((f"{values['hostile']['clients']}, a third hostile", values["hostile"]))
        columns = ["pictures a second", "p50 seconds", "p99 seconds"]
        lines = [
            [who, *(r[n] for n in columns), r["statuses"].get("429", 0), r["wrong"], r["lost"]]
            for who, r in rows
        ]
        parts += [
            f"`score_batch`: {values['score_batch pictures a second']} pictures/s, `analyze` one "
            f"by one: {values['analyze pictures a second']}. Memory of the service: "
            f"{values['megabytes before']} MB before, {values['megabytes after']} after.",
            markdown(
                ["clients", "pictures/s", "p50 s", "p99 s", "refused (429)", "wrong", "lost"], lines
            ),
        ]
    if "memory" in values:
        columns = ["requests", "megabytes", "wrong", "lost"]
        parts.append(
            markdown(
                ["requests of small pictures", "MB of all processes", "wrong", "lost"],
                [[r[name] for name in columns] for r in values["memory"]],
            )
        )
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("pictures", type=Path, metavar="PICTURES", help="a folder")
    add("--count", type=int, default=64, help="pictures (%(default)s)")
    add("--weights", default="best", help="best or fast (%(default)s)")
    add("--clients", type=int, nargs="*", default=[1, 8, 32, 128], help="(%(default)s)")
    add("--seconds", type=float, default=60, help="of each number of clients (%(default)s)")
    add("--files", type=int, default=16, help="a request, of one client (%(default)s)")
    add("--queue", type=int, help="pictures that the service holds (default: its own)")
    add("--workers", type=int, help="of the service (default: its own)")
    add("--requests", type=int, default=0, help="of small pictures (%(default)s)")
    add("--every", type=int, default=1000, help="requests between looks at memory (%(default)s)")
    parser.add_out()
    args = parser.parse_args(argv)
    found = sorted(f for f in args.pictures.rglob("*") if media_of_name(f.name) == "picture")
    chosen = [found[i] for i in evenly(np.arange(len(found)), args.count)]
    options = ["--weights", args.weights]
    for name in ("queue", "workers"):
        if getattr(args, name):
            options += [f"--{name}", str(getattr(args, name))]
    values: dict[str, Any] = {"processor": platform.processor() or platform.machine()}
    if args.clients:
        values |= direct_rates(args.weights, chosen)
    pictures = [file.read_bytes() for file in chosen]
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder), options)
        try:
            url = service.url()
            # Workers load their networks.
            asyncio.run(ask(url, pictures, 2, seconds=min(args.seconds, 5)))
            if args.clients:
                before = round(service.megabytes())
                loads = [
                    asyncio.run(ask(url, pictures, n, seconds=args.seconds)).to_dict()
                    for n in args.clients
                ]
                most, seconds = args.clients[-1], args.seconds
                together = asyncio.run(ask(url, pictures, 1, seconds=seconds, files=args.files))
                values |= {"files a request": args.files, "together": together.to_dict()}
                hostile = asyncio.run(ask(url, pictures, most, seconds=seconds, hostile=1 / 3))
                values |= {"loads": loads, "hostile": hostile.to_dict()}
                values |= {
                    "megabytes before": before,
                    "megabytes after": round(service.megabytes()),
                }
            if args.requests:
                small, values["memory"] = small_pictures(chosen), []
                for row in watch_memory(service, url, small, args.requests, args.every):
                    print(row, flush=True)
                    values["memory"].append(row)
        finally:  # what was measured before an interruption is kept
            service.process.terminate()
            service.process.wait()
            if "loads" in values or "memory" in values:
                save_result(args.out, parser.command(argv), values, page(values))
    return 0


def direct_rates(weights: str, files: Sequence[Path]) -> dict[str, float]:
    """Pictures a second without a service: scored together, and, as the service does it, every face
    of one picture after the other."""
    detector = Detector.load(weights, threads=None)

    def one_by_one(files: Sequence[Path]) -> None:
        for file in files:
            list(analyze_pictures(detector, [decode_image(file)], verdicts=False))

    rates = {}
    for name, score in (("score_batch", detector.score_batch), ("analyze", one_by_one)):
        score(files[:4])
        start = time.perf_counter()
        score(files)
        seconds = time.perf_counter() - start
        rates[f"{name} pictures a second"] = round(len(files) / seconds, 2)
    return rates


if __name__ == "__main__":
    sys.exit(main())
