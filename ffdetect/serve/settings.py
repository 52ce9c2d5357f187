"""What the service may be told, by options or by the environment (FFDETECT_SERVE_PORT=...)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from preprocess.work.cores import cores

MEBIBYTE = 2**20


class Settings(BaseSettings):
    """Limits hold for each file unless they say otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="FFDETECT_SERVE_", frozen=True, use_attribute_docstrings=True, extra="forbid"
    )

    host: str = "127.0.0.1"
    """where to listen; 0.0.0.0 is every network of this machine"""
    port: int = Field(8000, ge=0, le=65535)
    """0 takes a free one"""
    weights: str = "best"
    """a file, or of this package best or fast"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 for processors with AMX or avx512_bf16: see Detector.load"""
    workers: int = Field(default_factory=cores, ge=1, le=256)
    """processes, by default as many as there are cores; so many threads compute at a time"""
    tokens: Path | None = None
    """file of hashes of tokens, one of which every request must bear; see --new-token"""
    temporary: Path | None = None
    """folder in which the service makes one of its own, emptied at the end"""
    page: bool = True
    """whether to serve the web page at /"""

    batch_size: int = Field(16, ge=1, le=1024)
    """pictures, of one or several requests, that a worker takes at once"""
    batch_wait: float = Field(0, ge=0, le=10)
    """seconds that a picture waits for others, beyond those in which every worker is busy"""
    queue: int = Field(256, ge=1)
    """pictures that may be accepted and unanswered; beyond, requests get 429"""
    queue_mb: float = Field(512, gt=0)
    """MiB that they may take together"""
    job_queue: int = Field(32, ge=1)
    """clips and recordings that may wait or run; beyond, requests get 429"""
    keep_results: float = Field(600, gt=0)
    """seconds for which the result of a job can be fetched"""

    max_images: int = Field(32, ge=1)
    """pictures in one request"""
    max_image_mb: float = Field(20, gt=0)
    """MiB of a picture"""
    max_media_mb: float = Field(200, gt=0)
    """MiB of a clip or recording"""
    max_megapixels: float = Field(40, gt=0)
    """of a picture or frame"""
    max_faces: int = Field(32, ge=1)
    """largest faces of a picture that are scored; others are counted"""
    max_seconds: float = Field(600, gt=0)
    """length of a clip or recording"""
    frames: int = Field(16, ge=1, le=1000)
    """key frames of a clip that are looked at"""

    upload_seconds: float = Field(60, gt=0)
    """in which a request must have arrived"""
    silent_seconds: float = Field(60, gt=0)
    """without a sign of life after which a worker is replaced"""
    job_seconds: float = Field(900, gt=0)
    """that a clip or recording may take"""
    stop_seconds: float = Field(60, ge=0)
    """after a signal to stop, in which what was accepted is finished and jobs can be fetched"""

    @property
    def image_bytes(self) -> int:
        return round(self.max_image_mb * MEBIBYTE)

    @property
    def media_bytes(self) -> int:
        return round(self.max_media_mb * MEBIBYTE)

    @property
    def queue_bytes(self) -> int:
        return round(self.queue_mb * MEBIBYTE)
