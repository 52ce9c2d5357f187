"""Columns of Arrow made without pandas, and Arrow files of strangers: read without copying, and
refused where they would swell in memory."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

_MAGIC = 8  # bytes before the first message of an Arrow IPC file
_END = b"ARROW1"
# Fields of Message (the last one named a codec in Arrow 0.17) and of RecordBatch, in Arrow's
# format/Message.fbs.
_HEADER, _CUSTOM, _COMPRESSION = 2, 4, 3


def to_array(values: Sequence | np.ndarray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """A column of text, bytes, numbers, or numpy arrays of one shape, none of them missing.

    So does `pa.array`, but it imports pandas to see whether it was given some, which takes longer
    than to crop a few pictures.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, to_array(values, kind.storage_type))
    if pa.types.is_fixed_size_list(kind):
        numbers = to_array(np.ascontiguousarray(values).ravel(), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(numbers, type=kind)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        coded = [value.encode() if isinstance(value, str) else value for value in values]
        ends = np.cumsum([0, *map(len, coded)], dtype=np.int64)
        if ends[-1] >= 2**31:  # takes several arrays
            return pa.array(values, kind)
        buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(coded))]
        return pa.Array.from_buffers(kind, len(values), buffers)
    data = pa.py_buffer(np.ascontiguousarray(values, kind.to_pandas_dtype()))
    return pa.Array.from_buffers(kind, len(values), [None, data])


def read_file(source: pa.Buffer | pa.MemoryMappedFile, expected: pa.Schema) -> pa.Table | None:
    """The table of an Arrow IPC file as views of its bytes; None if its columns are others.

    Our parts are never compressed. Some kilobytes of compressed zeros could fill any memory, so a
    file that holds compressed columns is refused before they are expanded.

    Raises:
        pyarrow.ArrowException, OSError: no whole Arrow file, or a compressed one.
    """
    data = source if isinstance(source, pa.Buffer) else _mapped(source)
    # Its table of contents, at the end, is not looked into: Arrow does not verify it, and a damaged
    # one can end the process.
    if data.size < 2 * _MAGIC or data.slice(data.size - len(_END)).to_pybytes() != _END:
        raise pa.ArrowInvalid("it has no end")
    messages = pa.ipc.MessageReader.open_stream(pa.BufferReader(data.slice(_MAGIC)))
    first, batches = next(messages, None), []
    if first is None or first.type != "schema":
        raise pa.ArrowInvalid("its schema is not where it belongs")
    schema = pa.ipc.read_schema(first)
    if not schema.equals(expected):
        return None
    for message in messages:
        if message.type != "record batch":
            raise pa.ArrowInvalid(f"expected a record batch but got a {message.type}")
        if _is_compressed(message.metadata):
            raise pa.ArrowInvalid("expected plain columns but they are compressed")
        batches.append(pa.ipc.read_record_batch(message, schema))
    return pa.Table.from_batches(batches, schema)


def _mapped(source: pa.MemoryMappedFile) -> pa.Buffer:
    source.seek(0)
    return source.read_buffer()


def _is_compressed(message: pa.Buffer) -> bool:
    """Whether a record batch's header names a codec. Arrow has verified the flatbuffer."""
    data = memoryview(message)
    table = struct.unpack_from("<I", data)[0]
    at = _field(data, table, _HEADER)
    batch = at + struct.unpack_from("<I", data, at)[0]
    return _field(data, table, _CUSTOM) != 0 or _field(data, batch, _COMPRESSION) != 0


def _field(data: memoryview, table: int, number: int) -> int:
    """Where a flatbuffer table's field lies; 0 if the table lacks it."""
    offsets = table - struct.unpack_from("<i", data, table)[0]
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", data, offsets)[0]:
        return 0
    offset = struct.unpack_from("<H", data, offsets + slot)[0]
    return table + offset if offset else 0
