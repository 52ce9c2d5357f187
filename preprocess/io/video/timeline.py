"""When a clip's pictures are shown: a clock that never runs back, and how long a clip is and where
its key frames are, read from its packets without decoding them."""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.io.media import RESTART, Decoding, open_media, packets

_GAP = 10.0  # seconds ahead that are no pause in a broadcast, but another part
_REORDERED = 16  # packets that may precede one which is shown earlier (H.264)
_CUT_OFF = 2.0  # files that say to be longer by more than this factor do not know
_NEAR = 0.2  # seconds between lengths that are the same
SMALL = 2**25  # bytes; what is larger is not read to its end where it can be jumped to
_FAR = 1e6  # seconds, after the end of any clip
_LOOK = 10_000  # packets among which the next key frame must be
_BACK = (0.0, 2.0, 10.0)  # seconds before a moment at which a key frame is looked for
_SIGN = 1000  # packets between signs of life
_INDEXED = ("mov", "matroska", "avi", "asf", "flv")  # formats that know where their end lies
_BROADCAST = ("mpegts", "mpeg")  # formats that may be cut and joined anywhere
_MANY, _FEW = 10, 100  # of so many packets and more, one in so many may lie far from all others
_LAST = 2**12  # bytes at the end that may be of the packet before: MPEG puts several into one


def rate_of(stream: Any) -> float:
    """Frames a second, roughly."""
    return float(stream.average_rate or 25)


class Clock:
    """Seconds from the start of a clip, always later than those of the frame before.

    Args:
        span: where the stamps are that can be believed; of the others, the order alone.

    Attributes:
        now: of the last frame.
        rate: frames a second, roughly.
        step: seconds from a frame to the next, usually.
        broken: whether time jumped, as where files were put one after the other.
    """

    def __init__(self, container: Any, stream: Any, span: Span | None) -> None:
        self._span, self._base = span, stream.time_base
        self._start = span.start if span else stream.start_time
        self.rate = span.rate if span else rate_of(stream)
        self.step = 1 / self.rate
        self._gap = _GAP if container.format.name in _BROADCAST else math.inf
        self._shift, self.now = 0.0, -self.step
        self._running = self.broken = False

    def jump(self, time: float) -> None:
        """The next frame is one of about this time."""
        self.now, self._running = time - self.step, False

    def time(self, stamp: int | None) -> float:
        """The time of the next frame; its time stamp may be missing, stand still or run back."""
        after = self.now + self.step
        if stamp is None or (self._span and stamp not in self._span):
            self.now = after
        else:
            self._start = stamp if self._start is None else self._start
            time = float((stamp - self._start) * self._base) + self._shift
            if self._running and not self.now - RESTART < time < self.now + self._gap:
                self._shift += after - time
                self.broken, time = True, after
            self.now = after if self._running and time <= self.now else time
        self._running = True
        return self.now


class Timeline:
    """The time of one stream of a clip.

    Args:
        index: of the stream.
        alive: called now and then.

    Attributes:
        seconds: how long its pictures last, or would if the file were not cut off.
        end: when the last picture ends.
        said: what the file says of its length, where it is longer than what is there; else None.
        broken: whether time jumps, as where files were put one after the other.
        span: where the stamps are that can be believed; None if all can.
        rest: share of a broadcast that follows on the last packet of streams that begin early:
            others, or nothing that can be read.

    Raises:
        DecodeError: see `media.open_media`.
    """

    def __init__(self, path: Path, index: int, alive: Callable[[], None]) -> None:
        self._container = open_media(path, "a clip")
        self._stream = self._container.streams[index]
        self._alive, self._moved, self.said = alive, False, None
        self._size, self.rest = path.stat().st_size, 0.0
        self.span: Span | None = None
        found = None
        if self._is_indexed() and self._size > SMALL:
            found = self._measure(tail=True)
        if found is None or found.broken:
            found = self._measure(tail=False) or _Extent(0.0, 0.0, True)
        self.broken = found.broken
        self.seconds = self.end = found.end
        told = None if self.span else self._told(found.end)
        if told is not None and max(found.end, found.others) < told - _NEAR and not found.broken:
            self.said = told
            if told <= _CUT_OFF * found.end:
                self.seconds = told

    def close(self) -> None:
        self._container.close()

    @property
    def _start(self) -> int | None:
        return self.span.start if self.span else self._stream.start_time

    def landing(self, time: float) -> tuple[int, float] | None:
        """Where to jump to in order to decode what is shown at a time: the time stamp to seek, and
        the time of the key frame that it leads to. None where this cannot be told."""
        import av

        start, base = self._start, self._stream.time_base
        if self.broken or start is None:
            return None
        for back in _BACK:
            stamp = start + int((time - back) / base)
            try:
                self._container.seek(stamp, stream=self._stream)
            except av.error.FFmpegError:
                return None
            key = next((found for found in self._next_packets() if found.is_keyframe), None)
            shown = None if key is None else _stamp(key)
            if shown is None:
                return None
            if (shown - start) * base <= time:
                return stamp, float((shown - start) * base)
        return None

    def _next_packets(self) -> Iterator[Any]:
        import av

        for packet in islice(packets(self._container, self._stream), _LOOK):
            if not isinstance(packet, av.error.FFmpegError) and packet.size:
                yield packet

    def _is_indexed(self) -> bool:
        return self._container.format.name.split(",")[0] in _INDEXED

    def _told(self, end: float) -> float | None:
        """What the file says of its length, if anything."""
        stream, container = self._stream, self._container
        if not self._is_indexed():
            return None
        if stream.duration:
            return float(stream.duration * stream.time_base)
        if not container.duration:
            return None
        # Some count from 0, some from the start.
        start = float((stream.start_time or 0) * stream.time_base)
        until = container.duration / 1e6
        return min(until, until - start, key=lambda seconds: abs(seconds - end))

    def _measure(self, *, tail: bool) -> _Extent | None:
        """Read the packets of the whole clip, or of its tail alone; None if there are none."""
        import av

        container, stream = self._container, self._stream
        start, base = self._start, stream.time_base
        try:
            if tail and start is None:
                return None
            if tail:
                container.seek(start + round(_FAR / base), stream=stream)
            elif self._moved:
                container.seek(start or 0, stream=stream)
            self._moved = True
        except av.error.FFmpegError:
            return None
        clock, order = Clock(container, stream, self.span), _Order(Decoding(base))
        stamps = array("q")
        others, first, place = 0.0, float((start or 0) * base), 0
        for number, packet in enumerate(packets(container)):
            if number % _SIGN == 0:
                self._alive()
            if isinstance(packet, av.error.FFmpegError) or not packet.size or packet.is_discard:
                continue
            stamp, place = _stamp(packet), max(place, (packet.pos or 0) + packet.size)
            if packet.stream.index == stream.index:
                if stamp is not None:
                    stamps.append(stamp)
                    if self.span and stamp not in self.span:
                        continue
                for shown in order.add(stamp, packet.dts):
                    clock.time(shown)
            elif stamp is not None:
                ends = (stamp + (packet.duration or 0)) * packet.time_base
                others = max(others, float(ends) - first)
        for shown in order.rest():
            clock.time(shown)
        span = None if container.format.name in _BROADCAST else _span_of(stamps, base)
        if span and tail:
            return None
        if span and not self.span:
            self.span = span
            return self._measure(tail=False)
        end = clock.now + clock.step
        if container.format.name in _BROADCAST and self._size - place > _LAST:
            self.rest = 1 - place / self._size
        return _Extent(end, others, clock.broken) if end > 0 else None


@dataclass(frozen=True)
class Span:
    """Where all stamps of a stream are but for a few that lie far from all others, as damage and
    faulty writers leave them.

    Attributes:
        low, high: no stamp that can be believed is beyond.
        start: the first that can.
        rate: frames a second.
    """

    low: float
    high: float
    start: int
    rate: float

    def __contains__(self, stamp: int) -> bool:
        return self.low <= stamp <= self.high


def _span_of(stamps: array[int], base: Fraction) -> Span | None:
    """None where no stamp lies apart: as far as the others are long, and `_GAP` seconds more."""
    if len(stamps) < _MANY:
        return None
    ordered = np.sort(np.frombuffer(stamps, np.int64)).astype(float)
    few = max(len(ordered) // _FEW, 1)
    lengths = ordered[-few - 1 :] - ordered[: few + 1]
    first, length = int(lengths.argmin()), float(lengths.min())
    far = length + _GAP / float(base)
    low, high = ordered[first] - far, ordered[first] + length + far
    near = ordered[(low <= ordered) & (ordered <= high)]
    if len(near) == len(ordered) or not length:
        return None
    steps = np.diff(near)
    return Span(low, high, int(near[0]), 1 / (float(np.median(steps[steps > 0])) * float(base)))


@dataclass(frozen=True)
class _Extent:
    """Seconds from the start of the pictures to their end and to that of all else; whether time
    jumps in between."""

    end: float
    others: float
    broken: bool


class _Order:
    """Puts time stamps in the order in which frames are shown."""

    def __init__(self, decoding: Decoding) -> None:
        self._held: list[int] = []
        self._decoding = decoding

    def add(self, stamp: int | None, decoded: int | None) -> Iterator[int | None]:
        """Args: when it is shown and when it is decoded."""
        if stamp is None or self._decoding.restarts(stamp, decoded):
            yield from self.rest()
        if stamp is None:
            yield None
            return
        heapq.heappush(self._held, stamp)
        if len(self._held) > _REORDERED:
            yield heapq.heappop(self._held)

    def rest(self) -> Iterator[int]:
        while self._held:
            yield heapq.heappop(self._held)


def _stamp(packet: Any) -> int | None:
    return packet.dts if packet.pts is None else packet.pts
