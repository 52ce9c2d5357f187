"""One service for all tests of a process, with small limits; some start their own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ..helpers import encode

pytest.importorskip("fastapi", reason="needs the [serve] extra")

from .running import Running

LIMITS = {
    "workers": 2,
    "batch-size": 4,
    "max-image-mb": 1,
    "max-media-mb": 3,
    "max-megapixels": 1,
    "max-images": 3,
    "max-faces": 1,
    "max-seconds": 20,
    "frames": 3,
    "queue": 16,
    "job-queue": 3,
    "keep-results": 60,
    "upload-seconds": 10,
}


def options(**changed: object) -> list[str]:
    named = {name.replace("_", "-"): value for name, value in changed.items()}
    return [f"--{name}={value}" for name, value in {**LIMITS, **named}.items()]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("service"), *options())
    try:
        yield running.ready()
    finally:
        running.kill()


@pytest.fixture(scope="session")
def portrait(astronaut: np.ndarray) -> bytes:
    return encode(astronaut, "JPEG", quality=90)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> bytes:
    """Two seconds of a face, with a buzz."""
    import av

    file = tmp_path_factory.mktemp("clip") / "clip.mp4"
    time = np.arange(32_000) / 16_000
    tone = (0.3 * np.sign(np.sin(2 * np.pi * 140 * time)) * np.sin(9 * time)).astype(np.float32)
    with av.open(str(file), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.height, video.width = 256, 256
        audio = container.add_stream("aac", rate=16_000)
        for number in range(20):
            shifted = np.ascontiguousarray(np.roll(astronaut[:256, 96:352], number, 1))
            container.mux(video.encode(av.VideoFrame.from_ndarray(shifted, format="rgb24")))
        for start in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = 16_000, start
            container.mux(audio.encode(frame))
        container.mux([*video.encode(), *audio.encode()])
    return file.read_bytes()


@pytest.fixture(scope="session")
def sound() -> bytes:
    """Five seconds of a buzz as a WAV file."""
    return wave_file(5)


def wave_file(seconds: float) -> bytes:
    import io
    import wave

    time = np.arange(round(16_000 * seconds)) / 16_000
    tone = np.sign(np.sin(2 * np.pi * 140 * time)) * np.sin(9 * time)
    stream = io.BytesIO()
    with wave.open(stream, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes((9000 * tone).astype(np.int16).tobytes())
    return stream.getvalue()
