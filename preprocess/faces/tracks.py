"""The faces of a clip as tracks: one identity each, from cut to cut, by overlap and motion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from preprocess.io.clips import key_frames
from preprocess.io.decode import MAX_MEGAPIXELS

from .crop import crop_face
from .detect import FaceDetector
from .face import CropSettings, Face
from .search import ClipSearch

_REACH = (0.5, 1.0)  # faces' widths that one may move, at once and
_REACH_PER_SECOND = 0.5  # more for every second in between
_GROWTH = 1.8  # a face does not change its size by more than this factor
_RIVAL = 0.5  # of the largest face's side; who is smaller hardly ever leads
_PATIENCE = 2  # key frames that a track may miss and still go on


@dataclass(frozen=True)
class ClipFace:
    """One face of one key frame.

    Attributes:
        frame: number of the frame in the clip.
        width, height: of the upright frame, in pixels.
        format: name of the codec.
        time: seconds from the start of the clip.
        shot: number of the shot, from 0.
        track: number of the track in the clip; 0 is large for longest.
        face: where it was found, in pixels of the upright frame; None stands for a frame as a
            whole, which `clip_faces` never gives.
        crop: uint8 size x size x 3 RGB.
    """

    frame: int
    width: int
    height: int
    format: str
    time: float
    shot: int
    track: int
    face: Face | None
    crop: np.ndarray


def clip_faces(
    path: str | Path,
    detector: FaceDetector,
    settings: CropSettings,
    *,
    frames: int,
    people: str = "all",
    max_megapixels: float = MAX_MEGAPIXELS,
    alive: Callable[[], None] = lambda: None,
    looked: Callable[[float], None] = lambda share: None,
    notes: list[str] | None = None,
) -> list[ClipFace]:
    """Find, cut out and follow the faces in the key frames of a clip (see `key_frames`).

    Frames are decoded one at a time; all crops are in memory together.

    Args:
        frames: key frames of the clip, spread over its tracks.
        people: "all", or "largest": in each shot the track that is largest for longest, among
            faces that are at least half as large as their frame's largest.
        alive: called after every key frame, and now and then in between.
        looked: called after every key frame with the share of them that is done, 0 to 1.
        notes: see `key_frames`.

    Returns:
        In order of time, within a frame in order of tracks; empty without a face.

    Raises:
        DecodeError: the file cannot be read.
    """
    search = ClipSearch(detector, 0.0 if people == "all" else _RIVAL)
    tracker, found = Tracker(), []
    stream = key_frames(
        path,
        frames=frames,
        max_megapixels=max_megapixels,
        region=tracker.region,
        alive=alive,
        notes=notes,
    )
    for number, key in enumerate(stream, 1):
        picture = key.picture
        faces = search.find(picture.pixels, key.time, key.shot)
        boxes = np.array([face.box for face in faces]).reshape(-1, 4)
        tracks = tracker.add(boxes, picture.width, picture.height, key.time, key.shot)
        for face, track in zip(faces, tracks, strict=True):
            crop = crop_face(picture.pixels, face, settings)
            found.append(
                ClipFace(
                    picture.frame,
                    picture.width,
                    picture.height,
                    picture.format,
                    key.time,
                    key.shot,
                    track,
                    face,
                    crop,
                )
            )
        alive()
        looked(min(number / frames, 1.0))  # cuts bring more of them
    rank = tracker.ranks()
    found = sorted(
        (replace(one, track=rank[one.track]) for one in found),
        key=lambda one: (one.time, one.track),
    )
    if people == "all":
        return found
    leading: dict[int, int] = {}
    for one in found:
        leading[one.shot] = min(one.track, leading.get(one.shot, one.track))
    return [one for one in found if one.track == leading[one.shot]]


@dataclass
class _Track:
    """Centres are in heights of the frame, so that frames may change size; sides likewise."""

    number: int
    shot: int
    last: int  # key frame it was seen in
    times: list[float] = field(default_factory=list)
    centres: list[np.ndarray] = field(default_factory=list)
    side: float = 0.0
    area: float = 0.0  # sum over key frames

    def add(self, key: int, time: float, centre: np.ndarray, side: float) -> None:
        self.last, self.side = key, side
        self.times.append(time)
        self.centres.append(centre)
        self.area += side**2

    def distance(self, time: float, centre: np.ndarray) -> float:
        """To where the face was or, if nearer, to where it was moving."""
        away = np.linalg.norm(centre - self.centres[-1])
        if len(self.times) < 2:
            return float(away)
        speed = (self.centres[-1] - self.centres[-2]) / (self.times[-1] - self.times[-2])
        expected = self.centres[-1] + speed * (time - self.times[-1])
        return float(min(away, np.linalg.norm(centre - expected)))


class Tracker:
    """Gives the faces of each key frame to tracks.

    Of all ways to pair faces with the tracks of the shot, the one with the least motion and
    growth in sum is taken (Kuhn 1955, "The Hungarian method for the assignment problem"). A face
    that no track can have reached begins one of its own. Who a person is, is not looked at:
    after a cut every face begins a track.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._key = -1
        self._region: np.ndarray | None = None

    def add(self, boxes: np.ndarray, width: int, height: int, time: float, shot: int) -> list[int]:
        """Numbers of the tracks of one key frame's faces.

        Args:
            boxes: N x 4, left, top, right, bottom in pixels.
            width, height: of the frame, in pixels.
            time: in seconds, later than that of the key frame before.
            shot: number of the shot.
        """
        self._key += 1
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        self._region = _around(boxes / [width, height, width, height]) if len(boxes) else None
        boxes = boxes / height
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        sides = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(1), 1e-6)
        open_tracks = [
            track
            for track in self._tracks
            if track.shot == shot and self._key - track.last <= _PATIENCE + 1
        ]
        taken = self._pair(open_tracks, centres, sides, time)
        numbers = []
        for index, (centre, side) in enumerate(zip(centres, sides, strict=True)):
            track = taken.get(index)
            if track is None:
                track = _Track(len(self._tracks), shot, self._key)
                self._tracks.append(track)
            track.add(self._key, time, centre, float(side))
            numbers.append(track.number)
        return numbers

    def _pair(
        self, tracks: Sequence[_Track], centres: np.ndarray, sides: np.ndarray, time: float
    ) -> dict[int, _Track]:
        if not tracks or not len(centres):
            return {}
        cost = np.full((len(tracks), len(centres)), np.inf)
        for row, track in enumerate(tracks):
            reach = min(_REACH[0] + _REACH_PER_SECOND * (time - track.times[-1]), _REACH[1])
            for column, (centre, side) in enumerate(zip(centres, sides, strict=True)):
                width = np.sqrt(side * track.side)
                moved = track.distance(time, centre) / width
                growth = abs(np.log(side / track.side))
                if moved <= reach and growth <= np.log(_GROWTH):
                    cost[row, column] = moved + growth
        return {column: tracks[row] for row, column in _least_cost(cost)}

    def region(self) -> np.ndarray | None:
        """Where the faces of the last key frame were: left, top, right, bottom as shares of the
        frame; None without a face."""
        return self._region

    def ranks(self) -> dict[int, int]:
        """Number of a track as `add` gave it -> its rank, 0 for the largest sum of areas."""
        order = sorted(self._tracks, key=lambda track: -track.area)
        return {track.number: rank for rank, track in enumerate(order)}


def _around(boxes: np.ndarray) -> np.ndarray:
    return np.clip(np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)]), 0, 1)


def _least_cost(cost: np.ndarray) -> list[tuple[int, int]]:
    """Rows and columns that pair up with the least cost in sum; inf cannot be paired."""
    possible = np.isfinite(cost)
    if possible.sum(0).max() <= 1 and possible.sum(1).max() <= 1:  # nobody could be mistaken
        return [(int(row), int(column)) for row, column in np.argwhere(possible)]
    from scipy.optimize import linear_sum_assignment  # half a second that few clips need

    rows, columns = linear_sum_assignment(np.where(possible, cost, 1e3))
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [pair for pair in pairs if possible[pair]]
