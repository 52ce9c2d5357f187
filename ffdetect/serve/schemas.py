"""What the API answers, as OpenAPI shows it. Scores are 0 to 1, higher is more likely fake."""

from __future__ import annotations

import math
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    WithJsonSchema,
    model_validator,
)

from ffdetect.provenance import report
from ffdetect.scoring import verdict

# JSON has no nan, and no -1 or "" where there is nothing.
Number = Annotated[
    float | None, BeforeValidator(lambda x: None if x is None or math.isnan(x) else float(x))
]
Quantity = Annotated[int | None, BeforeValidator(lambda x: None if x == -1 else x)]
Verdict = Annotated[
    Literal["real", "fake", "uncertain"] | None, BeforeValidator(lambda x: x or None)
]


# For people; the page of the service, which is given the objects, tells their kinds apart.
Reason = Annotated[InstanceOf[verdict.Reason], WithJsonSchema({"type": "string"})]


class Answer(BaseModel):
    """Also made of what has attributes of these names, such as the results of a detector."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", from_attributes=True)


class Problem(Answer):
    """An error, after RFC 9457."""

    type: str = "about:blank"
    title: str
    """of the status"""
    status: int
    code: str
    """what to program with"""
    detail: str
    """for people"""
    request_id: str
    """of the request, to find it in the logs"""


class Box(Answer):
    """In pixels of the upright picture; may reach past it."""

    left: float
    top: float
    right: float
    bottom: float

    @model_validator(mode="before")
    @classmethod
    def _of_array(cls, box: Any) -> Any:
        named = isinstance(box, np.ndarray)
        return dict(zip(cls.model_fields, box.tolist(), strict=True)) if named else box


class Quality(Answer):
    side: float
    """longer side of the face in pixels of the picture"""
    blur: float
    """0 (sharp) to 1"""
    blocks: float
    """visibility of JPEG blocks: 1 and more catch the eye"""
    jpeg_quality: Quantity
    """1 to 100 by the file's tables, null if it is no JPEG"""
    format: str
    """of the file"""


class Face(Answer):
    box: Box
    probability: float
    """how sure the face detector is that this is a face"""
    score: float
    """probability that the face is fake"""
    verdict: Verdict
    """null if it was not asked for"""
    reasons: list[Reason]
    """why it is uncertain"""
    quality: Quality


class Provenance(Answer):
    """What a file says of itself. No score depends on it, and its absence proves nothing."""

    says_generated: bool
    """whether any claim, signed or not, says that all or part of it was generated"""
    summary: str
    """for people"""
    claims: list[report.Claim]
    """"generated" first and "software" last, signed before unsigned"""
    manifests: list[report.Manifest]
    """of C2PA, the active one first"""
    generators: list[report.GeneratorText]
    camera: report.Camera | None
    """null without EXIF"""
    jpeg: report.JpegTables | None
    """null for other files"""
    container: report.Container | None
    """null for still pictures"""
    errors: list[report.ReadError]
    not_read: list[str]
    """what was not looked for"""


class Picture(Answer):
    name: str
    """as it was sent, for people"""
    width: int
    height: int
    faces: list[Face]
    """largest first; empty if no face was found"""
    faces_left_out: int = Field(
        default=0, validation_alias=AliasChoices("faces_left_out", "left_out")
    )
    """smaller faces that were found and not scored"""
    provenance: Provenance | None = None
    """what the file says of itself; null if it was not asked for"""
    error: Problem | None = None
    """why this picture has no result, where others of the request have one"""


class Pictures(Answer):
    images: list[Picture]
    """in the order in which they were sent"""
    weights: str

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "images": [
                        {
                            "name": "portrait.jpg",
                            "width": 512,
                            "height": 512,
                            "faces": [
                                {
                                    "box": {"left": 171, "top": 61, "right": 277, "bottom": 197},
                                    "probability": 0.9999,
                                    "score": 0.93,
                                    "verdict": "uncertain",
                                    "reasons": ["JPEG quality 20 is below 30"],
                                    "quality": {
                                        "side": 136,
                                        "blur": 0.31,
                                        "blocks": 0.4,
                                        "jpeg_quality": 20,
                                        "format": "jpeg",
                                    },
                                }
                            ],
                            "faces_left_out": 0,
                            "provenance": {
                                "says_generated": False,
                                "summary": "The file says what software wrote it: GIMP 2.10 ...",
                                "claims": [
                                    {
                                        "says": "software",
                                        "text": "GIMP 2.10",
                                        "source": "exif",
                                        "signer": "",
                                        "trust": "unsigned: anyone can write it",
                                    }
                                ],
                                "manifests": [],
                                "generators": [],
                                "camera": None,
                                "jpeg": {
                                    "family": "ijg",
                                    "quality": 20,
                                    "progressive": False,
                                    "subsampling": 0.25,
                                },
                                "container": None,
                                "errors": [],
                                "not_read": [],
                            },
                            "error": None,
                        }
                    ],
                    "weights": "best",
                }
            ]
        }
    )


class Frame(Answer):
    """One face in one frame."""

    frame: int
    time: float
    """seconds from the start"""
    score: float
    box: Box


class Track(Answer):
    """One person from cut to cut."""

    track: int
    score: float
    start: float
    end: float
    frames: list[Frame]


class Window(Answer):
    """A stretch of sound."""

    start: float
    end: float
    score: Number
    """null for silence or a short rest"""
    level: float
    """root mean square, 0 to 1"""


class Clip(Answer):
    name: str
    score: Number
    """face and voice joined: fake if either is; null if there is neither"""
    face: float | None
    voice: float | None
    tracks: list[Track]
    windows: list[Window]
    notes: list[str]
    """why something is missing, and what was damaged"""
    provenance: Provenance | None = None


class Sound(Answer):
    name: str
    score: float
    windows: list[Window]
    damaged: int
    """packets that could not be decoded, and were left out"""
    notes: list[str]
    """what was damaged or is missing"""
    provenance: Provenance | None = None


class State(str, Enum):
    queued = "queued"
    running = "running"
    done = "done"
    failed = "failed"
    cancelled = "cancelled"


class Job(Answer):
    id: str
    kind: Literal["clip", "sound"]
    state: State
    progress: float = Field(ge=0, le=1)
    """share of the work that is done, roughly"""
    waiting: int
    """jobs that come before it"""
    created: datetime
    expires: datetime | None
    """until when the result can be fetched; null while there is none"""
    result: Clip | Sound | None = None
    error: Problem | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "tSx0ca1wVq2Yb3mRk9nP5g",
                    "kind": "sound",
                    "state": "done",
                    "progress": 1.0,
                    "waiting": 0,
                    "created": "2026-11-30T12:00:00Z",
                    "expires": "2026-11-30T13:00:00Z",
                    "result": {
                        "name": "speech.wav",
                        "score": 0.87,
                        "windows": [{"start": 0.0, "end": 4.0, "score": 0.87, "level": 0.11}],
                        "damaged": 0,
                        "notes": [],
                        "provenance": None,
                    },
                    "error": None,
                },
                {
                    "id": "Zc8dQ1kL0sWf7uXy2eHjNg",
                    "kind": "clip",
                    "state": "running",
                    "progress": 0.4,
                    "waiting": 0,
                    "created": "2026-11-30T12:00:00Z",
                    "expires": None,
                    "result": None,
                    "error": None,
                },
            ]
        }
    )


class Health(Answer):
    status: Literal["ok"] = "ok"


class Ready(Answer):
    ready: bool
    workers: int
    """that have loaded their weights"""
    pictures: int
    """accepted and not answered yet"""
    jobs: int
    """waiting or running"""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ready": True, "workers": 2, "pictures": 5, "jobs": 0}]}
    )


class Version(Answer):
    version: str
    weights: str
    """as the service was told"""
    thresholds: dict[str, float] | None
    """false-positive rate -> score from which a face is flagged at it"""
    calibration: dict | None
    """what the scores were calibrated on"""
    about: dict
    """what the weights tell of their training"""
    card: str
    """the model card of shipped weights, in Markdown"""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "version": "1.0.0",
                    "weights": "best",
                    "thresholds": {"0.1": 0.62, "0.01": 0.86, "0.001": 0.95},
                    "calibration": None,
                    "about": {"date": "2026-11-30"},
                    "card": "# Model card ...",
                }
            ]
        }
    )
