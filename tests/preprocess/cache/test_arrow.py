"""Columns as pyarrow itself makes them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from preprocess.cache.arrow import to_array

VALUES = {
    pa.string(): ["a", "", "ö\u4e2d", "b" * 300],
    pa.binary(): [b"", b"\x00\xff", b"c" * 300],
    pa.int8(): [-128, 0, 127],
    pa.int32(): [2**31 - 1, -1],
    pa.float32(): [0.1, 1e30],
    pa.float64(): [0.1],
    pa.list_(pa.float32(), 4): [np.arange(4) / 3, np.ones(4)],
    pa.list_(pa.int16(), 6): [np.arange(6).reshape(2, 3)],
}


@pytest.mark.parametrize("kind", VALUES, ids=str)
@pytest.mark.parametrize("count", [1, 3])
def test_columns_are_those_of_pyarrow(kind, count):
    values = VALUES[kind][:count]
    made = to_array(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array([np.ravel(v).tolist() if np.ndim(v) else v for v in values], kind))


def test_tensors_come_back():
    kind = pa.fixed_shape_tensor(pa.float16(), (2, 3))
    values = np.arange(12, dtype=np.float16).reshape(2, 2, 3)
    made = to_array([*values], kind)
    made.validate(full=True)
    assert made.type == kind
    np.testing.assert_array_equal([made[0].to_numpy(), made[1].to_numpy()], values)
