"""A clip -> scores of its frames, of its tracks, of face and voice, and one of the whole.

Every score is on one scale: 0.5 says nothing, and 0.7 that such a face or voice is 0.7 / 0.3
times as common among fakes as among reals, as measured on makers that training did not know
(`fusion`). Weights of your own have no such measurement; their faces count as their calibration
says (`Detector.calibration`), or as the network does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit, logsumexp

from preprocess.faces.crop import crop_whole
from preprocess.faces.tracks import ClipFace, clip_faces
from preprocess.io.clips import key_frames
from preprocess.io.formats import DecodeError, is_url

from .fusion import Fusion
from .quality import nothing_to_judge
from .tta import check_count

if TYPE_CHECKING:
    from ffdetect.voice import VoiceDetector, VoiceWindow
    from preprocess.work.pool import Alive

    from .detector import Detector

FRAMES = 8
_TRIM = 0.2  # share of a track's frames left out at either end
_EDGE = 1e-12  # keeps log odds of a voice finite


@dataclass(frozen=True)
class FrameScore:
    """One face in one frame.

    Attributes:
        frame: its number in the clip.
        time: seconds from the start.
        track: whose face it is.
        score: what the face would score if all frames were like this one, 0 to 1.
        box: float32[4], left, top, right, bottom in pixels of the upright frame; None if there
            is no face and the frame was scored whole.
        crop: uint8 size x size x 3 RGB, what the network saw.
    """

    frame: int
    time: float
    track: int
    score: float
    box: np.ndarray | None
    crop: np.ndarray


@dataclass(frozen=True)
class TrackScore:
    """One person from cut to cut.

    Attributes:
        track: its number, 0 is large for longest.
        score: 0 to 1, the trimmed mean of its frames' logits.
        frames: in order of time, at least one.
    """

    track: int
    score: float
    frames: tuple[FrameScore, ...]

    @property
    def start(self) -> float:
        """Seconds from the start of the clip to the first frame that was looked at."""
        return self.frames[0].time

    @property
    def end(self) -> float:
        return self.frames[-1].time


@dataclass(frozen=True)
class VideoScore:
    """A clip. Scores are 0 to 1, higher is more likely fake.

    Attributes:
        name: how messages call the clip.
        score: face and voice joined: fake if either is; nan if there is neither.
        face: the faces alone, None without any.
        voice: the voice alone, None where there is none or it was not listened to.
        tracks: in order of their numbers.
        windows: the sound, every 4 s; a score of nan is silence or a short rest.
        notes: why there is no face, what was damaged, and what was not shown as players would,
            for people.
        no_voice: why nothing could be heard where it was listened to, for people; "" otherwise.
    """

    name: str
    score: float
    face: float | None
    voice: float | None
    tracks: tuple[TrackScore, ...]
    windows: tuple[VoiceWindow, ...]
    notes: tuple[str, ...]
    no_voice: str = ""

    @property
    def whole(self) -> bool:
        """Whether no frame had a face, and frames were scored whole."""
        return bool(self.tracks) and all(frame.box is None for frame in self.frames)

    @property
    def frames(self) -> tuple[FrameScore, ...]:
        """All faces of all frames, in order of time."""
        every = (frame for track in self.tracks for frame in track.frames)
        return tuple(sorted(every, key=lambda frame: (frame.time, frame.track)))


def score_video(
    detector: Detector,
    clip: str | Path,
    *,
    frames: int = FRAMES,
    voice: bool = True,
    no_face: str = "nan",
    tta: str = "none",
    batch_size: int = 32,
    alive: Alive = lambda progress=None: None,
) -> VideoScore:
    """Score a clip by its faces and its voice.

    Crops of at most some `frames` times the people in them are in memory, and one window of sound,
    however long the clip is. The voice's weights are loaded when first needed.

    Args:
        detector: whose weights score faces.
        clip: a file; without pictures, or with sound alone, what there is decides.
        frames: key frames to look at (`preprocess.io.clips.key_frames`).
        voice: whether to listen.
        no_face: "nan", or "whole" to score whole frames where no frame has a face; blank ones
            are left out.
        tta: see `Detector`.
        alive: called after every key frame, with the share of them that is done, and after every
            window of sound.

    Raises:
        DecodeError: neither pictures nor sound can be read.
    """
    check_count("frames", frames)
    if no_face not in ("nan", "whole"):
        raise ValueError(f"expected no_face to be 'nan' or 'whole' but got {no_face!r}")
    detector.check_tta(tta)
    if not isinstance(clip, str | Path):
        raise DecodeError(f"expected the path of a clip but got {type(clip).__name__}")
    if is_url(clip):
        raise DecodeError("expected a path but got a URL; clips are not fetched", clip)
    clip, broken = Path(clip), None
    notes: list[str] = []
    try:
        if not clip.is_file():
            raise DecodeError("expected a clip but got no file", clip)
    except OSError as error:  # a name that is too long
        raise DecodeError(f"expected a clip but got: {error.strerror or error}", clip) from error
    faces: list[ClipFace] = []
    try:
        faces = _look(detector, clip, frames, no_face == "whole", alive, notes)
        if not faces:
            notes.append("no face")
    except DecodeError as error:
        broken = error
        notes.append(f"no pictures: {error.reason}")
    tracks, face_ratio = _score_tracks(detector, faces, tta, batch_size)
    windows: tuple[VoiceWindow, ...] = ()
    voice_ratio, no_voice = None, ""
    if voice:
        try:
            windows, voice_ratio, said = _listen(clip, alive)
            notes += said
        except DecodeError as error:
            if broken:
                raise broken from error
            no_voice = error.reason
    elif broken:
        raise broken
    fused = math.nan
    if face_ratio is not None or voice_ratio is not None:
        fused = _probability(Fusion.load().in_one_range().log_ratio(face_ratio, voice_ratio))
    return VideoScore(
        name=str(clip),
        score=fused,
        face=None if face_ratio is None else _probability(face_ratio),
        voice=None if voice_ratio is None else _probability(voice_ratio),
        tracks=tracks,
        windows=windows,
        notes=tuple(notes),
        no_voice=no_voice,
    )


def _look(
    detector: Detector,
    clip: Path,
    frames: int,
    whole: bool,
    alive: Alive,
    notes: list[str],
) -> list[ClipFace]:
    settings, limit = detector.crop_settings, detector.max_megapixels
    found = clip_faces(
        clip,
        detector.face_detector,
        settings,
        frames=frames,
        max_megapixels=limit,
        alive=alive,
        looked=alive,
        notes=notes,
    )
    if found or not whole:
        return found
    return [
        ClipFace(
            key.picture.frame,
            key.picture.width,
            key.picture.height,
            key.picture.format,
            key.time,
            key.shot,
            0,
            None,
            crop_whole(key.picture.pixels, settings),
        )
        for key in key_frames(clip, frames=frames, max_megapixels=limit, alive=alive)
        if not nothing_to_judge(key.picture.pixels, settings.size)
    ]


def _score_tracks(
    detector: Detector, faces: Sequence[ClipFace], tta: str, batch_size: int
) -> tuple[tuple[TrackScore, ...], float | None]:
    """Tracks, and the log ratio of all of them together."""
    if not faces:
        return (), None
    crops = np.stack([one.crop for one in faces])
    logits = detector.crop_logits(crops, batch_size=batch_size, tta=tta, clip=True)
    logits = logits.mean(0).numpy()
    ratio_of = _log_ratios(detector)
    tracks, ratios, looks = [], [], []
    for number in sorted({one.track for one in faces}):
        own = [i for i, one in enumerate(faces) if one.track == number]
        ratio = ratio_of(pool(logits[own]))
        scored = [
            FrameScore(
                one.frame,
                one.time,
                number,
                _probability(ratio_of(float(logits[i]))),
                one.face.box if one.face else None,
                one.crop,
            )
            for i, one in ((i, faces[i]) for i in own)
        ]
        tracks.append(TrackScore(number, _probability(ratio), tuple(scored)))
        ratios.append(ratio)
        looks.append(len(own))
    return tuple(tracks), any_of(np.array(ratios), np.array(looks))


def _log_ratios(detector: Detector) -> Callable[[float], float]:
    """What the logits of its network are worth."""
    if detector.shipped == "best":
        return Fusion.load().in_one_range().face.log_ratio
    own = detector.calibration
    return (lambda x: x / own.temperature + own.bias) if own else (lambda x: x)


def pool(logits: np.ndarray) -> float:
    """The logits of a track's frames as one: their mean without the fifth at either end.

    One frame of a hand before the face cannot move it.
    """
    ordered = np.sort(np.asarray(logits, np.float64))
    cut = int(len(ordered) * _TRIM)
    return float(ordered[cut : len(ordered) - cut].mean())


def any_of(log_ratios: np.ndarray, looks: np.ndarray) -> float:
    """Log ratio of a clip in which one track, it is not known which, may be fake.

    The mean of the tracks' ratios, each as likely as it is often seen: a fake among several
    people shows, and a passer-by or a false face of one frame counts little.
    """
    return float(logsumexp(log_ratios, b=looks / np.sum(looks)))


def _listen(clip: Path, alive: Alive) -> tuple[tuple[VoiceWindow, ...], float, tuple[str, ...]]:
    """Windows of sound, the log ratio of all of them, and what was damaged."""
    evidence = Fusion.load().in_one_range().voice
    heard = shipped_voice().analyze(clip, alive=alive)
    windows = tuple(
        replace(window, score=_probability(evidence.log_ratio(_log_odds(window.score))))
        if math.isfinite(window.score)
        else window
        for window in heard.windows
    )
    return windows, evidence.log_ratio(_log_odds(heard.score)), heard.notes


@cache
def shipped_voice() -> VoiceDetector:
    """Loaded when it is first needed."""
    from ffdetect.voice import VoiceDetector

    return VoiceDetector.load()


def _log_odds(probability: float) -> float:
    return float(logit(np.clip(probability, _EDGE, 1 - _EDGE)))


def _probability(log_ratio: float) -> float:
    return float(expit(log_ratio))
