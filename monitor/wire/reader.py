"""Records to columns without an object in between, for those that are as events usually are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.events import COLUMNS, COLUMNS_BY_NAME, EVENT_TYPES
from monitor.wire.arrow import ArrowBatch, ArrowColumn
from monitor.wire.kernel import Rows, bitmaps, new_scratch, read_records
from monitor.wire.plan import STAND_INS, WireField, compile_tables, wire_fields
from monitor.wire.tables import CODE, FLOAT, INTEGER, NOTHING, TEXT, TRUTH

if TYPE_CHECKING:
    from collections.abc import Collection

    from monitor.wire.records import PackedRecords

    Words = npt.NDArray[np.uint64]

__all__ = ["Reader"]

_FORMATS: Final = {TEXT: b"vu", INTEGER: b"l", FLOAT: b"g", TRUTH: b"b", CODE: b"I"}
_INLINE_BYTES: Final = 12
_PAGE_BYTES: Final = 4_096


class Reader:
    """Reads the columns ``names`` of records that the kernel understands."""

    def __init__(self, names: Collection[str]) -> None:
        self._columns = [column for column in COLUMNS if column.name in names]
        fields = wire_fields(names)
        self._tables = compile_tables(fields.values())
        self._types = pl.Series("type", EVENT_TYPES, dtype=COLUMNS_BY_NAME["type"].dtype)
        self._scratch = new_scratch(self._tables)
        self._read = [fields[column.path] for column in self._columns]
        self._truths = [field.bit for field in self._read if field.kind == TRUTH]
        placed = [field for field in fields.values() if field.place != NOTHING]
        self._texts = sum(field.kind == TEXT for field in placed)
        self._numbers = len(placed) - self._texts - len(self._truths)
        self._defaults = [field for field in self._read if field.default is not None]
        self._stand_ins = [
            (fields[path], fields[other])
            for path, other in STAND_INS.items()
            if fields[path] in self._read
        ]

    def read(self, records: PackedRecords) -> tuple[pl.DataFrame, npt.NDArray[np.int64]]:
        """The events among n records that could be read, in order, and their positions."""
        room = len(records)
        stride = _stride(room)
        numbers = np.zeros((self._numbers, stride), dtype=np.uint64)
        rows = Rows(
            texts=np.zeros((self._texts, stride, 2), dtype=np.uint64),
            numbers=numbers,
            floats=numbers.view(np.float64),
            present=np.empty(room + 1, dtype=np.uint64),
            truths=np.empty(room + 1, dtype=np.uint64),
            positions=np.empty(room, dtype=np.int64),
        )
        data = np.frombuffer(records.data, dtype=np.uint8)
        count = read_records(data, records.starts, records.ends, self._tables, self._scratch, rows)
        if not count:
            schema = {column.name: column.dtype for column in self._columns}
            return pl.DataFrame(schema=schema), rows.positions[:0]
        present = rows.present[:count]
        for field in self._defaults:
            _fill_default(field, rows.texts, present)
        for field, other in self._stand_ins:
            _stand_in(field, other, rows.texts, present)
        return self._frame(rows, count, data), rows.positions[:count]

    def _frame(self, rows: Rows, count: int, data: npt.NDArray[np.uint8]) -> pl.DataFrame:
        """The first ``count`` rows as a frame; long texts stay in ``data``."""
        present = rows.present[:count]
        everywhere = int(np.bitwise_and.reduce(present))
        gaps = [field.bit for field in self._read if not everywhere & field.bit]
        valid = _bitmaps(present, gaps)
        true = _bitmaps(rows.truths[:count], self._truths)
        codes = rows.numbers[self._tables.type_place, :count].astype(np.uint32)
        data_bytes = np.array([len(data)])
        in_data = (data.ctypes.data, data_bytes.ctypes.data)
        valid_at = dict(zip(gaps, _row_addresses(valid), strict=True))
        addresses = {
            TEXT: _row_addresses(rows.texts),
            INTEGER: _row_addresses(rows.numbers),
            FLOAT: _row_addresses(rows.numbers),
            TRUTH: _row_addresses(true),
            CODE: [codes.ctypes.data] * len(rows.numbers),
        }
        columns = [
            ArrowColumn(
                column.name.encode(),
                _FORMATS[field.kind],
                (
                    valid_at.get(field.bit, 0),
                    addresses[field.kind][field.place],
                    *(in_data if field.kind == TEXT else ()),
                ),
            )
            for column, field in zip(self._columns, self._read, strict=True)
        ]
        memory = (rows, valid, true, codes, data, data_bytes)
        frame = pl.DataFrame(ArrowBatch(count, columns, memory))
        return frame.replace_column(frame.get_column_index("type"), self._types[frame["type"]])


def _fill_default(field: WireField, texts: Words, present: Words) -> None:
    """Give a field its default where what it belongs to is there without it."""
    assert field.parent is not None
    parent, bit = np.uint64(field.parent.bit), np.uint64(field.bit)
    missing = present & (parent | bit) == parent
    if not missing.any():
        return
    present[missing] |= bit
    if field.kind == TEXT:
        texts[field.place, : len(present)][missing] = _view(str(field.default))
    else:
        assert field.default is False, "no other default is needed yet"


def _stand_in(field: WireField, other: WireField, texts: Words, present: Words) -> None:
    """Where a field has no value, give it that of another."""
    bit, other_bit = np.uint64(field.bit), np.uint64(other.bit)
    missing = present & (bit | other_bit) == other_bit
    texts[field.place, : len(present)][missing] = texts[other.place, : len(present)][missing]
    present[missing] |= bit


def _bitmaps(sets: Words, bits: list[int]) -> npt.NDArray[np.uint8]:
    """For each of k fields, given by its bit, in which of n sets it is: (k, n / 8 rounded up)."""
    found = np.zeros((len(bits), -(-len(sets) // 8)), dtype=np.uint8)
    bitmaps(sets, np.array(bits, dtype=np.uint64), found)
    return found


def _row_addresses(table: npt.NDArray[Any]) -> list[int]:
    """Where each row of a table begins."""
    start, step = table.ctypes.data, table.strides[0]
    return [start + row * step for row in range(len(table))]


def _view(text: str) -> Words:
    """A short text as an Arrow view: its length (4 bytes), then its bytes."""
    data = text.encode()
    assert len(data) <= _INLINE_BYTES
    return np.frombuffer((len(data).to_bytes(4, "little") + data).ljust(16, b"\0"), dtype="<u8")


def _stride(rows: int) -> int:
    """Room for n rows such that columns do not compete for the same lines of the cache.

    They do when they are a multiple of a page apart.
    """
    per_page = _PAGE_BYTES // 16
    return (rows // per_page + 1) * per_page + 5 * per_page // 64
