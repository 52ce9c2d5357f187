"""Another person's face pasted over a face, as swap tools do it.

The pasted face comes from a real picture of like pose and skin (see `donors`), is warped so that
eyes, nose and mouth meet, gets the target's colours, loses detail as the output of a swap network
has, and is blended in. The recipe follows the blended images of Li et al. 2020, "Face X-ray for
More General Face Forgery Detection".
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.interpolate import RBFInterpolator

from preprocess.faces.crop import fit_similarity

from .masks import face_mask, face_matrix, paste

# Points around a face, in the unit square of `TEMPLATE`, that keep a warp from running wild there.
_FRAME = np.array(
    [[-0.25, -0.25], [0.5, -0.25], [1.25, -0.25], [1.25, 0.5]]
    + [[1.25, 1.25], [0.5, 1.25], [-0.25, 1.25], [-0.25, 0.5]]
)
_GAINS = (0.5, 0.7, 0.7), (2.0, 1.3, 1.3)  # least and most, of lightness and both colours
_COARSE = 4  # seams are looked for at a quarter of the size
_GRID = 24  # nodes of a warp on each axis; it is smooth, so that between them it is linear


def swap(
    crop: np.ndarray,
    landmarks: np.ndarray,
    donor: np.ndarray,
    donor_landmarks: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Paste the donor's face over the face of the crop.

    Args:
        crop: uint8 H x W x 3 RGB, whose surroundings, light and pose remain.
        landmarks: float 5 x 2 in pixels of the crop, see `preprocess.faces.crop.crop_landmarks`.
        donor: uint8 h x w x 3 RGB, the face to paste: another person, or a regenerated version
            of one, so that the pasted face was drawn by a network.
        donor_landmarks: float 5 x 2 in pixels of the donor.
        rng: decides everything else; the same state gives the same fake.

    Returns:
        uint8 H x W x 3; outside of the mask it is the crop, bit for bit.

    Raises:
        ValueError: no picture, not five finite landmarks, or all in one point.
    """
    for picture in (crop, donor):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(
                f"expected uint8 H x W x 3 RGB but got {picture.dtype} {picture.shape}"
            )
    shape = crop.shape[:2]
    mask = face_mask(shape, landmarks, rng)
    face = warp_face(donor, donor_landmarks, landmarks, shape)
    side = float(np.hypot(*face_matrix(landmarks)[:, 0]))  # of the face box, in pixels
    core = _core(shape, landmarks, side)
    skin = mask * core  # a mask may reach into the background, whose colour is no matter
    if rng.random() < 0.15:
        face = match_histograms(face, crop, skin)
    else:
        face = match_colours(face, crop, skin, rng.uniform(0.8, 1.0))
    face = _soften(face, side, rng)
    mask = _avoid_seams(mask, face, crop, core, side)
    if rng.random() < 0.2:
        face = _clone(face, crop, mask)
    return paste(face, crop, mask)


def warp_face(
    donor: np.ndarray, donor_landmarks: np.ndarray, landmarks: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Bend the donor's picture so that its landmarks fall on `landmarks`: uint8 H x W x 3.

    A thin-plate spline through the five landmarks; around the face it nears the similarity that
    fits them best.

    Raises:
        ValueError: not five finite landmarks, or all in one point.
    """
    source, target = (np.asarray(x, np.float64) for x in (donor_landmarks, landmarks))
    face_matrix(source)  # refuses what is no face
    frame = _apply(face_matrix(target), _FRAME)
    source = np.concatenate([source, _apply(fit_similarity(target, source), frame)])
    target = np.concatenate([target, frame])
    # Smoothed just enough that coinciding landmarks (a profile) do not break the solution.
    spline = RBFInterpolator(target / 256, source, smoothing=1e-6)
    x, y = (np.linspace(0, length, _GRID) for length in shape[::-1])
    nodes = spline(np.stack(np.meshgrid(x, y), 2).reshape(-1, 2) / 256)
    down, across = (_linear(length) for length in shape)
    places = np.stack([down @ axis @ across.T for axis in nodes.T.reshape(2, _GRID, _GRID)], 2)
    # cv2 puts the centre of the first pixel at 0, landmarks have it at 0.5.
    places = (places - 0.5).astype(np.float32)
    columns, rows = places[..., 0].copy(), places[..., 1].copy()
    return cv2.remap(donor, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def _linear(length: int) -> np.ndarray:
    """What each node counts at each of so many pixels; cv2's own interpolation is too coarse."""
    places = (np.arange(length) + 0.5) * ((_GRID - 1) / length)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(_GRID)), 0)


def match_colours(
    face: np.ndarray, target: np.ndarray, mask: np.ndarray, amount: float = 1.0
) -> np.ndarray:
    """Give a face the mean and deviation of the target's Lab colours inside of a mask.

    Reinhard et al. 2001, "Color Transfer between Images".

    Args:
        face, target: uint8 H x W x 3 RGB.
        mask: float H x W, the weight of each pixel.
        amount: 1 for all of the way, 0 for none.

    Returns:
        uint8 H x W x 3.
    """
    lab, goal = (
        cv2.cvtColor(x.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for x in (face, target)
    )
    weights = (mask / max(mask.sum(), 1e-6)).astype(np.float32)[..., None]
    mean, wanted = ((x * weights).sum((0, 1)) for x in (lab, goal))
    spread, wide = (
        np.sqrt((((x - m) ** 2) * weights).sum((0, 1))) for x, m in ((lab, mean), (goal, wanted))
    )
    gain = np.clip(wide / np.maximum(spread, 1e-3), *_GAINS)
    matched = lab + amount * ((lab - mean) * gain + wanted - lab)
    rgb = cv2.cvtColor(matched.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.round(rgb * 255).clip(0, 255).astype(np.uint8)


def match_histograms(face: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Give each RGB channel of a face about the target's histogram inside of a mask.

    Arguments and result as in `match_colours`.
    """
    weights, levels = mask.ravel(), np.linspace(0, 1, 18)[1:-1]
    matched = np.empty_like(face)
    for channel in range(3):
        own, goal = (_quantiles(x[..., channel], weights, levels) for x in (face, target))
        # A few quantiles, carried on in parallel beyond the last: a smooth curve, no new bands.
        curve = np.interp(np.arange(256), own, goal - own) + np.arange(256)
        curve = np.round(curve).clip(0, 255).astype(np.uint8)
        matched[..., channel] = curve[face[..., channel]]
    return matched


def _quantiles(channel: np.ndarray, weights: np.ndarray, levels: np.ndarray) -> np.ndarray:
    shares = np.bincount(channel.ravel(), weights, 256).cumsum()
    return np.interp(levels, shares / max(shares[-1], 1e-6), np.arange(256))


def _soften(face: np.ndarray, side: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a face of so many pixels anew with those that a swap network has: 64 to 160 across."""
    height, width = face.shape[:2]
    factor = float(np.exp(rng.uniform(np.log(64), np.log(160)))) / side
    enlarge = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4]))
    if factor < 1:
        small = (max(8, round(width * factor)), max(8, round(height * factor)))
        face = cv2.resize(face, small, interpolation=cv2.INTER_AREA)
        face = cv2.resize(face, (width, height), interpolation=enlarge)
    if rng.random() < 0.3:  # many tools sharpen what they paste
        blurred = cv2.GaussianBlur(face, (0, 0), side * rng.uniform(0.004, 0.012))
        amount = rng.uniform(0.4, 1.2)
        face = cv2.addWeighted(face, 1 + amount, blurred, -amount, 0)
    return face


def _core(shape: tuple[int, int], landmarks: np.ndarray, side: float) -> np.ndarray:
    """A soft mask over eyes, nose and mouth: float32 H x W in 0..1."""
    core: np.ndarray = np.zeros(shape, np.float32)
    hull = cv2.convexHull(np.asarray(landmarks, np.float32))
    cv2.fillConvexPoly(core, np.round(hull).astype(np.int32), 1)
    core = cv2.dilate(core, np.ones(2 * [round(0.12 * side) | 1], np.uint8))
    return cv2.GaussianBlur(core, (0, 0), 0.04 * side)


def _avoid_seams(
    mask: np.ndarray, face: np.ndarray, crop: np.ndarray, core: np.ndarray, side: float
) -> np.ndarray:
    """Draw the mask in where hair, background or a hand would meet skin."""
    height, width = mask.shape
    small = max(width // _COARSE, 1), max(height // _COARSE, 1)
    coarse = side / _COARSE
    lab = []
    for picture in (face, crop):
        x = cv2.resize(picture, small, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        lab.append(cv2.cvtColor(cv2.GaussianBlur(x, (0, 0), 0.04 * coarse), cv2.COLOR_RGB2LAB))
    distance = np.linalg.norm(lab[0] - lab[1], axis=2)
    fits = 1 - np.clip((distance - 8) / 10, 0, 1)
    # Eyes, nose and mouth may differ as they like.
    fits = np.maximum(fits, cv2.resize(core, small, interpolation=cv2.INTER_AREA))
    fits = cv2.GaussianBlur(fits, (0, 0), 0.02 * coarse)
    return mask * cv2.resize(fits, (width, height), interpolation=cv2.INTER_LINEAR)


def _clone(face: np.ndarray, crop: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Give the face the light of its new place (Perez et al. 2003, "Poisson Image Editing")."""
    inside = (mask > 0.05).astype(np.uint8)
    inside[[0, -1]] = inside[:, [0, -1]] = 0
    x, y, width, height = cv2.boundingRect(inside)
    if min(width, height) < 8:
        return face
    place = (x + width // 2, y + height // 2)
    return cv2.seamlessClone(face, crop, inside * 255, place, cv2.NORMAL_CLONE)


def _apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]
