"""Data and caches on an S3-compatible server, with connections that drop."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pandas as pd
import pytest
from PIL import Image

from preprocess import crop
from preprocess import sound as audio
from preprocess.cache import errors
from preprocess.cache import lock as lease
from preprocess.cache.check import check_cache
from preprocess.cache.errors import CacheError
from preprocess.cache.log import read_failures
from preprocess.cache.reader import CacheReader, SoundCache
from preprocess.cache.writer import CacheWriter
from preprocess.check import main as check
from preprocess.io import storage
from preprocess.io.storage import StorageError, as_path
from tests.preprocess.rows import SMALL, assert_rows, make_row
from tests.preprocess.sounds import buzz, write_sound
from tests.preprocess.work.tasks import make_hasty_extract

pytest.importorskip("s3fs", reason="URLs need the [cloud] extra")
moto = pytest.importorskip("moto.server", reason="needs an S3 server of its own")

SECRET = "do-not-print-this-secret"


class Proxy:
    """Passes connections on to a port of this machine; cuts them when told.

    Attributes:
        cut: all of them, now and from now on.
        bytes_left: until the one that passes them on is cut in the middle of an answer; None:
            none will be. With `for_good`, all others are cut from then on too.
    """

    def __init__(self, target: int) -> None:
        self.target, self.cut, self.bytes_left, self.for_good = target, False, None, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                if self.cut:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self.target))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not self.cut and (data := source.recv(65536)):
                if self.bytes_left is not None:
                    self.bytes_left -= len(data)
                    if self.bytes_left < 0:
                        self.bytes_left, data = None, data[: len(data) // 2]
                        self.cut = self.for_good
                        sink.sendall(data)
                        break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def server():
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    yield running.get_host_and_port()[1]
    running.stop()


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    """An empty bucket behind a proxy: (its URL, its proxy)."""
    proxy = Proxy(server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(storage, "WAITS", (0.1,))
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    name = f"bucket{proxy.port}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}", proxy


@pytest.fixture
def pictures(bucket, astronaut_folder):
    """A folder of pictures, the same at a URL."""
    folder = astronaut_folder(real=3, fake=3)
    Image.new("RGB", (99, 99)).save(folder / "real" / "wall #1?.png")
    (folder / "fake" / "notes.jpg").write_text("no pixels")
    url = f"{bucket[0]}/data"
    for file in folder.rglob("*.*"):
        storage.put(as_path(url) / file.relative_to(folder).as_posix(), file.read_bytes())
    return folder, url


def run(*arguments: object, workers: int = 0) -> int:
    return crop.main([*map(str, arguments), "--workers", str(workers), "--size", "128"])


def assert_same(one: object, other: object) -> None:
    left, right = CacheReader(one), CacheReader(other)
    pd.testing.assert_frame_equal(left.metadata, right.metadata)
    assert (left.crops(range(len(left))) == right.crops(range(len(right)))).all()
    kinds = [{(f.path, f.kind) for f in read_failures(path)} for path in (one, other)]
    assert kinds[0] == kinds[1]


def test_a_url_gives_the_rows_of_a_folder(bucket, pictures, tmp_path, capsys):
    folder, data = pictures
    out = f"{bucket[0]}/cache"
    assert run(data, "--out", out, "--report", tmp_path / "report.json") == 0
    assert run(folder, "--out", tmp_path / "here") == 0
    assert_same(out, tmp_path / "here")
    reasons = {failure.path: failure.reason for failure in read_failures(out)}
    assert reasons["fake/notes.jpg"].startswith(f"{data}/fake/notes.jpg: expected a jpg")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["faces"] == 6 and report["bytes"] > 6 * 128 * 128 * 3
    assert check([out]) == 0
    capsys.readouterr()
    assert run(data, "--out", out) == 0  # the lock was given back, and all is done
    assert "faces     6 (0 new)" in capsys.readouterr().out
    with pytest.raises(CacheError, match="without faces in common"):
        CacheReader([out, tmp_path / "here"])
    assert len(CacheReader(f"{bucket[0]}/c*e")) == 6


def test_only_small_columns_are_fetched_until_a_crop_is_read(bucket, tmp_path):
    rows = [make_row(n) for n in range(40)]
    rows[7].group = "long" * 100_000  # more than the head that is fetched at first
    with CacheWriter(f"{bucket[0]}/c", SMALL) as writer:
        for row in rows:
            writer.add([row])
    reader = CacheReader(f"{bucket[0]}/c")
    assert reader._tables == [None] and not (tmp_path / "home").exists()
    assert_rows(reader, rows)
    assert len(list((tmp_path / "home" / "ffdetect").iterdir())) == 1


def test_damage_at_a_url_is_found_and_repaired(bucket, pictures):
    out = f"{bucket[0]}/cache"
    assert run(pictures[1], "--out", out) == 0
    part = as_path(out) / "part-00000.arrow"
    data = bytearray(storage.read_bytes(part))
    data[len(data) // 2] ^= 1
    storage.put(part, bytes(data))
    with pytest.raises(CacheError, match="its SHA-256 differs"):
        CacheReader(out).crop(0)
    assert "SHA-256 differs" in check_cache(out).damaged["part-00000.arrow"]
    assert check([out, "--repair"]) == 0
    assert run(pictures[1], "--out", out) == 0 and len(CacheReader(out)) == 6


def test_a_connection_that_drops_loses_nothing(bucket, pictures, tmp_path, monkeypatch, capsys):
    (folder, data), (url, proxy) = pictures, bucket
    proxy.bytes_left = 300_000  # one connection ends in the middle of an answer
    assert run(data, "--out", f"{url}/one") == 0
    assert proxy.bytes_left is None

    seen = []

    def cut_at_third(file, alive):
        seen.append(file)
        proxy.cut = len(seen) == 3
        return storage.local_copy(file, alive)

    with monkeypatch.context() as patch:
        patch.setattr(errors, "local_copy", cut_at_third)
        report = tmp_path / "report.json"
        assert run(data, "--out", tmp_path / "two", "--report", report) == 1
    proxy.cut = False
    assert not json.loads(report.read_text())["finished"]
    assert 0 < len(CacheReader(tmp_path / "two")) < 6
    said = "".join(capsys.readouterr())
    assert f"error: {seen[2]}: cannot be reached" in said and "Traceback" not in said
    assert SECRET not in said + report.read_text()
    assert run(data, "--out", tmp_path / "two") == 0
    assert run(folder, "--out", tmp_path / "here") == 0
    assert_same(tmp_path / "two", tmp_path / "here")
    assert_same(f"{url}/one", tmp_path / "here")


def test_workers_read_urls_and_lose_nothing_to_a_connection_that_drops(
    bucket, pictures, tmp_path, monkeypatch, capsys
):
    (folder, data), (url, proxy) = pictures, bucket
    monkeypatch.setattr(crop, "PICTURES_PER_WORKER", 1)
    monkeypatch.setattr(crop, "make_extract", make_hasty_extract)
    proxy.bytes_left, proxy.for_good = 1_200_000, True  # some pictures, of about 300 KB each
    assert run(data, "--out", tmp_path / "here", workers=2) == 1
    said = "".join(capsys.readouterr())
    assert proxy.cut and "cannot be reached" in said and "Traceback" not in said
    assert SECRET not in said
    assert {f.path for f in read_failures(tmp_path / "here")} <= {"fake/notes.jpg"}
    proxy.cut = proxy.for_good = False
    proxy.bytes_left = 300_000  # one connection: it is tried again
    assert run(data, "--out", tmp_path / "here", workers=2) == 0
    assert proxy.bytes_left is None
    assert run(data, "--out", f"{url}/there", workers=2) == 0
    assert run(folder, "--out", tmp_path / "plain") == 0
    assert_same(tmp_path / "here", tmp_path / "plain")
    assert_same(f"{url}/there", tmp_path / "plain")


def test_sound_at_a_url_gives_the_rows_of_a_folder(bucket, tmp_path, monkeypatch, capsys):
    folder, (url, proxy) = tmp_path / "sound", bucket
    for number in range(3):
        write_sound(folder / "real" / f"{number}.wav", buzz(5.0, seed=number))
    (folder / "fake").mkdir()
    (folder / "fake" / "text.wav").write_text("words " * 99)
    for file in folder.rglob("*.wav"):
        storage.put(as_path(f"{url}/sound/{file.relative_to(folder)}"), file.read_bytes())
    plain, out = tmp_path / "plain", f"{url}/cache"
    assert audio.main([str(folder), "--out", str(plain), "--workers", "0"]) == 0

    proxy.bytes_left, proxy.for_good = 400_000, True  # a file is of 160 KB
    assert audio.main([f"{url}/sound", "--out", str(tmp_path / "c"), "--workers", "0"]) == 1
    assert "cannot be reached" in capsys.readouterr().err
    assert {f.path for f in read_failures(tmp_path / "c")} <= {"fake/text.wav"}
    proxy.cut = proxy.for_good = False
    for arguments in (("--out", tmp_path / "c", "--workers", "0"), ("--out", out, "--workers", 2)):
        assert audio.main([f"{url}/sound", *map(str, arguments)]) == 0
    here, there = SoundCache(plain), SoundCache(out)
    for cache in (there, SoundCache(tmp_path / "c")):
        pd.testing.assert_frame_equal(here.metadata, cache.metadata)
    assert len(there) == 6 and (there.mel(3) == here.mel(3)).all()
    (failure,) = read_failures(out)
    assert failure.reason.startswith(f"{url}/sound/fake/text.wav: expected")
    assert check([out]) == 0


def test_a_second_run_on_one_url_is_refused_until_the_lease_ends(bucket, monkeypatch):
    url = f"{bucket[0]}/c"
    first = CacheWriter(url, SMALL)
    with pytest.raises(CacheError, match=r"another run is writing to this cache .*process \d+"):
        CacheWriter(url, SMALL)
    monkeypatch.setattr(lease, "SECONDS", 0.0)  # as if the first one had been killed long ago
    second = CacheWriter(url, SMALL)
    first.add([make_row(0)])
    with pytest.raises(CacheError, match="another run has taken this cache over"):
        first.flush()
    second.add([make_row(1)])
    second.__exit__(None)
    assert_rows(CacheReader(url), [make_row(1)])


def test_what_cannot_be_reached_is_an_error_and_no_crash(bucket, capsys, tmp_path):
    url, proxy = bucket
    proxy.cut = True
    assert run(f"{url}/data", "--out", tmp_path / "c") == 1
    with pytest.raises(StorageError, match="cannot be reached"):
        storage.read_bytes(as_path(f"{url}/x"))
    with pytest.raises(CacheError, match="cannot be reached"):
        CacheReader(f"{url}/c")
    assert SECRET not in "".join(capsys.readouterr())


def test_credentials_are_refused_in_urls_and_cut_out_of_messages():
    for url in (f"sftp://me:{SECRET}@host/x", f"https://host/a.png?X-Amz-Signature={SECRET}"):
        with pytest.raises(ValueError, match="expected a URL without credentials") as caught:
            as_path(url)
        assert SECRET not in str(caught.value)
        assert SECRET not in storage.without_secrets(f"cannot open {url} now")
    with pytest.raises(ValueError, match=r"pip install 'ffdetect\[cloud\]'"):
        as_path("gs://bucket/x")


def test_numbers_that_json_does_not_have_are_null(tmp_path):
    def refuse(name: str):
        raise AssertionError(name)

    values = {"a": [float("nan"), 1.5], "b": {"c": (float("inf"), "NaN")}}
    storage.write_json(tmp_path / "new" / "f.json", values)
    text = (tmp_path / "new" / "f.json").read_text("utf-8")
    found = json.loads(text, parse_constant=refuse)
    assert found == {"a": [None, 1.5], "b": {"c": [None, "NaN"]}}
