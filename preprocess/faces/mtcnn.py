"""MTCNN's cascade of three networks (how fast: benchmarks/results/preprocess_speed.md).

Zhang et al. 2016, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks", with the weights in facenet-pytorch's wheel and its thresholds, its rules for boxes and
its order of steps, so that the same faces come out. What differs is how it is computed:
every level of the pyramid and every candidate is averaged from one table of the picture's sums, and
the networks are fused (`mtcnn_networks`; ONNX Runtime runs them, `mtcnn_onnx`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from .mtcnn_interface import CELL, STRIDE, THRESHOLDS, Networks

_FACTOR = 0.709  # from one level to the next: half of the area
_GRID = 20  # facenet-pytorch's default for the smallest face: its levels are taken, not others
_NEAR_SIDES, _NEAR_REACH = (1 / 3, 2), 1.5  # in a face's sides: windows near it, how far around it
_LIKELY = 0.95  # probability of what the second network takes for a face
_GROWTH = 0.4, 0.6  # of a face's side: the least that the first and the second network make of it
_LARGE, _LARGE_FACTOR = 2e6, 1.25  # pixels of a picture that is large, of its smallest face
_KEPT = 2**29  # bytes of a picture's sums whose room is kept for the next
_BLOCK = 2**20  # bytes of a picture's sums that are worked on at once, to fit the cache too


@dataclass(frozen=True)
class Found:
    """The faces of one picture, in its pixels, in no order.

    Attributes:
        boxes: float32 N x 4, left, top, right, bottom; may reach past the picture.
        probabilities: float32 N.
        landmarks: float32 N x 5 x 2, left eye, right eye, nose, left and right corner of the mouth.
    """

    boxes: np.ndarray
    probabilities: np.ndarray
    landmarks: np.ndarray

    def apart(self) -> Found:
        """The surest of those that overlap."""
        keep = _nms_contained(self.boxes, self.probabilities, 0.7)
        return Found(self.boxes[keep], self.probabilities[keep], self.landmarks[keep])


class Cascade:
    """The search: what the networks are shown, and what becomes of what they say.

    Args:
        min_face: a face of this side in pixels is to be found; in pictures of more than 2
            megapixels one of 1.25 times this side, which saves work.
        networks: where they run; pictures are resampled on the CPU.
    """

    def __init__(self, min_face: int, networks: Networks) -> None:
        self._min_face = min_face
        self._networks = networks
        self._rooms: list[np.ndarray] = []  # more than one where several threads search

    def find(self, pixels: np.ndarray, near: np.ndarray | None = None) -> Found:
        """Faces in a uint8 H x W x 3 RGB picture of any size.

        Args:
            near: N x 4 boxes. With these, only windows of a third of a box's side to twice its
                side are looked into that lie within 1.5 sides of its centre. They are windows of
                the whole search, so that this finds the same there but for rounding (see
                docs/reproducibility.md).
        """
        with self._summed(pixels) as picture:
            parts = self._levels(picture.shape)
            return self._search(picture, parts if near is None else _around(near, parts))

    def find_largest(self, pixels: np.ndarray, sure: float, share: float = 1.0) -> Found:
        """The largest face of a picture and those nearly as large, as `find` gives them; of the
        others, those that turn up.

        Levels are searched from the largest window down, until something is likely to be a face and
        windows are so much smaller that they can show no larger one. From there on the search is
        around it, and ends where windows are too small to show it. Where it proves to be no face,
        the whole picture is searched.

        Args:
            pixels: see `find`.
            sure: probability from which on it is a face.
            share: of the largest face's side, from which on others are found too.
        """
        with self._summed(pixels) as picture:
            parts = self._levels(picture.shape)
            refined, rest = [], [*parts]
            likely = np.zeros((0, 4), np.float32)
            most, least = 0.0, 0.0  # a level below the largest, and below what is wanted
            while rest and least <= CELL / rest[-1].scale:
                refined.append(self._refine(picture, self._propose(picture, [rest.pop()]), least))
                apart = refined[-1].apart(0.7)
                more = _shifted(apart.boxes, apart.shifts)[apart.scores >= _LIKELY]
                likely = np.concatenate([likely, more])
                most = _sides(likely).max(initial=0) * _FACTOR
                least = most * share
            if len(likely):
                around = _around(_spread(likely[_sides(likely) > least]), rest)
                refined.append(self._refine(picture, self._propose(picture, around), least))
                found = self._finish(picture, _Candidates.joined(refined[::-1]), least)
                if (_sides(found.boxes)[found.probabilities >= sure] > most).any():
                    return found
            return self._search(picture, parts)

    def _search(self, picture: _Sums, parts: Sequence[_Part]) -> Found:
        """The faces in some parts of the pyramid."""
        return self._finish(picture, self._refine(picture, self._propose(picture, parts)))

    @contextmanager
    def _summed(self, pixels: np.ndarray) -> Iterator[_Sums]:
        """The picture's sums, in a room that is kept for the next picture."""
        try:
            room = self._rooms.pop()
        except IndexError:  # asked for and not looked at first: another thread may take the last
            room = None
        picture = _Sums(pixels, room)
        yield picture
        if picture.room.nbytes <= _KEPT:
            self._rooms.append(picture.room)

    def _levels(self, shape: tuple[int, int]) -> list[_Part]:
        """The pyramid, smallest windows first."""
        large = shape[0] * shape[1] > _LARGE
        scale, levels = _first_scale(self._min_face * (_LARGE_FACTOR if large else 1)), []
        while min(shape) * scale >= CELL:
            levels.append(_Part.whole(shape, scale))
            scale *= _FACTOR
        return levels

    def _propose(self, picture: _Sums, parts: Sequence[_Part]) -> _Candidates:
        """Windows that may show a face."""
        found = []
        for part in parts:
            at, scores, shifts = self._networks.propose(picture.scaled(part))
            corner = at * STRIDE + part.corner.astype(np.float32) + 1
            boxes = np.floor(np.concatenate([corner, corner + CELL - 1], 1) / part.scale)
            found.append(_Candidates(boxes.astype(np.float32), scores, shifts).apart(0.5))
        return _Candidates.joined(found).apart(0.7)

    def _refine(self, picture: _Sums, proposed: _Candidates, least: float = 0) -> _Candidates:
        """Squares that may show a face; those of a side of `least` and more for sure."""
        boxes, shifts = proposed.boxes, proposed.shifts
        boxes = _square(boxes + shifts * np.tile(boxes[:, 2:] - boxes[:, :2], 2))
        boxes = picture.inside(boxes[_sides(boxes) >= _GROWTH[0] * least])
        scores, shifts = self._networks.refine(picture.cut(boxes, 24))
        return _Candidates(boxes, scores, shifts)[scores > THRESHOLDS[1]]

    def _finish(self, picture: _Sums, refined: _Candidates, least: float = 0) -> Found:
        """The faces among the squares; those of a side of `least` and more for sure."""
        refined = refined.apart(0.7)
        boxes = _square(_shifted(refined.boxes, refined.shifts))
        boxes = picture.inside(boxes[_sides(boxes) >= _GROWTH[1] * least])
        score, shift, points = self._networks.finish(picture.cut(boxes, 48))
        sure = score > THRESHOLDS[2]
        boxes, score, shift, points = boxes[sure], score[sure], shift[sure], points[sure]
        side = boxes[:, 2:] - boxes[:, :2] + 1
        points = points.reshape(-1, 2, 5).transpose(0, 2, 1)  # five x, five y
        points = boxes[:, None, :2] + points * side[:, None] - 1
        return Found(_shifted(boxes, shift), score, points).apart()


def _around(boxes: np.ndarray, parts: Sequence[_Part]) -> list[_Part]:
    """What of whole levels shows faces near boxes."""
    return [part for box in boxes for whole in parts if (part := whole.around(box))]


def _spread(boxes: np.ndarray) -> np.ndarray:
    """Boxes of which none is within another: what is looked for around one is around the other."""
    kept = _nms_contained(boxes, _sides(boxes), 0.5)
    return boxes[kept]


@dataclass(frozen=True)
class _Candidates:
    """What a network says of N windows.

    Attributes:
        boxes: float32 N x 4, left, top, right, bottom.
        scores: float32 N probabilities of a face.
        shifts: float32 N x 4, of the box's sides, as shares of the box.
    """

    boxes: np.ndarray
    scores: np.ndarray
    shifts: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[_Candidates]) -> _Candidates:
        none = np.zeros((0, 4), np.float32)
        return cls(
            np.concatenate([none, *(part.boxes for part in parts)]),
            np.concatenate([none[:, 0], *(part.scores for part in parts)]),
            np.concatenate([none, *(part.shifts for part in parts)]),
        )

    def __getitem__(self, keep: np.ndarray) -> _Candidates:
        return _Candidates(self.boxes[keep], self.scores[keep], self.shifts[keep])

    def apart(self, overlap: float) -> _Candidates:
        """Those that overlap with none of a higher score by more than that."""
        return self[_nms(self.boxes, self.scores, overlap)]


def _first_scale(min_face: float) -> float:
    """Of the levels of facenet-pytorch's default search the one with the largest window that is
    not larger than this. Levels between those would show the networks other windows, and some boxes
    would be others than facenet-pytorch's.
    """
    steps = math.floor(math.log(min_face / _GRID) / -math.log(_FACTOR) + 1e-9)
    return CELL / _GRID * _FACTOR**steps


@dataclass(frozen=True)
class _Part:
    """A part of one level of the pyramid, or all of it.

    Attributes:
        scale: of the level.
        size: width and height of the whole level.
        corner, end: column and row of its first pixel, and past its last.
    """

    scale: float
    size: np.ndarray
    corner: np.ndarray
    end: np.ndarray

    @classmethod
    def whole(cls, shape: tuple[int, int], scale: float) -> _Part:
        """The level of a picture of H x W pixels."""
        size = np.array([int(side * scale + 1) for side in shape[::-1]])
        return cls(scale, size, np.zeros(2, int), size)

    def around(self, box: np.ndarray) -> _Part | None:
        """What of a whole level shows faces near a box: of about its size, in about its place."""
        side = (box[2:] - box[:2]).max()
        if not _NEAR_SIDES[0] <= CELL / self.scale / side <= _NEAR_SIDES[1]:
            return None
        centre, reach = (box[:2] + box[2:]) / 2 * self.scale, _NEAR_REACH * side * self.scale
        # From an even column and row to one, so that the network pools the pixels it always does.
        corner = np.floor(np.maximum(centre - reach, 0) / 2).astype(int) * 2
        end = np.minimum(np.ceil((centre + reach) / 2).astype(int) * 2, self.size)
        fits = (end - corner >= CELL).all()
        return _Part(self.scale, self.size, corner, end) if fits else None


class _Sums:
    """A picture as a table of sums, from which the mean of any rectangle takes four look-ups.

    Sums of large pictures go past 32 bits and wrap around; differences are right all the same.

    Args:
        room: that of another table, which this one takes the place of. Memory that is fresh from
            the system costs as much time as the sums.
    """

    def __init__(self, pixels: np.ndarray, room: np.ndarray | None = None) -> None:
        self.shape = height, width = pixels.shape[:2]
        size = (height + 1) * (width + 1) * 3
        if room is None or room.size < size:
            room = np.empty(2 * size, np.int32)  # what is not written to takes no memory
        self.room = room
        table = self.room[:size].reshape(height + 1, width + 1, 3)
        self._table = cv2.integral(pixels, table, sdepth=cv2.CV_32S)

    def scaled(self, part: _Part) -> np.ndarray:
        """Part of the picture at a scale, float32 in 0..255."""
        columns, rows = map(slice, part.corner, part.end)
        left, right = (edge[columns] for edge in _windows(0, self.shape[1], part.size[0]))
        top, bottom = (edge[rows] for edge in _windows(0, self.shape[0], part.size[1]))
        # Rows of numbers, not of pixels: numpy is slow in steps of three.
        left, right = ((3 * edge[:, None] + np.arange(3)).ravel() for edge in (left, right))
        heights = bottom - top
        lowest = heights.min()  # few are different
        kinds = np.arange(lowest, heights.max() + 1)[:, None]
        shares = (3 / (kinds * (right - left))).astype(np.float32)
        table = self._table.reshape(len(self._table), -1)
        level = np.empty((len(top), len(left)), np.float32)
        step = max(_BLOCK // table[0].nbytes, 1)
        for start in range(0, len(top), step):
            block = slice(start, start + step)
            rows = table[bottom[block]]
            rows -= table[top[block]]
            total = rows.take(right, axis=1)
            total -= rows.take(left, axis=1)
            np.multiply(total, shares[heights[block] - lowest], out=level[block], casting="unsafe")
        return level.reshape(len(top), -1, 3)

    def inside(self, boxes: np.ndarray) -> np.ndarray:
        """The boxes that have pixels in common with the picture."""
        left, top, right, bottom = self._edges(boxes)
        return boxes[(left < right) & (top < bottom)]

    def _edges(self, boxes: np.ndarray) -> tuple[np.ndarray, ...]:
        """As facenet-pytorch cuts: whole pixels, counted from 1; what lies outside is left out."""
        left, top, right, bottom = boxes.astype(np.int64).T
        height, width = self.shape
        return (
            np.maximum(left, 1) - 1,
            np.maximum(top, 1) - 1,
            np.minimum(right, width),
            np.minimum(bottom, height),
        )

    def cut(self, boxes: np.ndarray, size: int) -> np.ndarray:
        """Each box, resampled: float32 N x size x size x 3 in 0..255."""
        left, top, right, bottom = (edge[:, None] for edge in self._edges(boxes))
        top, bottom = _windows(top, bottom, size)
        left, right = _windows(left, right, size)
        pitch = self._table.shape[1]
        table = self._table.reshape(-1, 3)

        def sums(y: np.ndarray, x: np.ndarray) -> np.ndarray:
            return np.take(table, (y * pitch)[:, :, None] + x[:, None, :], axis=0)

        total = sums(bottom, right)
        total -= sums(bottom, left)
        total -= sums(top, right)
        total += sums(top, left)
        return _mean(total, bottom - top, right - left)


def _windows(
    start: np.ndarray | int, end: np.ndarray | int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where `count` windows over start..end begin and end, as torch's `adaptive_avg_pool2d` has
    them: whole pixels, those on a border in both. True shares give MTCNN other boxes."""
    numbers = np.arange(count)
    length = end - start
    return start + numbers * length // count, start - (-(numbers + 1) * length // count)


def _mean(total: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    areas = heights[..., :, None, None] * widths[..., None, :, None]
    mean = total.astype(np.float32)
    mean *= (1 / areas).astype(np.float32)
    return mean


def _nms(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    places = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).astype(np.float64)
    kept = cv2.dnn.NMSBoxes(places, scores, 0, overlap)  # type: ignore[arg-type]  # arrays too
    return np.array(kept, np.int64)


def _nms_contained(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> list[int]:
    """As NMS, but the overlap is a share of the smaller box, and sides count their last pixel."""
    area = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, 1)
    # Squares that reach past the picture on all sides show the same, so equals are common. Of them
    # facenet-pytorch takes what numpy's unstable sort puts last; here any processor takes the same.
    rest, kept = np.argsort(scores, kind="stable")[::-1], []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(int(best))
        corner = np.maximum(boxes[best, :2], boxes[rest, :2])
        sides = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - corner + 1
        shared = np.prod(np.maximum(sides, 0), 1)
        rest = rest[shared / np.minimum(area[best], area[rest]) <= overlap]
    return kept


def _shifted(boxes: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return boxes + shift * np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)


def _sides(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).max(1)


def _square(boxes: np.ndarray) -> np.ndarray:
    """The square around each box's centre, as wide as its longer side."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(1, keepdims=True)
    corner = boxes[:, :2] + sides / 2 - longer / 2
    return np.concatenate([corner, corner + longer], 1)
