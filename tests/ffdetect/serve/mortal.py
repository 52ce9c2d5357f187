"""Tasks that do what the bytes they get say, without a network, so that they start at once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from ffdetect.serve import schemas
from ffdetect.serve.messages import Describe, Fault, Scored, ScorePictures
from ffdetect.serve.settings import Settings

ABOUT = schemas.Version(
    version="0", weights="none", thresholds=None, calibration=None, about={}, card=""
)


def make_task(settings: Settings):
    def picture(file: bytes, alive) -> Scored | Fault:
        name, _, value = file.decode().partition(" ")
        if name == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif name == "hang":
            time.sleep(1000)
        elif name == "once" and not Path(value).exists():
            Path(value).touch()
            os._exit(1)
        elif name == "until":
            while not Path(value).exists():
                alive(0.5)
                time.sleep(0.02)
        elif name == "bad":
            return Fault("unreadable", "no picture")
        return Scored(schemas.Picture(name=f"{file.decode()}", width=1, height=1, faces=[]))

    def task(job, alive):
        if isinstance(job, ScorePictures) and job.files == (b"threads",):
            return [picture(f"threads {job.threads}".encode(), alive)]
        if isinstance(job, Describe):
            return ABOUT
        if isinstance(job, ScorePictures):
            return [picture(file, alive) for file in job.files]
        scored = picture(job.path.read_bytes(), alive)
        clip = schemas.Clip(
            name="", score=None, face=None, voice=None, tracks=[], windows=[], notes=[]
        )
        return Scored(clip) if isinstance(scored, Scored) else scored

    return task


def make_nothing(settings: Settings):
    raise ValueError("expected weights but got none")
