"""The face path: detection as MTCNN does it, and crops that show the right pixels."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.transform import SimilarityTransform, rotate

from preprocess.faces.crop import (
    TEMPLATE,
    _blurred,
    crop_face,
    crop_landmarks,
    crop_matrix,
    crop_whole,
    fit_similarity,
)
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import CropSettings, Face
from preprocess.faces.mtcnn import Cascade, Found
from preprocess.io.decode import decode_image
from tests.real import needs


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def face(detector, astronaut) -> Face:
    return detector.detect(astronaut)[0]


def face_at(box, landmarks=None) -> Face:
    box = np.array(box, np.float32)
    if landmarks is None:
        landmarks = box[:2] + TEMPLATE * (box[2:] - box[:2])
    return Face(box, np.array(landmarks, np.float32), 1.0)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(sides, 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


# Detection


def test_the_largest_face_is_the_first_of_all(detector, astronaut):
    small = cv2.resize(astronaut, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    both = np.concatenate([np.pad(small, ((0, 256), (0, 0), (0, 0))), astronaut], 1)
    largest = detector.largest(both)
    assert largest.box[0] > small.shape[1]
    np.testing.assert_allclose(largest.box, detector.detect(both)[0].box, atol=1 / 8)
    assert detector.largest(np.zeros((300, 300, 3), np.uint8)) is None
    assert FaceDetector(CropSettings(min_probability=1)).largest(small) is None


@pytest.mark.parametrize(("share", "count"), [(1.0, 1), (0.7, 2), (0.4, 3)])
def test_faces_nearly_as_large_as_the_largest(detector, astronaut, share, count):
    head = astronaut[20:220, 120:330]
    sizes = (1.5, 0.65, 1.25, 0.35)  # .43, .83 and .23 of the largest
    sides = [cv2.resize(head, None, fx=s, fy=s, interpolation=cv2.INTER_CUBIC) for s in sizes]
    row = np.concatenate([np.pad(h, ((0, 300 - len(h)), (0, 0), (0, 0))) for h in sides], 1)
    everyone, found = detector.detect(row), detector.large(row, share)
    assert len(everyone) == 4 and len(found) == count
    for face, same in zip(found, everyone, strict=False):
        np.testing.assert_allclose(face.box, same.box, atol=1 / 8)
        np.testing.assert_allclose(face.landmarks, same.landmarks, atol=1 / 8)


def test_the_astronauts_face_is_found(face):
    assert overlap(face.box, np.array([178, 60, 268, 175])) > 0.85
    eyes, nose, mouth = face.landmarks[:2], face.landmarks[2], face.landmarks[3:]
    assert face.landmarks.shape == (5, 2) and face.landmarks.dtype == np.float32
    assert eyes[:, 1].max() < nose[1] < mouth[:, 1].min()
    assert eyes[0, 0] < nose[0] < eyes[1, 0] and mouth[0, 0] < mouth[1, 0]
    assert 0.9 <= face.probability <= 1
    assert face.area == pytest.approx(np.prod(face.box[2:] - face.box[:2]))


def test_largest_face_agrees_with_facenet_on_real_pictures(shared: Path):
    """Where a face is cut by the picture's edge, both guess at what lies outside of it."""
    from facenet_pytorch import MTCNN

    detector = FaceDetector(CropSettings(min_face=32))
    reference = MTCNN(keep_all=True)
    files = sorted(needs(shared / "faces" / "dev").rglob("*.jpg"))
    files = [files[i] for i in np.linspace(0, len(files) - 1, 100).astype(int)]
    one_face = close = inside = with_face = 0
    for file in files:
        pixels = decode_image(file).pixels
        boxes, probabilities = reference.detect(pixels)
        boxes = [] if boxes is None else boxes[probabilities >= 0.9]
        faces = detector.detect(pixels)
        if len(boxes) and faces:
            largest = max(boxes, key=lambda box: np.prod(box[2:] - box[:2]))
            shared_part = overlap(faces[0].box, largest)
            one_face += shared_part >= 0.6
            if (largest[:2] >= 0).all() and (largest[2:] <= pixels.shape[1::-1]).all():
                inside += 1
                close += shared_part >= 0.9
        else:
            one_face += not len(boxes) and not faces
        with_face += bool(faces)
    assert one_face >= 0.99 * len(files)
    assert inside >= 25 and close >= 0.99 * inside
    assert with_face >= 0.95 * len(files)


def test_faces_are_sorted_by_area_and_unsure_ones_dropped(monkeypatch):
    detector = FaceDetector(CropSettings(min_probability=0.9))
    boxes = np.array([[0, 0, 40, 40], [0, 0, 90.06, 90], [0, 0, 60, 60], [0, 0, 200, 200]])
    points = np.full((4, 5, 2), 20.07)
    found = Found(boxes, np.array([0.95, 0.9, 1.0, 0.89]), points)
    monkeypatch.setattr(Cascade, "find", lambda cascade, pixels, near: found)
    faces = detector.detect(np.zeros((300, 300, 3), np.uint8))
    assert [face.box[3] for face in faces] == [90, 60, 40]
    assert faces[0].box[2] == 90.0 and faces[0].landmarks[0, 0] == 20.125  # in 1/8 px


def test_two_faces_side_by_side(detector, astronaut):
    faces = detector.detect(np.concatenate([astronaut, astronaut], axis=1))
    assert sorted(round(face.box[0] / 512) for face in faces) == [0, 1]
    assert faces[0].area >= faces[1].area


def test_faces_below_min_face_are_not_looked_for(astronaut):
    assert FaceDetector(CropSettings(min_face=400)).detect(astronaut) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (31, 31), (50, 20000), (20000, 50)])
def test_pictures_of_odd_sizes_have_no_faces_but_can_be_cropped(detector, shape):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
    tracemalloc.start()
    try:
        assert detector.detect(pixels) == []
        crop = crop_whole(pixels, CropSettings())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert crop.shape == (256, 256, 3) and crop.dtype == np.uint8
    assert peak < 32 * 2**20
    if shape == (1, 1):
        assert (crop == pixels).all()


def test_detection_is_deterministic(detector, astronaut, face):
    again = detector.detect(astronaut)[0]
    np.testing.assert_array_equal(again.box, face.box)
    np.testing.assert_array_equal(again.landmarks, face.landmarks)


# Crops inside of the picture


def test_native_crop_is_a_plain_copy_of_the_picture(astronaut, face):
    settings = CropSettings(size=144)  # the face's box with its margin measures 146 px
    centre = (face.box[:2] + face.box[2:]) / 2
    left, top = np.round(centre - 72).astype(int)
    copy = astronaut[top : top + 144, left : left + 144]
    np.testing.assert_array_equal(crop_face(astronaut, face, settings), copy)


@pytest.mark.parametrize("scale", [0.78, 1.0, 1.28])
def test_native_covers_faces_within_its_factor(astronaut, scale):
    side = 200 * scale
    centred = face_at([256 - side / 2, 256 - side / 2, 256 + side / 2, 256 + side / 2])
    crop = crop_face(astronaut, centred, CropSettings(size=200, margin=0))
    np.testing.assert_array_equal(crop, astronaut[156:356, 156:356])
    if scale != 1:
        resampled = crop_face(astronaut, centred, CropSettings(size=200, margin=0, native=1))
        assert (crop != resampled).any()


def test_large_faces_keep_no_more_detail_than_asked_for(astronaut):
    plain = CropSettings(size=128, margin=0, native=1)
    limited = replace(plain, detail=72)
    large, small = face_at([150, 50, 350, 250]), face_at([200, 60, 320, 180])
    whole = crop_face(astronaut, large, plain)
    shrunk = Image.fromarray(whole).resize((72, 72), Image.Resampling.BOX)
    expected = np.asarray(shrunk.resize((128, 128), Image.Resampling.BICUBIC), int)
    got = crop_face(astronaut, large, limited)
    assert got.shape == whole.shape
    assert np.abs(got - expected).mean() < 0.6 * np.abs(whole - expected).mean()
    np.testing.assert_array_equal(
        crop_face(astronaut, small, limited), crop_face(astronaut, small, plain)
    )
    assert (crop_whole(astronaut, limited) != crop_whole(astronaut, plain)).any()


def test_native_crop_past_the_edge_keeps_the_pixels_inside(astronaut):
    corner = face_at([-60, -60, 84, 84])
    crop = crop_face(astronaut, corner, CropSettings(size=144, margin=0))
    np.testing.assert_array_equal(crop[60:, 60:], astronaut[:84, :84])


@pytest.mark.parametrize("size", [128, 224, 256, 513])
@pytest.mark.parametrize("align", ["box", "similarity"])
def test_crops_have_the_size_asked_for(astronaut, face, size, align):
    crop = crop_face(astronaut, face, CropSettings(size=size, align=align))
    assert crop.shape == (size, size, 3) and crop.dtype == np.uint8
    assert crop_whole(astronaut, CropSettings(size=size)).shape == (size, size, 3)


@pytest.mark.parametrize("margin", [0, 0.15, 0.5, 2])
def test_margin_is_a_share_of_the_longer_side_on_each_side(margin):
    settings = CropSettings(margin=margin, native=1)
    tall = face_at([200, 100, 260, 200])
    matrix = crop_matrix(tall, settings)
    side = 100 * (1 + 2 * margin)
    assert matrix[0, 0] == matrix[1, 1] == pytest.approx(256 / side)
    assert matrix[0, 1] == matrix[1, 0] == 0
    middle = matrix[:, :2] @ [230, 150] + matrix[:, 2]
    assert middle == pytest.approx([128, 128], abs=1)  # to whole pixels of the picture


@pytest.mark.parametrize("side", [90, 130, 250])
def test_a_ramp_stays_the_same_ramp(side):
    """Wrong by half a pixel anywhere, and the values would be shifted."""
    ramp = np.arange(256, dtype=np.uint8)
    picture = np.stack([np.tile(ramp, (256, 1)), np.tile(ramp[:, None], (1, 256))] * 2, 2)[..., :3]
    settings = CropSettings(size=160, margin=0, native=1)
    crop = crop_face(np.ascontiguousarray(picture), face_at([3, 3, 3 + side, 3 + side]), settings)
    expected = 3 + (np.arange(160) + 0.5) * side / 160 - 0.5
    edge = slice(4, -4)
    assert np.abs(crop[80, edge, 0] - expected[edge]).max() <= 1
    assert np.abs(crop[edge, 80, 1] - expected[edge]).max() <= 1
    assert abs((crop[edge, edge, 0] - expected[edge]).mean()) < 0.1


def test_shrinking_does_not_alias():
    checkerboard = (np.indices((1024, 1024)).sum(0) % 2 * 255).astype(np.uint8)
    crop = crop_whole(np.repeat(checkerboard[..., None], 3, 2), CropSettings(size=200))
    assert np.abs(crop.astype(int) - 127).max() <= 12


def test_the_rim_of_a_crop_is_interpolated_with_its_true_neighbours(astronaut):
    settings = CropSettings(margin=0, native=1)
    enlarged = face_at([100, 100, 220, 220])
    matrix = crop_matrix(enlarged, settings)
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    expected = cv2.warpAffine(astronaut, matrix, (256, 256), flags=cv2.INTER_CUBIC).astype(int)
    assert np.abs(crop_face(astronaut, enlarged, settings) - expected).max() <= 2


def with_dots(points: np.ndarray, side: int) -> np.ndarray:
    """A black picture with a soft white dot at each point, in continuous coordinates."""
    y, x = np.mgrid[:side, :side] + 0.5
    far = [(x - px) ** 2 + (y - py) ** 2 for px, py in points]
    brightness = np.exp(-np.min(far, axis=0) / (2 * 3.0**2)) * 255
    return np.repeat(brightness.astype(np.uint8)[..., None], 3, 2)


def dot_near(crop: np.ndarray, point: np.ndarray, reach: int = 9) -> np.ndarray:
    """The centre of brightness around a point of the crop."""
    left, top = np.floor(point).astype(int) - reach
    weight = crop[top : top + 2 * reach + 1, left : left + 2 * reach + 1, 0].astype(float)
    y, x = np.mgrid[: len(weight), : len(weight)] + 0.5
    return np.array([left + np.average(x, weights=weight), top + np.average(y, weights=weight)])


@pytest.mark.parametrize("degrees", [0, 25, -70, 180])
@pytest.mark.parametrize("scale", [130, 260])
def test_similarity_puts_landmarks_on_the_template(degrees, scale):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (TEMPLATE - 0.5) @ turn.T * scale + 300
    turned = face_at([300 - scale / 2] * 2 + [300 + scale / 2] * 2, points)
    settings = CropSettings(align="similarity", margin=0.3)
    crop = crop_face(with_dots(points, 600), turned, settings)
    expected = (TEMPLATE + 0.3) / 1.6 * 256
    np.testing.assert_allclose(crop_landmarks(turned, settings), expected, atol=1e-3)
    for point in expected:
        assert dot_near(crop, point) == pytest.approx(point, abs=0.5)


def test_box_crops_move_the_landmarks_along(astronaut):
    points = np.array([[180.5, 140], [230, 142], [205, 170], [185, 195.25], [228, 196]])
    upright = face_at([150, 100, 260, 230], points)
    for settings in (CropSettings(margin=0.3), CropSettings(size=200, margin=0.3)):
        crop = crop_face(with_dots(points, 400), upright, settings)
        for point in crop_landmarks(upright, settings):
            assert dot_near(crop, point, reach=7) == pytest.approx(point, abs=0.5)


@pytest.mark.parametrize("degrees", [-30, 20])
def test_a_tilted_face_is_turned_upright(detector, astronaut, degrees):
    tilted = (rotate(astronaut, degrees, center=(225, 115), mode="edge") * 255).astype(np.uint8)
    settings = CropSettings(align="similarity", margin=0.5)
    crop = crop_face(tilted, detector.detect(tilted)[0], settings)
    landmarks = detector.detect(crop)[0].landmarks
    (left_x, left_y), (right_x, right_y) = landmarks[:2]
    assert abs(np.rad2deg(np.arctan2(right_y - left_y, right_x - left_x))) < 6
    assert np.abs(landmarks - (TEMPLATE + 0.5) / 2 * 256).max() < 12


def test_fit_similarity_agrees_with_scikit_image():
    generator = np.random.default_rng(5)
    for _ in range(20):
        source, target = generator.normal(0, 50, (2, 5, 2)) + 100
        expected = SimilarityTransform.from_estimate(source, target).params[:2]
        np.testing.assert_allclose(fit_similarity(source, target), expected, atol=1e-8)


def test_fit_similarity_refuses_coinciding_points():
    with pytest.raises(ValueError, match="expected five distinct landmarks but got"):
        fit_similarity(np.ones((5, 2)), TEMPLATE)


# Crops past the edge of the picture

CUTS = {
    "left": (slice(None), slice(195, None)),
    "right": (slice(None), slice(None, 250)),
    "top": (slice(75, None), slice(None)),
    "bottom": (slice(None, 160), slice(None)),
    "corner": (slice(75, None), slice(195, None)),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("align", ["box", "similarity"])
def test_what_lies_outside_shows_no_second_face(detector, astronaut, cut, align):
    picture = np.ascontiguousarray(astronaut[CUTS[cut]])
    (face,) = detector.detect(picture)
    crop = crop_face(picture, face, CropSettings(margin=1.0, align=align))
    assert len(detector.detect(crop)) == 1
    assert len(detector.detect(crop_whole(picture, CropSettings()))) == 1


@pytest.mark.parametrize("whole", [False, True])
def test_the_pictures_edge_is_not_seen_in_the_crop(detector, astronaut, whole):
    """Jumps from pixel to pixel at the edge and beyond are no larger than in the picture."""
    picture = np.ascontiguousarray(astronaut[:, :250])
    settings = CropSettings(margin=1.0)
    if whole:
        crop, edge = crop_whole(picture, settings), round(128 + 125 / 2)
    else:
        face = detector.detect(picture)[0]
        matrix = crop_matrix(face, settings)
        crop, edge = crop_face(picture, face, settings), round(matrix[0, 0] * 250 + matrix[0, 2])
    assert 120 < edge < 240
    jumps = np.abs(np.diff(crop.astype(int), axis=1)).max(2)
    inside, across, beyond = jumps[:, : edge - 3], jumps[:, edge - 3 : edge + 3], jumps[:, edge:]
    assert across.max() <= inside.max()
    assert beyond.max() <= inside.max() / 2


def test_no_streaks_far_from_the_picture():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[::2] = 255
    past = face_at([128, 0, 384, 256])
    crop = crop_face(stripes, past, CropSettings(margin=0)).astype(int)
    assert np.abs(np.diff(crop[:, :120, 0], axis=0)).min() == 255
    assert np.abs(np.diff(crop[:, -90:, 0], axis=0)).max() < 10


@pytest.mark.parametrize("size", [128, 256, 513, 1024])
def test_the_blur_is_that_of_opencv(size):
    crop = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    crop[: size // 3] = 255
    expected = cv2.GaussianBlur(crop, (0, 0), size / 16, borderType=cv2.BORDER_REPLICATE)
    near, far = slice(0, size // 5), slice(size - size // 3, size)
    whole, middle = slice(0, size), slice(size // 3, size // 2)
    for block in ((whole, whole), (near, whole), (whole, far), (far, near), (middle, middle)):
        np.testing.assert_array_equal(_blurred(crop, *block), expected[block])


def test_crops_are_deterministic_and_leave_the_picture_alone(astronaut, face):
    before = astronaut.copy()
    for settings in (CropSettings(margin=2), CropSettings(align="similarity", margin=2)):
        first = crop_face(astronaut, face, settings)
        np.testing.assert_array_equal(first, crop_face(astronaut, face, settings))
    np.testing.assert_array_equal(astronaut, before)


def test_crop_whole_is_fitted_and_centred():
    picture = np.full((100, 200, 3), 50, np.uint8)
    picture[:, 100:] = 200
    crop = crop_whole(picture, CropSettings(size=200))
    np.testing.assert_array_equal(crop[50:150], picture)


@pytest.mark.parametrize("box", [[-500, -500, -400, -400], [5000, 5000, 5100, 5100]])
def test_a_face_outside_of_the_picture_gives_a_crop(astronaut, box):
    assert crop_face(astronaut, face_at(box), CropSettings()).shape == (256, 256, 3)


# Settings
