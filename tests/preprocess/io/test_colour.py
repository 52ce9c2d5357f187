"""Every mode and every profile comes out as the sRGB that was meant."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from preprocess.io import colour
from preprocess.io.decode import DecodeError, decode_image

# Rows: X, Y, Z of red, green and blue, adapted to D50 as profiles store them.
SRGB = [[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.71410]]
SPACES = {
    "Display P3": (
        [[0.51512, 0.24120, -0.00105], [0.29198, 0.69225, 0.04189], [0.15710, 0.06657, 0.78407]],
        None,  # the curve of sRGB
    ),
    "Adobe RGB": (
        [[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]],
        563 / 256,
    ),
    "ProPhoto": (
        [[0.79767, 0.28803, 0.0], [0.13519, 0.71187, 0.0], [0.03134, 0.00009, 0.82491]],
        1.8,
    ),
}
D50 = np.array([0.9642, 1.0, 0.8249])


def linear(values: np.ndarray, gamma: float | None = None) -> np.ndarray:
    values = np.asarray(values, float)
    if gamma:
        return values**gamma
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def curved(values: np.ndarray, gamma: float | None = None) -> np.ndarray:
    values = np.clip(values, 0, 1)
    if gamma:
        return values ** (1 / gamma)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def recoded(pixels: np.ndarray, source: tuple, target: tuple) -> np.ndarray:
    """The same colours in another space, by its definition: uint8 to uint8."""
    xyz = linear(pixels / 255, source[1]) @ np.array(source[0])
    return np.round(255 * curved(xyz @ np.linalg.inv(target[0]), target[1])).astype(np.uint8)


def profile(space: bytes, device: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2.1, as ICC.1:1998-09 lays it out."""
    described = b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(78)
    tags = {b"desc": described, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz_tag(D50), **tags}
    table, data = b"", b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), bytes(4), 0x02100000, device, space, pcs)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", *np.round(D50 * 65536).astype(int))
    return head + bytes(128 - len(head)) + body


def xyz_tag(values: np.ndarray | list[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *np.round(np.array(values) * 65536).astype(int))


def curve_tag(gamma: float | None) -> bytes:
    if gamma:
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    steps = np.round(linear(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", 1024) + steps.tobytes()


def rgb_profile(primaries: list[list[float]], gamma: float | None, device=b"mntr") -> bytes:
    tags = {b"%cXYZ" % c: xyz_tag(row) for c, row in zip(b"rgb", primaries, strict=True)}
    tags |= {b"%cTRC" % c: curve_tag(gamma) for c in b"rgb"}
    return profile(b"RGB ", device, b"XYZ ", tags)


def grey_profile(gamma: float | None) -> bytes:
    return profile(b"GRAY", b"mntr", b"XYZ ", {b"kTRC": curve_tag(gamma)})


INKS = {
    (0, 0, 0, 0): (255, 255, 255),
    (255, 0, 0, 0): (60, 140, 190),
    (0, 255, 0, 0): (190, 60, 120),
    (0, 0, 255, 0): (230, 210, 60),
    (255, 255, 0, 0): (70, 60, 120),
    (0, 255, 255, 0): (190, 60, 60),
    (255, 0, 255, 0): (60, 130, 80),
    (255, 255, 255, 0): (60, 55, 50),
}


def cmyk_profile() -> bytes:
    """A table of the inks above; with black, all is black."""
    corners = []
    for c in (0, 255):
        for m in (0, 255):
            for y in (0, 255):
                for k in (0, 255):
                    corners.append(lab(np.array(INKS[c, m, y, 0] if not k else (0, 0, 0))))
    stored = np.array(corners) * [652.8, 256, 256] + [0, 32768, 32768]
    ramp = struct.pack(">HH", 0, 65535)
    table = b"mft2\0\0\0\0" + bytes((4, 3, 2, 0))
    table += struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).ravel()) + struct.pack(">HH", 2, 2)
    table += ramp * 4 + np.round(stored).astype(">u2").tobytes() + ramp * 3
    return profile(b"CMYK", b"prtr", b"Lab ", {b"A2B0": table})


def lab(pixel: np.ndarray) -> np.ndarray:
    ratio = linear(pixel / 255) @ np.array(SRGB) / D50
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.fixture(scope="module")
def picture(astronaut) -> np.ndarray:
    return astronaut[60:156, 150:310].copy()


def encode(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def off(pixels: np.ndarray, expected: np.ndarray) -> int:
    return int(np.abs(pixels.astype(int) - expected).max())


# Profiles

CONTAINERS = [
    ("PNG", {}),
    ("TIFF", {}),
    ("WEBP", {"lossless": True}),
    ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
]


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(("kind", "options"), CONTAINERS)
def test_wide_colour_spaces_look_as_they_did(picture, name, kind, options):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    stored = recoded(picture, (SRGB, None), SPACES[name])
    assert off(stored, picture) > 10
    data = encode(stored, kind, icc_profile=rgb_profile(*SPACES[name]), **options)
    pixels = decode_image(data).pixels.astype(int)
    assert off(pixels, picture) <= (12 if kind == "AVIF" else 4)
    assert np.abs(pixels - picture).mean() < 2


@pytest.mark.parametrize("name", SPACES)
def test_colours_that_srgb_does_not_hold_are_cut_as_the_definition_cuts_them(name):
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.ascontiguousarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(18, -1, 3))
    data = encode(cube, "PNG", icc_profile=rgb_profile(*SPACES[name]))
    expected = recoded(cube, SPACES[name], (SRGB, None))
    assert off(decode_image(data).pixels, expected) <= 3


def test_profiles_of_jpeg_files_and_of_pictures_in_memory(picture):
    icc = rgb_profile(*SPACES["Display P3"])
    stored = recoded(picture, (SRGB, None), SPACES["Display P3"])
    plain, tagged = (
        decode_image(encode(stored, "JPEG", quality=95, **options))
        for options in ({}, {"icc_profile": icc})
    )
    assert tagged.jpeg_quality == 95
    assert off(tagged.pixels, recoded(plain.pixels, SPACES["Display P3"], (SRGB, None))) <= 3
    image = Image.fromarray(stored)
    image.info["icc_profile"] = icc
    assert off(decode_image(image).pixels, picture) <= 4


@pytest.mark.parametrize(
    "icc",
    [rgb_profile(SRGB, None), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()],
    ids=["by hand", "by littlecms"],
)
def test_srgb_of_any_make_changes_nothing_and_is_looked_at_once(picture, icc):
    colour._transform.cache_clear()
    data = encode(picture, "PNG", icc_profile=icc)
    for _ in range(3):
        np.testing.assert_array_equal(decode_image(data).pixels, picture)
    assert colour._transform.cache_info().misses == 1
    assert colour._transform(icc, "RGB") is None


def test_grey_profiles(picture):
    grey = picture[..., 1]
    for mode in ("L", "LA"):
        image = Image.fromarray(grey).convert(mode)
        pixels = decode_image(encode(image, "PNG", icc_profile=grey_profile(1.8))).pixels
        expected = np.round(255 * curved(linear(grey / 255, 1.8)))[..., None]
        assert off(pixels, np.repeat(expected, 3, 2)) <= 2
    sixteen = Image.fromarray(grey.astype(np.uint16) * 257)
    pixels = decode_image(encode(sixteen, "PNG", icc_profile=grey_profile(1.8))).pixels
    assert off(pixels, np.repeat(expected, 3, 2)) <= 2


def test_grey_pictures_with_a_profile_for_colours(picture):
    grey = picture[..., 1]
    data = encode(grey, "JPEG", quality=100, icc_profile=rgb_profile(*SPACES["ProPhoto"]))
    plain = decode_image(encode(grey, "JPEG", quality=100)).pixels
    expected = np.round(255 * curved(linear(plain / 255, 1.8)))
    assert off(decode_image(data).pixels, expected) <= 2
    np.testing.assert_array_equal(
        decode_image(encode(grey, "PNG", icc_profile=rgb_profile(SRGB, None))).pixels[..., 0], grey
    )


def test_transparent_and_palette_pictures_with_a_profile(picture):
    icc = rgb_profile(*SPACES["Adobe RGB"])
    stored = recoded(picture, (SRGB, None), SPACES["Adobe RGB"])
    image = Image.fromarray(stored).convert("RGBA")
    left_half = np.where(np.arange(160) < 80, 255, 0).astype(np.uint8)
    image.putalpha(Image.fromarray(np.tile(left_half, (96, 1))))
    pixels = decode_image(encode(image, "PNG", icc_profile=icc)).pixels
    assert off(pixels[:, :80], picture[:, :80]) <= 4
    assert (pixels[:, 80:] == 255).all()
    palette = Image.fromarray(stored).quantize(64)
    expected = recoded(np.asarray(palette.convert("RGB")), SPACES["Adobe RGB"], (SRGB, None))
    assert off(decode_image(encode(palette, "PNG", icc_profile=icc)).pixels, expected) <= 3


@pytest.mark.parametrize(("kind", "options"), [("TIFF", {}), ("JPEG", {"quality": 100})])
def test_inks_look_as_their_profile_says(kind, options):
    inks = np.array(list(INKS), np.uint8).repeat(256, 0).reshape(8 * 16, 16, 4)
    image = Image.frombytes("CMYK", (16, 8 * 16), inks.tobytes())
    data = encode(image, kind, icc_profile=cmyk_profile(), **options)
    expected = np.array(list(INKS.values())).repeat(256, 0).reshape(8 * 16, 16, 3)
    assert off(decode_image(data).pixels, expected) <= 6
    plain = decode_image(encode(image, kind, **options)).pixels
    assert off(plain, expected) > 50


def broken_profiles() -> dict[str, bytes]:
    good = rgb_profile(*SPACES["ProPhoto"])
    return {
        "cut off": good[:200],
        "header only": good[:128],
        "noise": np.random.default_rng(0).bytes(500),
        "noise after the header": good[:128] + np.random.default_rng(0).bytes(500),
        "tags that point outside": good[:132] + b"\xff" * 120 + good[252:],
        "no tags": good[:128] + bytes(4),
        "for grey": grey_profile(1.0),
        "for inks": cmyk_profile(),
        "a link of devices": rgb_profile(*SPACES["ProPhoto"], device=b"link"),
        "named colours": rgb_profile(*SPACES["ProPhoto"], device=b"nmcl"),
        "one byte": b"x",
        "empty": b"",
    }


@pytest.mark.parametrize("name", broken_profiles())
def test_profiles_that_cannot_be_used_are_ignored(picture, name):
    image = Image.fromarray(picture)
    image.info["icc_profile"] = broken_profiles()[name]
    np.testing.assert_array_equal(decode_image(image).pixels, picture)
    data = encode(picture, "PNG", icc_profile=broken_profiles()[name])
    np.testing.assert_array_equal(decode_image(data).pixels, picture)


def test_a_profile_that_is_no_bytes_is_ignored(picture):
    image = Image.fromarray(picture)
    for value in (None, "sRGB", 3, ()):
        image.info["icc_profile"] = value
        np.testing.assert_array_equal(decode_image(image).pixels, picture)


# Modes


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "PNG", "TIFF", "I TIFF"])
def test_grey_of_any_depth(picture, bits, mode):
    grey = picture[..., 1].copy()
    grey[0, 0] = 255  # the brightest pixel tells the depth
    stored = Image.fromarray(grey.astype(np.uint16) << (bits - 8))
    if mode.startswith("I"):
        stored = stored.convert("I").convert(mode.split()[0])
    source = encode(stored, mode.split()[-1]) if mode.endswith(("PNG", "TIFF")) else stored
    np.testing.assert_array_equal(decode_image(source).pixels, np.repeat(grey[..., None], 3, 2))


def test_one_shade_of_16_bit_grey_may_be_transparent():
    grey = np.full((4, 6), 30_000, np.uint16)
    grey[:2] = 40_000
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG", transparency=30_000)
    assert b"tRNS" in buffer.getvalue()
    pixels = decode_image(buffer.getvalue()).pixels
    assert (pixels[:2] == 40_000 >> 8).all() and (pixels[2:] == 255).all()


@pytest.mark.parametrize("scale", [1, 1 / 255])
def test_floating_point_of_0_to_1_and_of_0_to_255(picture, scale):
    grey = picture[..., 1].copy()
    grey[0, 0] = 255
    image = Image.fromarray(grey.astype(np.float32) * np.float32(scale))
    for source in (image, encode(image, "TIFF")):
        np.testing.assert_array_equal(decode_image(source).pixels, np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize("values", [(0, 256), (-0.1, 1), (0, np.nan), (0, np.inf)])
def test_floating_point_of_another_range(values):
    image = Image.fromarray(np.array([values], np.float32))
    with pytest.raises(
        DecodeError, match=r"expected floating point samples of 0 to 1 or .* but got"
    ):
        decode_image(image)


@pytest.mark.parametrize("values", [(-1, 5), (0, 65536)])
def test_integers_of_another_range(values):
    image = Image.fromarray(np.array([values], np.int32))
    expected = rf"expected samples of 8 to 16 bits but got {values[0]} to {values[1]}"
    with pytest.raises(DecodeError, match=expected):
        decode_image(image)


def test_premultiplied_grey(picture):
    image = Image.fromarray(picture).convert("LA")
    np.testing.assert_array_equal(
        decode_image(image.convert("La")).pixels, decode_image(image).pixels
    )
    half = Image.new("LA", (2, 2), (0, 128))
    assert off(decode_image(half.convert("La")).pixels, np.full((2, 2, 3), 127)) <= 1


def test_lab(picture):
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    image = ImageCms.applyTransform(Image.fromarray(picture), to_lab)
    for source in (image, encode(image, "TIFF")):  # 8 bits of L, a and b are coarse
        assert np.abs(decode_image(source).pixels.astype(int) - picture).mean() < 3


@pytest.mark.parametrize("mode", ["1", "HSV", "YCbCr", "RGBX", "RGBa", "P", "CMYK"])
def test_other_modes_are_what_pillow_shows(picture, mode):
    image = Image.fromarray(picture)
    image = (image.convert("RGBA") if mode == "RGBa" else image).convert(mode)
    expected = np.asarray((image.convert("RGBA") if mode == "RGBa" else image).convert("RGB"))
    np.testing.assert_array_equal(decode_image(image).pixels, expected)


def test_one_colour_of_an_rgb_png_may_be_transparent():
    pixels = np.array([[[10, 20, 30], [200, 100, 50]]], np.uint8)
    data = encode(pixels, "PNG", transparency=(10, 20, 30))
    shown = decode_image(data).pixels
    np.testing.assert_array_equal(shown, [[[255, 255, 255], [200, 100, 50]]])


def test_sixteen_bits_of_colour_keep_their_upper_byte(picture):
    import cv2

    for suffix in (".png", ".tiff", ".ppm"):
        stored = picture[..., ::-1].astype(np.uint16) * 257
        data = cv2.imencode(suffix, np.ascontiguousarray(stored))[1].tobytes()
        np.testing.assert_array_equal(decode_image(data).pixels, picture)
