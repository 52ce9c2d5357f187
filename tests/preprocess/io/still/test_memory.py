"""Pictures that lie in memory, in every form that libraries give them."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from preprocess.io.decode import decode_image
from tests.preprocess.io.test_decode import assert_refused, encode


@pytest.mark.parametrize(
    ("tensor", "got"),
    [
        (torch.zeros(3, 8, 9, dtype=torch.bfloat16), "torch.bfloat16 of shape (3, 8, 9)"),
        (torch.zeros(3, 8, 9, dtype=torch.float16), "torch.float16 of shape (3, 8, 9)"),
        (torch.zeros(3, 8, 9, requires_grad=True), "torch.float32 of shape (3, 8, 9) with values"),
        (torch.zeros(3, 8, 9, dtype=torch.bool), "torch.bool of shape (3, 8, 9)"),
        (torch.zeros(3, 8, 9, dtype=torch.complex64).conj(), "torch.complex64 of shape (3, 8, 9)"),
        (torch.zeros(3, 8, 9, dtype=torch.uint8, device="meta"), "one without data"),
        (torch.zeros(3, 8, 9, dtype=torch.uint8).to_sparse(), "one of layout torch.sparse_coo"),
        (torch.zeros(3, 0, 9, dtype=torch.uint8), "torch.uint8 of shape (3, 0, 9)"),
    ],
    ids=str,
)
def test_tensors_of_any_kind_are_named_as_they_came(tensor, got):
    assert_refused(tensor, "expected a uint8 3 x H x W RGB tensor", got)


def test_half_precision_is_told_what_to_do(recwarn):
    array = np.linspace(0, 1, 192, dtype=np.float16).reshape(8, 8, 3)
    assert_refused(array, "values from 0 to 1; times 255")
    assert not recwarn.list


def test_views_of_memory(picture):
    png = encode(picture, "PNG")
    even = png + b"\0" * (len(png) % 2)
    twice = bytearray(2 * len(png))
    twice[::2] = png
    for view in (
        memoryview(png),
        memoryview(even).cast("H"),
        memoryview(twice)[::2],
        memoryview(bytearray(png)),
    ):
        assert np.array_equal(decode_image(view).pixels, picture)


def test_anything_that_stands_for_a_path(tmp_path, picture):
    class Entry:
        def __fspath__(self) -> str:
            return str(tmp_path / "a.png")

    (tmp_path / "a.png").write_bytes(encode(picture, "PNG"))
    [found] = os.scandir(tmp_path)
    for path in (Entry(), found):
        assert np.array_equal(decode_image(path).pixels, picture)
