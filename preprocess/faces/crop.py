"""Cut a face out of a picture: the one way of training and of scoring.

Either as an upright square around its box or turned so that its five landmarks meet a template.
Both are one affine warp, so they share the resampling and the filling of what lies outside of the
picture.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from .face import CropSettings, Face

# Where eyes, nose and mouth corners of an upright face lie in a unit square around its box
# (left eye, right eye, nose, left and right corner of the mouth, as seen in the picture):
# the median of MTCNN's own landmarks over 120 frontal portraits, made symmetric.
TEMPLATE = np.array(
    [[0.329, 0.394], [0.671, 0.394], [0.5, 0.591], [0.334, 0.740], [0.666, 0.740]], np.float64
)


def crop_face(pixels: np.ndarray, face: Face, settings: CropSettings) -> np.ndarray:
    """Cut one face out of a uint8 H x W x 3 RGB picture: uint8, size x size x 3."""
    return _warp(pixels, crop_matrix(face, settings), settings)


def crop_whole(pixels: np.ndarray, settings: CropSettings) -> np.ndarray:
    """The whole picture as a crop, for pictures without a face: fitted, centred, edges filled."""
    height, width = pixels.shape[:2]
    centre = np.array([width / 2, height / 2])
    return _warp(pixels, _square_matrix(centre, max(height, width), settings.size), settings)


def limit_detail(crop: np.ndarray, detail: int) -> np.ndarray:
    """A uint8 square crop of the same size, with the detail that so many pixels across hold."""
    shrunk = cv2.resize(crop, (detail, detail), interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, crop.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def crop_matrix(face: Face, settings: CropSettings) -> np.ndarray:
    """The 2 x 3 affine map from continuous picture coordinates to those of the crop."""
    box = face.box.astype(np.float64)
    side = max(box[2] - box[0], box[3] - box[1]) * (1 + 2 * settings.margin)
    if settings.align == "box":
        if 1 / settings.native <= side / settings.size <= settings.native:
            side = settings.size
        side = max(round(side), 1)  # whole pixels, so that a native crop is a plain copy
        corner = np.round((box[:2] + box[2:]) / 2 - side / 2)
        return _square_matrix(corner + side / 2, side, settings.size)
    inner = (TEMPLATE + settings.margin) / (1 + 2 * settings.margin) * settings.size
    return fit_similarity(face.landmarks.astype(np.float64), inner)


def crop_landmarks(face: Face, settings: CropSettings) -> np.ndarray:
    """A face's landmarks in pixels of its crop: float64 5 x 2."""
    matrix = crop_matrix(face, settings)
    return face.landmarks.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]


def _square_matrix(centre: np.ndarray, side: float, size: int) -> np.ndarray:
    scale = size / side
    corner = centre - side / 2
    return np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares rotation, scale and shift (Umeyama 1991) that takes source to target points.

    In the plane a similarity without reflection is z -> a z + b over complex numbers, so its
    least-squares fit is a plain quotient.
    """
    z, w = source @ [1, 1j], target @ [1, 1j]
    z_centred, w_centred = z - z.mean(), w - w.mean()
    power = np.sum(np.abs(z_centred) ** 2)
    if power < 1e-6:
        raise ValueError("expected five distinct landmarks but got coinciding points")
    a = np.sum(np.conj(z_centred) * w_centred) / power
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _warp(pixels: np.ndarray, matrix: np.ndarray, settings: CropSettings) -> np.ndarray:
    """The part of the picture that `matrix` maps to the crop, and what lies around the picture."""
    height, width = pixels.shape[:2]
    size = settings.size
    to_source = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) @ to_source[:, :2].T
    corners = corners + to_source[:, 2]
    if (matrix[:, :2] == np.eye(2)).all() and (matrix[:, 2] == np.round(matrix[:, 2])).all():
        crop = _copied(pixels, -matrix[:, 2].astype(np.int64), size)
    else:
        crop = _resampled(pixels, matrix, corners, size)
        if settings.detail and _scale(matrix) < 1:
            crop = limit_detail(crop, settings.detail)
    inside = np.concatenate([corners.min(0) >= 0, corners.max(0) <= [width, height]])
    return crop if inside.all() else _soften_outside(crop, to_source, width, height)


def _scale(matrix: np.ndarray) -> float:
    """Pixels of the crop a pixel of the picture."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def _copied(pixels: np.ndarray, corner: np.ndarray, size: int) -> np.ndarray:
    """A square of the picture, its edge repeated outside of it."""
    rows, columns = (
        np.clip(np.arange(start, start + size), 0, side - 1)
        for start, side in zip(corner[::-1], pixels.shape, strict=False)
    )
    region = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return region.take(rows - rows[0], axis=0).take(columns - columns[0], axis=1)


def _resampled(
    pixels: np.ndarray, matrix: np.ndarray, corners: np.ndarray, size: int
) -> np.ndarray:
    """Resample through `matrix`; shrinking averages areas, so that nothing aliases."""
    height, width = pixels.shape[:2]
    scale = _scale(matrix)
    reach = 4 / min(scale, 1)  # what the interpolation kernel needs around the crop
    left, top = np.clip(np.floor(corners.min(0) - reach), 0, [width - 1, height - 1]).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0) + reach), [left + 1, top + 1], [width, height])
    region = pixels[top : int(bottom), left : int(right)]
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ [left, top]
    if scale < 1:
        shape = region.shape
        shrunk = [max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))]
        region = cv2.resize(region, shrunk, interpolation=cv2.INTER_AREA)
        matrix[:, :2] /= [shrunk[0] / shape[1], shrunk[1] / shape[0]]
    # cv2 puts the centre of the first pixel at 0, continuous coordinates put it at 0.5.
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    return cv2.warpAffine(
        region, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _soften_outside(crop: np.ndarray, to_source: np.ndarray, width: int, height: int) -> np.ndarray:
    """Melt the repeated edge pixels outside of the picture into a blur.

    Mirroring would add a second face and a flat colour a hard edge. The repeated edge is
    continuous with the picture; away from it the blur takes over, so no streaks remain.
    """
    size = len(crop)
    across, down = np.arange(size)[None] + 0.5, np.arange(size)[:, None] + 0.5
    x = to_source[0, 0] * across + to_source[0, 2]  # a row, and a column, where nothing is turned
    y = to_source[1, 1] * down + to_source[1, 2]
    if to_source[0, 1]:
        x, y = x + to_source[0, 1] * down, y + to_source[1, 0] * across
    outside = np.maximum(np.maximum(-x, x - width), np.maximum(-y, y - height))
    outside = outside / np.hypot(to_source[0, 0], to_source[1, 0])  # in pixels of the crop
    weights = np.minimum(outside / (size / 8), 1)
    whole = (weights > 0).all(1)  # rows; what else lies outside is in columns of the others
    blocks = [(rows, slice(0, size)) for rows in _runs(whole)]
    blocks += [
        (rows, columns) for rows in _runs(~whole) for columns in _runs((weights[rows] > 0).any(0))
    ]
    blurred = [_blurred(crop, *block) for block in blocks]
    for block, blur in zip(blocks, blurred, strict=True):
        own, weight = crop[block], np.maximum(weights[block], 0)[..., None]
        crop[block] = np.round(own + weight * (blur - own))
    return crop


def _runs(flags: np.ndarray) -> list[slice]:
    """Where flags are set, from the first to the last of a row."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return [slice(start, end) for start, end in edges.reshape(-1, 2).tolist()]


def _blurred(crop: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """What `cv2.GaussianBlur` makes of bytes, bit for bit, of some of them: int32.

    It rounds a kernel to whole 256ths and the result to whole numbers. Between these, sums stay
    below 2 ** 24, so that float32, for which OpenCV has fast code, holds them exactly.
    """
    sums, kernel = crop, _blur_kernel(len(crop))
    # First along the axis of which less is wanted.
    for axis, wanted in sorted(
        enumerate((rows, columns)), key=lambda one: one[1].stop - one[1].start
    ):
        sums = _summed_along(axis, sums, kernel, wanted)
    return (sums.astype(np.int32) + 2**15) >> 16


def _summed_along(axis: int, values: np.ndarray, kernel: np.ndarray, wanted: slice) -> np.ndarray:
    """Sums of some rows (axis 0) or columns (1) with their neighbours, by a kernel: float32."""
    reach = len(kernel) // 2
    start = max(wanted.start - reach, 0)
    kept = slice(wanted.start - start, wanted.stop - start)
    one = np.ones(1, np.float32)
    if axis == 0:
        values = values[start : wanted.stop + reach]
        return _filtered(values, one, kernel)[kept]
    return _filtered(values[:, start : wanted.stop + reach], kernel, one)[:, kept]


def _filtered(values: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    return cv2.sepFilter2D(values, cv2.CV_32F, across, down, borderType=cv2.BORDER_REPLICATE)


@lru_cache
def _blur_kernel(size: int) -> np.ndarray:
    """In 256ths, read from what becomes of a white line on black: 255 of 256 is rounded up."""
    line = np.zeros((1, 2 * size + 1), np.uint8)
    line[0, size] = 255
    kernel = cv2.GaussianBlur(line, (0, 0), size / 16, borderType=cv2.BORDER_REPLICATE)[0]
    return np.trim_zeros(kernel).astype(np.float32)
