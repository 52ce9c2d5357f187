"""The same faces from networks that several processes share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from preprocess import crop
from preprocess.cache.faces import CacheSettings
from preprocess.cache.log import read_failures
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.faces import shared_networks
from preprocess.faces.detect import FaceDetector
from preprocess.faces.mtcnn_networks import Networks
from preprocess.faces.shared_networks import Request, SharedNetworks, answer, share_networks
from preprocess.io.sources import find_items
from preprocess.run import record_all
from preprocess.work.pool import WorkerError

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks("cpu")


class Recorder:
    """Networks that keep what they were asked, and all of it."""

    def __init__(self, networks: Networks) -> None:
        self._networks, self.asked = networks, {"propose": [], "refine": [], "finish": []}

    def propose(self, levels):
        levels = list(levels)
        self.asked["propose"].append((levels, list(self._networks.propose(levels))))
        return self.asked["propose"][-1][1]

    def refine(self, views):
        self.asked["refine"].append((views, self._networks.refine(views)))
        return self.asked["refine"][-1][1]

    def finish(self, views):
        self.asked["finish"].append((views, self._networks.finish(views)))
        return self.asked["finish"][-1][1]


def test_what_is_asked_at_the_same_time_is_answered_as_alone(networks, astronaut):
    recorder = Recorder(networks)
    detector = FaceDetector(networks=recorder)
    for pixels in (astronaut, astronaut[:300, 100:400], np.full((64, 64, 3), 9, np.uint8)):
        detector.detect(np.ascontiguousarray(pixels))
    asked = [(kind, *pair) for kind, pairs in recorder.asked.items() for pair in pairs]
    asked = asked[::2] + asked[1::2]  # kinds mixed, as they come
    with torch.inference_mode():
        answers = answer(networks, [Request(kind, value) for kind, value, _ in asked])
    assert len(answers) == 9
    for (kind, _, expected), told in zip(asked, answers, strict=True):
        flat = [part for level in expected for part in level] if kind == "propose" else expected
        told = [part for level in told for part in level] if kind == "propose" else told
        for left, right in zip(flat, told, strict=True):
            np.testing.assert_allclose(left, right, atol=1e-4)


def crop_folder(folder, out, monkeypatch, device: str, workers: int) -> CacheReader:
    """`crop_items`, with networks that are shared though the device may be a CPU."""
    monkeypatch.setattr(crop, "_is_shared", lambda device: True)
    with CacheWriter(out, CacheSettings()) as writer:
        crop.crop_items(find_items(folder).items, writer, device=device, workers=workers,
                        quiet=True)  # fmt: skip
    return CacheReader(out)


def assert_same_faces(one: CacheReader, other: CacheReader, pixels: float) -> None:
    assert list(one.metadata["key"]) == list(other.metadata["key"])
    for name in ("box", "landmarks"):
        left, right = (np.stack(cache.metadata[name]) for cache in (one, other))
        np.testing.assert_allclose(left, right, atol=pixels)


def test_workers_that_share_networks_write_the_rows_of_one_process(
    astronaut_folder, tmp_path, monkeypatch
):
    folder = astronaut_folder(real=12, fake=12)
    (folder / "fake" / "notes.jpg").write_text("no pixels")
    monkeypatch.setattr(crop, "_PICTURES_PER_WORKER", 8)
    shared = crop_folder(folder, tmp_path / "shared", monkeypatch, "cpu", workers=2)
    plain = crop_folder(folder, tmp_path / "plain", monkeypatch, "cpu", workers=0)
    assert_same_faces(shared, plain, pixels=0.125)
    assert read_failures(tmp_path / "shared") == read_failures(tmp_path / "plain")


@cuda
def test_a_gpu_finds_the_faces_of_a_cpu(astronaut_folder, tmp_path, monkeypatch):
    folder = astronaut_folder(real=12, fake=12)
    shared = crop_folder(folder, tmp_path / "shared", monkeypatch, "cuda", workers=2)
    plain = crop_folder(folder, tmp_path / "plain", monkeypatch, "cpu", workers=0)
    assert_same_faces(shared, plain, pixels=1.0)


def test_networks_that_ended_stop_the_run_and_blame_no_file(
    astronaut_folder, tmp_path, monkeypatch, capsys
):
    with share_networks("cpu") as address:
        pass
    with pytest.raises(WorkerError, match="the networks on cpu has ended"):
        SharedNetworks(address)
    folder = astronaut_folder(real=2, fake=0)

    class Ended(SharedNetworks):
        def __init__(self, *_: object) -> None:
            self._device, self._connection = "cuda", shared_networks._CONTEXT.Pipe()[0]

    item = find_items(folder).items[0]
    detector = FaceDetector(networks=Ended())
    with CacheWriter(tmp_path / "c", CacheSettings()) as writer:
        result = crop.extract(item, detector, writer.settings, 50)
        assert isinstance(result, WorkerError)
        with pytest.raises(WorkerError):
            record_all([(item, result)], writer, crop._record)
    assert not read_failures(tmp_path / "c")


def test_no_such_device_is_an_error_before_any_work(astronaut_folder, tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    arguments = [str(astronaut_folder()), "--out", str(tmp_path / "c"), "--quiet"]
    assert crop.main([*arguments, "--device", "cuda"]) == 1
    assert "error: expected a device for the networks but cuda: " in capsys.readouterr().err
