"""Clips to key frames: spread over time, each the sharpest of a short window, cuts marked.

Nothing that the container says is trusted further than it must be: frames may change size, time
may stand still, jump or run backwards, packets may be damaged, and a clip ends where it ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .decode import MAX_MEGAPIXELS, Picture
from .formats import DecodeError
from .media import Frames, open_media, skipped, streams
from .video.display import Display, luma
from .video.joined import is_followed
from .video.picker import JUMP, Cuts, Pick, Picker, sharpness
from .video.timeline import Clock, Timeline

_EXPECTED = "an mp4, mov, avi, mkv, webm or mpg clip"
_DENSEST = 10  # moments for each frame that there should be; more find none
_REST = 0.25  # share of a file that may be left when all of its pictures are read
_SIGN = 100  # frames between signs of life


@dataclass(frozen=True)
class KeyFrame:
    """One frame of a clip.

    Attributes:
        picture: upright, with its frame number.
        time: seconds from the start of the clip's pictures.
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
    alive: Callable[[], None] = lambda: None,
    notes: list[str] | None = None,
) -> Iterator[KeyFrame]:
    """Yield some `frames` pictures spread evenly over a clip, in order of time.

    Near each of the evenly spaced moments the sharpest frame is taken, on the same side of a cut.
    A shot in which no moment lies gives one frame more, so that no scene goes unseen, at most
    `frames` of these; clips of which only parts are decoded (moments more than 5 s apart) have no
    such frames. Pictures are those that players show (`display`), of the stream that they take.
    What is damaged is left out, and frames that follow on it are taken only where no other is
    near; in a clip whose tail is missing, the last frame stands for what is not there.

    Args:
        frames: at least 1; shorter clips give all of theirs.
        region: called for where sharpness is judged: left, top, right, bottom as shares of the
            upright picture, or None for all of it.
        alive: called now and then.
        notes: gets what was damaged or not shown as players would, for people, at the end.

    Raises:
        DecodeError: not a clip, no video stream, frames too large, or not one frame decodable.
    """
    path, number, reason = Path(path), -1, ""
    with ExitStack() as stack:
        container = stack.enter_context(open_media(path, _EXPECTED))
        found = streams(container, "video")
        if not found:
            unknown = any(stream.codec_context is None for stream in container.streams.video)
            what = "its codec is not known" if unknown else "it has no video stream"
            raise DecodeError(f"expected {_EXPECTED} but {what}", path)
        tries = deque((stream.index, "AUTO") for stream in found)
        while tries:
            index, threads = tries.popleft()
            if container is None:  # of the one before it, nothing can be decoded
                container = stack.enter_context(open_media(path, _EXPECTED))
            stream = container.streams[index]
            stream.thread_type = threads
            clip = stack.enter_context(_Clip(path, container, stream, max_megapixels, alive))
            for pick in clip.picks(frames, region):
                number = max(number + 1, round(pick.time * clip.rate))
                pixels = clip.display.pixels(pick.frame)
                picture = Picture(pixels, str(path), stream.codec_context.name, frame=number)
                yield KeyFrame(picture, pick.time, pick.shot)
            reason, name, container = reason or clip.frames.reason, container.format.name, None
            if number < 0 and threads == "AUTO" and clip.frames.damaged:
                tries.appendleft((index, "SLICE"))  # frame threads may keep an error for good
                continue
            if notes is not None:
                notes += clip.notes()
                if is_followed(path, name):
                    notes.append("another film follows in the file, which players do not show")
            if number >= 0:
                return
    because = f": {reason}" if reason else ""
    raise DecodeError(f"expected {_EXPECTED} but not one frame could be decoded{because}", path)


class _Clip:
    """One stream of a clip, read once."""

    def __init__(
        self,
        path: Path,
        container: Any,
        stream: Any,
        max_megapixels: float,
        alive: Callable[[], None],
    ) -> None:
        self._alive = alive
        self.display = Display(path, container, stream, max_megapixels)
        self.frames = Frames(container, stream)
        self._timeline = Timeline(path, stream.index, alive)
        self._clock = Clock(container, stream, self._timeline.span)
        self.rate = self._clock.rate
        self._ended = False

    def __enter__(self) -> _Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self._timeline.close()

    def picks(self, count: int, region: Callable[[], np.ndarray | None]) -> Iterator[Pick]:
        """Decode what is needed, jumping over long gaps where a key frame lies beyond."""
        clock, cuts = self._clock, Cuts()
        most = _DENSEST * (self._timeline.seconds / clock.step + 1)
        picker = Picker(
            self._timeline.seconds,
            round(min(count, most)),
            clock.step,
            lambda frame: sharpness(self.display.luma(frame), region()),
        )
        self._jump(picker, cuts)
        for number, frame in enumerate(self.frames):
            if number % _SIGN == 0:
                self._alive()
            self.display.check(frame)
            time = clock.time(frame.dts if frame.pts is None else frame.pts)
            whole, taken, cut = self.frames.whole, False, False
            if picker.moments[0] - time > JUMP:  # as good as jumped over
                cuts.jump()
            elif whole:
                cut = cuts.before(luma(frame))
            for pick in picker.add(frame, time, cut, whole):
                taken = True
                yield pick
            if not picker.moments:
                return
            if taken:
                self._jump(picker, cuts)
        self._ended = len(picker.moments) > 0
        yield from picker.finish()

    def _jump(self, picker: Picker, cuts: Cuts) -> None:
        import av

        if picker.moments[0] - self._clock.now <= JUMP:
            return
        found = self._timeline.landing(picker.moments[0] - picker.half)
        if found and found[1] > self._clock.now + 2 * self._clock.step:
            if self._clock.now < 0:  # the first frame alone may tell how all are laid
                for frame in islice(self.frames, 1):
                    self.display.check(frame)
            try:
                self.frames.seek(found[0])
            except av.error.FFmpegError:
                return
            self._clock.jump(found[1])
            cuts.jump()

    def notes(self) -> list[str]:
        """What was damaged or not shown as players would."""
        damaged, said = self.frames.damaged, self._timeline.said
        if not self._timeline.broken:
            damaged = max(damaged, self.frames.flagged)
        lines = skipped(damaged, "pictures")
        if self._timeline.span:
            lines.append("the times of some pictures lie far from all others and are not believed")
        if said is not None and (self._ended or said > self._timeline.seconds):
            lines.append(f"the pictures end at {self._timeline.end:.1f} s of {said:.1f} s")
        if self._timeline.rest > _REST:
            lines.append(
                f"the last {self._timeline.rest:.0%} of the file cannot be read, or are of streams "
                "that begin late"
            )
        return [*lines, *self.display.notes]
