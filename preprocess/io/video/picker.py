"""Which frames of a clip are looked at: spread over time, sharp, whole, one a shot at least."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

_WINDOW = 0.1  # seconds before and after a moment in which the sharpest frame is looked for
_OFF_CENTRE = 0.1  # a frame at the window's edge must be sharper by this share than its middle
_FLAT = 1e-6  # so that of flat frames the one in the middle is taken
JUMP = 5.0  # seconds; seeking lands on a coded picture, so nearer moments are decoded towards
_SHORTEST_SHOT = 0.3  # seconds; what is shorter need not be seen
_THUMBNAIL = 32
_CUT = 16.0  # mean difference of thumbnails in grey levels (talking people: up to 15.5), and
_CUT_RATIO = 4.0  # in usual differences of this clip
_RECENT = 8  # frames that say what is usual


@dataclass
class Pick:
    """A decoded frame that may be taken; `whole` if nothing of it is damaged, `value` its sharpness
    once that was needed."""

    frame: Any
    time: float
    shot: int
    whole: bool
    value: float | None = None


class Picker:
    """Chooses frames that pass by in order of time.

    Args:
        seconds: length of the clip.
        count: moments.
        step: seconds from a frame to the next, usually.
        sharpness: of a frame.

    Attributes:
        moments: seconds at which frames are still to be taken.
        half: seconds before and after each in which the sharpest is looked for.
    """

    def __init__(
        self, seconds: float, count: int, step: float, sharpness: Callable[[Any], float]
    ) -> None:
        self._gap = seconds / count
        self.moments = deque((i + 0.5) * self._gap for i in range(count))
        self.half = max(min(_WINDOW, self._gap / 4), step / 2)
        self._step, self._sharpness = step, sharpness
        self._more = count if self._gap <= JUMP else 0
        self._shot, self._start, self._shown = 0, 0.0, False
        self._held: Pick | None = None  # the best of the window that is open
        self._spare: Pick | None = None  # from the later half of a shot without a key frame
        self._last: Pick | None = None
        self._taken: Pick | None = None

    def add(self, frame: Any, time: float, cut: bool, whole: bool) -> Iterator[Pick]:
        """What is certain to be taken, now that this frame is there."""
        last = self._last
        paused = self.moments and not self._held and self._is_past(time)
        if last and paused and (self._taken is None or self._taken.time < last.time):
            yield self._take(last)  # it is shown at that moment, and until this one comes
        if cut:
            yield from self._end_shot(time)
            self._shot, self._start, self._shown = self._shot + 1, time, False
        before = self._whole_before()
        new = Pick(frame, time, self._shot, whole)
        if whole or self._last is None or not self._last.whole:
            self._last = new
        if self._held and self._is_past(time, before):
            yield self._take(before or self._held)
        if not self.moments:
            return
        if time >= self.moments[0] - self.half - self._step / 20:
            self._hold(new)
            if self._held and self._is_past(time):  # none was within the window: this one will do
                yield self._take(self._held)
        age = time - self._start
        if not self._spare or (whole and age >= 2 * (self._spare.time - self._start)):
            self._spare = new

    def finish(self) -> Iterator[Pick]:
        """What is left to take at the end of the clip."""
        if self._last is None:
            return
        yield from self._end_shot(self._last.time + self._step)
        taken = -1.0 if self._taken is None else self._taken.time
        if self.moments and self._last.time > taken:
            yield self._last

    def _whole_before(self) -> Pick | None:
        """The last whole frame before a window in which all is damaged, if it may be taken."""
        held, last = self._held, self._last
        if not held or held.whole or not last or not last.whole or last.shot != held.shot:
            return None
        near = last.time > self.moments[0] - max(self._gap / 2, self.half)
        return last if near and (not self._taken or self._taken.time < last.time) else None

    def _is_past(self, time: float, before: Pick | None = None) -> bool:
        """Whether the window has passed; next to damage it is open until something whole comes, or
        the next moment or a whole frame before is nearer."""
        whole = self._held is None or self._held.whole
        half = self.half if whole else max(self._gap / 2, self.half)
        if before:
            half = min(half, self.moments[0] - before.time + self._step / 10)
        return time >= self.moments[0] + half - self._step / 20

    def _hold(self, new: Pick) -> None:
        held = self._held
        if held is None or (new.whole, self._value(new)) > (held.whole, self._value(held)):
            self._held = new

    def _value(self, pick: Pick) -> float:
        if pick.value is None:
            off = min(abs(pick.time - self.moments[0]) / self.half, 1)
            pick.value = (self._sharpness(pick.frame) + _FLAT) * (1 - _OFF_CENTRE * off)
        return pick.value

    def _take(self, pick: Pick) -> Pick:
        self._taken, self._held, self._shown = pick, None, True
        self.moments.popleft()
        while self.moments and self.moments[0] <= pick.time + self._step / 2:
            self.moments.popleft()
        return pick

    def _end_shot(self, time: float) -> Iterator[Pick]:
        if self._held:
            yield self._take(self._whole_before() or self._held)
        elif self._spare and self._is_unseen(time):
            self._more -= 1
            self._taken = self._spare
            yield self._spare
        self._spare = None

    def _is_unseen(self, end: float) -> bool:
        return not self._shown and end - self._start >= _SHORTEST_SHOT and self._more > 0


class Cuts:
    """Finds cuts by how much small versions of neighbouring frames differ."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._usual: deque[float] = deque(maxlen=_RECENT)

    def jump(self) -> None:
        """The next frame is no neighbour: what is usual says nothing about it."""
        self._usual.clear()

    def before(self, luma: np.ndarray) -> bool:
        """Whether there is a cut before this frame, a uint8 H x W."""
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


def sharpness(luma: np.ndarray, region: np.ndarray | None) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield
    microscopy") within a region, as a share of that of the brightness, so that light and contrast
    do not count.

    Args:
        luma: uint8 H x W.
        region: left, top, right, bottom as shares of it, or None for all of it.
    """
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
