"""Clips to key frames: spread over time, each the sharpest of a short window, cuts marked.

Nothing that the container says is trusted further than it must be: frames may change size, time
may stand still, jump or run backwards, and a clip ends where it ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .decode import MAX_MEGAPIXELS, Picture, check_size
from .formats import DecodeError

_EXPECTED = "an mp4, mov, avi, mkv, webm or mpg clip"
_WINDOW = 0.1  # seconds before and after a moment in which the sharpest frame is looked for
_OFF_CENTRE = 0.1  # a frame at the window's edge must be sharper by this share than its middle
_FLAT = 1e-6  # so that of flat frames the one in the middle is taken
_JUMP = 5.0  # seconds; seeking lands on a coded picture, so nearer moments are decoded towards
_SHORTEST_SHOT = 0.3  # seconds; what is shorter need not be seen
_THUMBNAIL = 32
_CUT = 16.0  # mean difference of thumbnails in grey levels (talking people: up to 15.5), and
_CUT_RATIO = 4.0  # in usual differences of this clip
_RECENT = 8  # frames that say what is usual
_GREY_FIRST = frozenset(
    "gray yuv420p yuvj420p yuv422p yuvj422p yuv444p yuvj444p nv12 nv21".split()
)  # stored with a plane of 8-bit luma first


@dataclass(frozen=True)
class KeyFrame:
    """One frame of a clip.

    Attributes:
        picture: upright, with its frame number.
        time: seconds from the start of the clip.
        shot: which shot it belongs to, from 0; a cut begins another.
    """

    picture: Picture
    time: float
    shot: int


def decode_video(
    path: str | Path, *, frames: int, max_megapixels: float = MAX_MEGAPIXELS
) -> Iterator[Picture]:
    """The pictures of `key_frames`."""
    for key_frame in key_frames(path, frames=frames, max_megapixels=max_megapixels):
        yield key_frame.picture


def key_frames(
    path: str | Path,
    *,
    frames: int,
    max_megapixels: float = MAX_MEGAPIXELS,
    region: Callable[[], np.ndarray | None] = lambda: None,
) -> Iterator[KeyFrame]:
    """Yield some `frames` pictures spread evenly over a clip, in order of time.

    Near each of the evenly spaced moments the sharpest frame is taken, on the same side of a cut.
    A shot in which no moment lies gives one frame more, so that no scene goes unseen, at most
    `frames` of these; clips of which only parts are decoded (moments more than 5 s apart) have no
    such frames. Rotation metadata is applied. A clip whose tail is damaged yields what could be
    decoded, its last frame standing for what is missing.

    Args:
        frames: at least 1; shorter clips give all of theirs.
        region: called for where sharpness is judged: left, top, right, bottom as shares of the
            upright picture, or None for all of it.

    Raises:
        DecodeError: not a clip, no video stream, frames too large, or not one frame decodable.
    """
    import av

    path = Path(path)
    if not path.is_file() or not path.stat().st_size:
        what = "an empty file" if path.is_file() else "no file"
        raise DecodeError(f"{path}: expected {_EXPECTED} but got {what}")
    number = -1
    try:
        with _open(path) as container:
            if not container.streams.video:
                raise DecodeError(f"{path}: expected {_EXPECTED} but it has no video stream")
            stream = container.streams.video[0]
            context = stream.codec_context
            if context is None or not stream.time_base:
                raise DecodeError(f"{path}: expected {_EXPECTED} but its codec is not known")
            check_size(context.width, context.height, str(path), max_megapixels)
            stream.thread_type = "AUTO"
            seconds = _seconds(container, stream) or _count_seconds(path)
            picker = _Picker(seconds, frames, 1 / _rate(stream), region)
            for pick in _picks(container, stream, picker):
                check_size(pick.frame.width, pick.frame.height, str(path), max_megapixels)
                number = max(number + 1, round(pick.time * _rate(stream)))
                picture = _picture(pick.frame, path, context.name, number)
                yield KeyFrame(picture, pick.time, pick.shot)
    except av.error.FFmpegError as error:
        if number < 0:
            raise DecodeError(
                f"{path}: expected {_EXPECTED} but it cannot be decoded: {error.strerror}"
            ) from error
    if number < 0:
        raise DecodeError(f"{path}: expected {_EXPECTED} but not one frame could be decoded")


def _open(path: Path):
    import av

    # FFmpeg can follow play lists to other files and hosts; `file` alone is allowed here.
    options = {"protocol_whitelist": "file"}
    return av.open(str(path), options=options, metadata_errors="replace")


def _rate(stream) -> float:
    return float(stream.average_rate or 25)


def _seconds(container, stream) -> float:
    """How long the clip says it is; 0 if it does not."""
    seconds = float((stream.duration or 0) * stream.time_base) or (container.duration or 0) / 1e6
    # An index of all frames is what decoding goes by, so it cannot lie as a header can.
    indexed = stream.frames / _rate(stream)
    return indexed if indexed and not 0.5 < seconds / indexed < 2 else max(seconds, 0)


def _count_seconds(path: Path) -> float:
    """Of a stream that does not say how long it is, as browsers record it: by its packets."""
    with _open(path) as container:
        stream = container.streams.video[0]
        count, first, last = 0, None, 0
        for packet in container.demux(stream):
            count += packet.size > 0
            if packet.pts is not None:
                first = packet.pts if first is None else min(first, packet.pts)
                last = max(last, packet.pts + (packet.duration or 0))
        counted = float((last - first) * stream.time_base) if first is not None else 0
        return counted or count / _rate(stream)


@dataclass
class _Pick:
    """A decoded frame that may be taken; `value` is its sharpness once that was needed."""

    frame: object
    time: float
    shot: int
    value: float | None = None


def _picks(container, stream, picker: _Picker) -> Iterator[_Pick]:
    """Decode what is needed, jumping over long gaps."""
    clock, cuts = _Clock(stream), _Cuts()
    while picker.moments:
        if picker.moments[0] - clock.now > _JUMP:
            offset = int((picker.moments[0] - picker.half) / stream.time_base)
            container.seek((stream.start_time or 0) + offset, stream=stream)
            clock.jump()
            cuts.jump()
        for frame in container.decode(stream):
            time = clock.time(frame)
            taken = False
            for pick in picker.add(frame, time, cuts.before(_luma(frame))):
                taken = True
                yield pick
            if not picker.moments or (taken and picker.moments[0] - time > _JUMP):
                break
        else:
            yield from picker.finish()
            return


class _Picker:
    """Chooses frames that pass by in order of time.

    Args:
        seconds: length of the clip.
        count: moments.
        step: seconds from a frame to the next, usually.
        region: see `key_frames`.
    """

    def __init__(
        self, seconds: float, count: int, step: float, region: Callable[[], np.ndarray | None]
    ) -> None:
        gap = seconds / count
        self.moments = deque((i + 0.5) * gap for i in range(count))
        self.half = max(min(_WINDOW, gap / 4), step / 2)
        self._step, self._region = step, region
        self._more = count if gap <= _JUMP else 0
        self._shot, self._start, self._shown = 0, 0.0, False
        self._held: _Pick | None = None  # the best of the window that is open
        self._spare: _Pick | None = None  # from the later half of a shot without a key frame
        self._last: _Pick | None = None
        self._taken: _Pick | None = None

    def add(self, frame: object, time: float, cut: bool) -> Iterator[_Pick]:
        """What is certain to be taken, now that this frame is there."""
        if cut:
            yield from self._end_shot(time)
            self._shot, self._start, self._shown = self._shot + 1, time, False
        new = self._last = _Pick(frame, time, self._shot)
        if self._held and self._is_past(time):
            yield self._take()
        if not self.moments:
            return
        if time >= self.moments[0] - self.half - self._step / 20:
            self._hold(new)
            if self._is_past(time):  # nothing was within the window: the next one will do
                yield self._take()
        age = time - self._start
        if not self._spare or age >= 2 * (self._spare.time - self._start):
            self._spare = new

    def finish(self) -> Iterator[_Pick]:
        """What is left to take at the end of the clip."""
        if self._last is None:
            return
        yield from self._end_shot(self._last.time + self._step)
        if self.moments and self._last is not self._taken:
            yield self._last

    def _is_past(self, time: float) -> bool:
        return time >= self.moments[0] + self.half - self._step / 20

    def _hold(self, new: _Pick) -> None:
        if self._held is None or self._value(new) > self._value(self._held):
            self._held = new

    def _value(self, pick: _Pick) -> float:
        if pick.value is None:
            off = min(abs(pick.time - self.moments[0]) / self.half, 1)
            sharpness = _sharpness(pick.frame, self._region()) + _FLAT
            pick.value = sharpness * (1 - _OFF_CENTRE * off)
        return pick.value

    def _take(self) -> _Pick:
        self._taken, self._held, self._shown = self._held, None, True
        self.moments.popleft()
        while self.moments and self.moments[0] <= self._taken.time + self._step / 2:
            self.moments.popleft()
        return self._taken

    def _end_shot(self, time: float) -> Iterator[_Pick]:
        if self._held:
            yield self._take()
        elif self._is_unseen(time):
            self._more -= 1
            self._taken = self._spare
            yield self._spare
        self._spare = None

    def _is_unseen(self, end: float) -> bool:
        long_enough = end - self._start >= _SHORTEST_SHOT
        return not self._shown and long_enough and self._more > 0 and self._spare is not None


class _Clock:
    """Seconds from the start of a clip, always later than those of the frame before."""

    def __init__(self, stream) -> None:
        self._start, self._base = stream.start_time or 0, stream.time_base
        self._step = 1 / _rate(stream)
        self._shift, self.now = 0.0, 0.0
        self._running = False

    def jump(self) -> None:
        self._running = False

    def time(self, frame) -> float:
        if frame.pts is None:
            self.now += self._step if self._running else 0
        else:
            time = float((frame.pts - self._start) * self._base) + self._shift
            if self._running and time <= self.now:  # parts of several files, one after another
                self._shift += self.now + self._step - time
                time = self.now + self._step
            self.now = time
        self._running = True
        return self.now


class _Cuts:
    """Finds cuts by how much small versions of neighbouring frames differ."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._usual: deque[float] = deque(maxlen=_RECENT)

    def jump(self) -> None:
        """The next frame is no neighbour: what is usual says nothing about it."""
        self._usual.clear()

    def before(self, luma: np.ndarray) -> bool:
        """Whether there is a cut before this frame."""
        rows, columns = (max(side // (4 * _THUMBNAIL), 1) for side in luma.shape)
        small = cv2.resize(
            np.ascontiguousarray(luma[::rows, ::columns]),
            (_THUMBNAIL, _THUMBNAIL),
            interpolation=cv2.INTER_AREA,
        ).astype(np.float32)
        before, self._before = self._before, small
        if before is None:
            return False
        difference = float(np.abs(small - before).mean())
        usual = float(np.median(self._usual)) if self._usual else 0.0
        cut = difference > max(_CUT, _CUT_RATIO * usual)
        if cut:
            self._usual.clear()
        else:
            self._usual.append(difference)
        return cut


def _luma(frame) -> np.ndarray:
    """The brightness of a frame as it is stored, uint8 H x W."""
    if frame.format.name not in _GREY_FIRST:
        return frame.to_ndarray(format="gray")
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))
    return rows[: frame.height, : frame.width]


def _sharpness(frame, region: np.ndarray | None) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield
    microscopy") within a region of the upright picture, as a share of that of the brightness, so
    that light and contrast do not count."""
    luma = np.rot90(_luma(frame), _quarter_turns(frame))
    if region is not None:
        height, width = luma.shape
        left, right = np.clip(np.round(region[[0, 2]] * width).astype(int), 0, width)
        top, bottom = np.clip(np.round(region[[1, 3]] * height).astype(int), 0, height)
        luma = luma[top:bottom, left:right]
    if min(luma.shape) < 3:
        return 0.0
    luma = np.ascontiguousarray(luma)
    edges, light = (cv2.meanStdDev(of)[1].item() for of in (cv2.Laplacian(luma, cv2.CV_16S), luma))
    return (edges / max(light, 1.0)) ** 2


def _quarter_turns(frame) -> int:
    return round(getattr(frame, "rotation", 0) / 90) % 4


def _picture(frame, path: Path, codec: str, number: int) -> Picture:
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame))
    return Picture(np.ascontiguousarray(pixels), str(path), codec, frame=number)
