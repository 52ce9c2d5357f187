"""The cascade: facenet-pytorch's faces."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from preprocess.faces import mtcnn_networks, mtcnn_onnx
from preprocess.faces.mtcnn import Cascade, _first_scale, _Part, _Sums
from preprocess.faces.mtcnn_interface import Networks
from preprocess.io.decode import decode_image
from tests.real import needs

from .test_faces import overlap


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    return Cascade(32, mtcnn_onnx.open_networks())


def test_finds_the_faces_that_facenet_finds(shared: Path, cascade):
    from facenet_pytorch import MTCNN

    peer = MTCNN(keep_all=True)
    files = sorted(needs(shared / "faces").rglob("*.jpg"))
    files = [files[i] for i in np.linspace(0, len(files) - 1, 120).astype(int)]
    wanted, missed, new, errors = 0, 0, 0, []
    for file in files:
        pixels = decode_image(file).pixels
        boxes, probabilities, landmarks = peer.detect(pixels, landmarks=True)
        boxes, landmarks = ([] if b is None else b.astype(float) for b in (boxes, landmarks))
        found = cascade.find(pixels)
        for box, probability, points in zip(boxes, probabilities, landmarks, strict=False):
            if probability < 0.95 or (box[2:] - box[:2]).min() < 40:
                continue
            wanted += 1
            overlaps = [overlap(box, other) for other in found.boxes]
            if max(overlaps, default=0) < 0.7:
                missed += 1
                continue
            distance = found.landmarks[int(np.argmax(overlaps))] - points
            errors.append(np.linalg.norm(distance, axis=1).mean() / (box[2] - box[0]))
        for box, probability in zip(found.boxes, found.probabilities, strict=True):
            new += probability >= 0.9 and all(overlap(box, other) < 0.5 for other in boxes)
    assert wanted >= 100
    assert missed <= 0.01 * wanted
    assert np.mean(errors) < 0.003  # of the face's width
    assert new <= 0.003 * wanted


def test_faces_from_40_px_are_found_in_large_pictures(shared: Path, cascade):
    """Real faces, shrunk, 40 to 60 px wide, among each other in a picture of 2.4 megapixels."""
    from facenet_pytorch import MTCNN

    files = sorted(needs(shared / "faces").rglob("*.jpg"))
    pictures = [
        decode_image(files[i]).pixels for i in np.linspace(0, len(files) - 1, 40).astype(int)
    ]
    faces = [(pixels, cascade.find(pixels).boxes) for pixels in pictures]
    alone = cycle([(pixels, boxes[0]) for pixels, boxes in faces if len(boxes) == 1])
    random = np.random.default_rng(0)
    canvas = cv2.GaussianBlur(cv2.resize(pictures[0], (1760, 1360)), (0, 0), 5)
    for top in range(10, 1360 - 130, 132):
        for left in range(10, 1760 - 130, 132):
            pixels, box = next(alone)
            left_top, right_bottom = box[:2], box[2:]
            scale = random.uniform(40, 62) / (right_bottom - left_top).min()
            shrunk = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            x, y = np.maximum((left_top + right_bottom) / 2 * scale - 60, 0).astype(int)
            shrunk = shrunk[y : y + 120, x : x + 120]
            canvas[top : top + len(shrunk), left : left + shrunk.shape[1]] = shrunk
    boxes, probabilities, _ = MTCNN(keep_all=True).detect(canvas, landmarks=True)
    side = (boxes[:, 2:] - boxes[:, :2]).min(1)
    wanted = boxes[(probabilities >= 0.95) & (side >= 40) & (side <= 60)].astype(float)
    found = cascade.find(canvas)
    assert canvas.size > 3 * 2e6 and len(wanted) >= 60
    hits = [max(overlap(box, other) for other in found.boxes) >= 0.7 for box in wanted]
    assert np.mean(hits) >= 0.98


def test_the_smallest_face_is_larger_in_large_pictures():
    class Recorder:
        def propose(self, level):
            sides.append(level.shape[0])
            raise StopAsyncIteration

    sides: list[int] = []
    for height in (1000, 1001):
        with pytest.raises(StopAsyncIteration):
            Cascade(32, Recorder()).find(np.zeros((height, 2000, 3), np.uint8))
    assert sides == [int(1000 * 0.6 * 0.709 + 1), int(1001 * 0.6 * 0.709**2 + 1)]


@pytest.mark.parametrize(
    ("smallest", "steps"), [(20, 0), (28, 0), (28.3, 1), (32, 1), (40, 2), (200, 6), (19, -1)]
)
def test_levels_are_those_of_facenet(smallest, steps):
    assert _first_scale(smallest) == pytest.approx(12 / 20 * 0.709**steps)
    assert 12 / _first_scale(smallest) <= smallest


@pytest.mark.parametrize("shape", [(1, 1), (13, 13), (33, 32), (20, 10000), (64, 10000)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_pictures_of_any_shape_have_no_face(cascade, shape, value):
    flat = np.full((*shape, 3), value, np.uint8)
    for found in (cascade.find(flat), cascade.find_largest(flat, 0.9)):
        assert found.boxes.shape == (0, 4) and found.landmarks.shape == (0, 5, 2)


def test_grey_pictures_and_crowds(cascade, astronaut):
    grey = np.repeat(astronaut.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    assert (cascade.find(grey).probabilities > 0.9).sum() == 1
    crowd = np.tile(astronaut, (4, 6, 1))
    found = cascade.find(crowd)
    assert (found.probabilities > 0.95).sum() == 24


def test_near_a_face_is_found_what_is_found_there_in_the_whole_picture(cascade, astronaut):
    crowd = np.tile(astronaut[:, 20:500], (2, 3, 1))
    whole = cascade.find(crowd)
    sure = whole.probabilities > 0.95
    assert sure.sum() == 6
    boxes = whole.boxes[sure][:2]
    moved = boxes + np.array([[30, -20, 45, -5], [-35, 25, -55, 5]])  # and grown or shrunk
    found = cascade.find(crowd, moved)
    order = np.argsort([np.abs(boxes - box).sum(1).argmin() for box in found.boxes])
    # The same windows, but beside others: their last bits depend on the shape of a batch.
    np.testing.assert_allclose(found.boxes[order], boxes, atol=1e-2)
    np.testing.assert_allclose(found.landmarks[order], whole.landmarks[sure][:2], atol=1e-2)
    assert len(cascade.find(crowd, boxes * 3).boxes) == 0  # far too large
    assert len(cascade.find(crowd, np.zeros((0, 4))).boxes) == 0


def scaled(pixels: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def beside(*pictures: np.ndarray) -> np.ndarray:
    height = max(len(picture) for picture in pictures)
    padded = [np.pad(p, ((0, height - len(p)), (0, 0), (0, 0)), mode="edge") for p in pictures]
    return np.concatenate(padded, 1)


@pytest.fixture(scope="module")
def portraits() -> list[np.ndarray]:
    folder = Path(__file__).parents[3] / "examples/portraits"
    return [decode_image(file).pixels for file in sorted(folder.glob("*.jpg"))]


def assert_same_largest(cascade: Cascade, pixels: np.ndarray) -> None:
    """The largest sure face of both searches is the same, and so are its box and landmarks."""
    faces = []
    for found in (cascade.find(pixels), cascade.find_largest(pixels, 0.9)):
        boxes, points = (
            values[found.probabilities >= 0.9] for values in (found.boxes, found.landmarks)
        )
        first = np.prod(boxes[:, 2:] - boxes[:, :2], 1).argmax()
        faces.append(np.concatenate([boxes[first], points[first].ravel()]))
    np.testing.assert_allclose(*faces, atol=1e-2)


def test_the_largest_face_is_that_of_the_whole_search(cascade, astronaut, portraits):
    for pixels in (astronaut, *portraits):
        assert_same_largest(cascade, pixels)


@pytest.mark.parametrize("second", [0.35, 0.6, 0.93, 1.0, 1.08])
def test_of_several_faces_the_largest_is_found(cascade, astronaut, portraits, second):
    assert_same_largest(cascade, beside(scaled(astronaut, 0.8), scaled(astronaut, 0.8 * second)))
    assert_same_largest(
        cascade, beside(*(scaled(p, 0.3 * second**n) for n, p in enumerate(portraits)))
    )


@pytest.mark.parametrize("size", [0.5, 1.5])
def test_a_large_face_upside_down_hides_no_small_one(cascade, astronaut, size):
    false = scaled(astronaut, size)[::-1]
    assert_same_largest(cascade, beside(false, scaled(astronaut[:, 100:350], 0.6)))


def test_the_search_for_the_largest_face_leaves_small_windows_out(astronaut):
    def propose(level):
        nonlocal seen
        seen += level.shape[0] * level.shape[1]
        return whole(level)

    seen, counts, networks = 0, [], mtcnn_onnx.open_networks()
    whole, networks.propose = networks.propose, propose
    cascade = Cascade(32, networks)
    for search in (cascade.find, lambda pixels: cascade.find_largest(pixels, 0.9)):
        search(scaled(astronaut[:256, 90:350], 3))
        counts.append(seen)
        seen = 0
    assert counts[1] < counts[0] / 10


def test_where_nothing_likely_proves_to_be_a_face_the_whole_picture_is_searched(cascade, astronaut):
    pixels = beside(astronaut, scaled(astronaut, 0.4))
    whole, found = cascade.find(pixels), cascade.find_largest(pixels, sure=1.01)
    assert (whole.probabilities > 0.9).sum() == 2
    np.testing.assert_allclose(found.boxes, whole.boxes, atol=1e-2)


def pooled(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).double().permute(2, 0, 1)
    return F.adaptive_avg_pool2d(planes, size).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("scale", [0.6, 0.301, 0.0897, 0.005])
def test_levels_are_averaged_as_torch_does(scale):
    pixels = np.random.default_rng(0).integers(0, 256, (101, 139, 3), np.uint8)
    expected = pooled(pixels, (int(101 * scale + 1), int(139 * scale + 1)))
    level = _Sums(pixels).scaled(_Part.whole(pixels.shape[:2], scale))
    np.testing.assert_allclose(level, expected, atol=1e-3)


def test_candidates_are_cut_and_averaged_as_torch_does():
    pixels = np.random.default_rng(0).integers(0, 256, (101, 139, 3), np.uint8)
    boxes = np.array(
        [
            [10.7, 20.2, 90.9, 80],
            [-30, -5.5, 20, 40],
            [100, 90, 200, 300],
            [1, 1, 5, 5],
            [0, 0, 139, 101],
        ]
    )
    parts = [pixels[19:80, 9:90], pixels[:40, :20], pixels[89:, 99:], pixels[:5, :5], pixels]
    for view, part in zip(_Sums(pixels).cut(boxes, 24), parts, strict=True):
        np.testing.assert_allclose(view, pooled(part, (24, 24)), atol=1e-3)


def test_sums_past_32_bits_are_no_harm():
    white = _Sums(np.full((5000, 4000, 3), 255, np.uint8))
    np.testing.assert_allclose(white.scaled(_Part.whole((5000, 4000), 0.01)), 255, atol=1e-3)
    np.testing.assert_allclose(white.cut(np.array([[50, 60, 3990, 4990]]), 24), 255, atol=1e-3)


@pytest.fixture(scope="module", params=["CPU", "PyTorch"])
def networks(request) -> Networks:
    if request.param == "CPU":
        return mtcnn_onnx.open_networks()
    return mtcnn_networks.open_networks("cpu")


@pytest.mark.parametrize("shape", [(12, 12), (13, 14), (83, 62), (701, 501)])
def test_proposals_are_those_of_facenet(networks, shape):
    """Of all places at once, and in strips."""
    from facenet_pytorch.models.mtcnn import PNet

    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    pixels[: shape[0] // 2] //= 2
    with torch.inference_mode():
        shifts, probabilities = PNet()(as_facenet(pixels[None]))
    expected, shifts = probabilities[0, 1].numpy(), shifts[0].permute(1, 2, 0).numpy()
    found, told = networks._pnet(pixels.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(told, shifts, atol=1e-4)
    places, scores, sides = networks.propose(pixels.astype(np.float32))
    x, y = places.astype(int).T
    assert len(scores) == (found >= 0.6).sum()
    np.testing.assert_allclose(scores, expected[y, x], atol=1e-4)
    np.testing.assert_allclose(sides, shifts[y, x], atol=1e-4)


@pytest.mark.parametrize("count", [1, 40])
def test_judgements_are_those_of_facenet(networks, astronaut, count):
    from facenet_pytorch.models.mtcnn import ONet, RNet

    for peer, judge, side in ((RNet(), networks.refine, 24), (ONet(), networks.finish, 48)):
        corners = np.random.default_rng(0).integers(0, 400, (count, 2))
        cut = [astronaut[y : y + side, x : x + side] for y, x in corners]
        views = np.array(cut, np.uint8).reshape(-1, side, side, 3)
        with torch.inference_mode():
            shifts, *points, probabilities = peer(as_facenet(views))
        expected = [probabilities[:, 1], shifts, *points]
        found = judge(views.astype(np.float32))
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.shape == theirs.shape and ours.dtype == np.float32
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


def test_no_candidates_give_no_judgements(networks):
    for judge, side, widths in ((networks.refine, 24, [4]), (networks.finish, 48, [4, 10])):
        score, *others = judge(np.zeros((0, side, side, 3), np.float32))
        assert score.shape == (0,) and [other.shape for other in others] == [(0, n) for n in widths]


def as_facenet(views: np.ndarray) -> torch.Tensor:
    """N x H x W x 3 bytes as its networks take them."""
    return (torch.from_numpy(views).permute(0, 3, 1, 2).float() - 127.5) / 128
