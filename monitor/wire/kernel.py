"""The kernel that reads JSON records straight into columns, and leaves alone what is unusual.

It reads a record only if it understands every byte of it as ``careful`` does: UTF-8 without
escapes and control characters, no name twice in an object, numbers of up to 18 digits. All else,
whatever is wrong or rare, is for ``careful``. So there are no error messages here: what this
accepts is a part of what that accepts, with equal values (tests/property/test_wire.py).

``data`` holds the records, each followed by a new line or another control character that is not
skipped here, and ``PADDING`` more bytes after the last. So a loop over what JSON allows stops at
the end of its record, and 24 bytes can be read from any position within one.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from monitor.wire.compiling import kernel, part, signed
from monitor.wire.tables import (
    ANYTHING,
    ARRAY,
    CODE,
    FLOAT,
    INTEGER,
    NOTHING,
    OBJECT,
    ROOT_FIELD,
    SLOTS,
    TEXT,
    TRUTH,
    TYPE_NAMES,
    UNKNOWN_FIELD,
    VERSION,
    Tables,
)
from monitor.wire.tokens import (
    NOWHERE,
    Bytes,
    Words,
    after_space,
    is_space,
    low_bytes,
    nearest_float,
    number_at,
    text_end,
    word_at,
)

__all__ = [
    "PADDING",
    "Rows",
    "Scratch",
    "bitmaps",
    "name_slot",
    "new_scratch",
    "read_records",
]

PADDING: Final = 32

# What may come next in a record.
_NAME, _VALUE, _COMMA, _CLOSE = 1, 2, 4, 8
# What is counted while a record is read.
_DEPTH, _UNKNOWN = range(2)

_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_LIST, _CLOSE_LIST = b"{}[]"
_QUOTE, _COLON, _COMMA_SIGN, _MINUS = b'":,-'
_ZERO, _NINE, _SMALL_E, _NEW_LINE = b"09e\n"

_LOW_HALF: Final = np.uint64(0xFFFFFFFF)
_TRUE: Final = np.uint64(int.from_bytes(b"true", "little"))
_FALSE: Final = np.uint64(int.from_bytes(b"fals", "little"))
_NULL: Final = np.uint64(int.from_bytes(b"null", "little"))
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)

_MAX_DEPTH: Final = 16
_MAX_UNKNOWN: Final = 64
_INLINE_BYTES: Final = 12

Int64s: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


class Rows(NamedTuple):
    """What is read, a row for each record that could be read; there is room for all n of them."""

    texts: Words  # (columns, n, 2) Arrow views: short texts themselves, of long ones the position
    numbers: Words  # (columns, n) the bits of int64 or float64
    floats: Floats  # (columns, n) the same memory
    present: Words  # (n,) the fields that have a value
    truths: Words  # (n,) the fields that are true
    positions: Int64s  # (n,) which record a row was read from


class Scratch(NamedTuple):
    """What is remembered: of the record that is being read, and of the order of its fields."""

    seen: Words  # (1,) the fields that the record has
    counts: Int64s  # (2,) how many objects are open, and how many unknown names there are
    open: Int64s  # (_MAX_DEPTH, 2) from 1 on: these objects, and the first of their unknown names
    unknown: Int64s  # (_MAX_UNKNOWN, 2) position and length of unknown names
    follower: Int64s  # (fields,) the field that came after a field: most likely it does again


def new_scratch(tables: Tables) -> Scratch:
    """Memory for ``read_records``."""
    return Scratch(
        np.zeros(1, dtype=np.uint64),
        np.zeros(2, dtype=np.int64),
        np.zeros((_MAX_DEPTH, 2), dtype=np.int64),
        np.zeros((_MAX_UNKNOWN, 2), dtype=np.int64),
        np.zeros(len(tables.fields), dtype=np.int64),
    )


@kernel
def name_slot(first_word: np.uint64, length: int, owner: int) -> int:
    """Where the search for a name in the hash table begins."""
    mixed = (first_word ^ np.uint64(64 * length + owner)) * _MIX
    return signed(mixed >> np.uint64(56))


@part
def _is_name(data: Bytes, start: int, end: int, owner: int, field: int, tables: Tables) -> bool:
    """Whether a field of this object has the name from ``start`` to ``end`` (which it is long)."""
    known = tables.fields[field]
    return bool(
        known.owner == owner
        and known.name[0] == word_at(data, start) & known.name_mask[0]
        and known.name[1] == word_at(data, start + 8) & known.name_mask[1]
        and known.name[2] == word_at(data, start + 16) & known.name_mask[2]
        and data[end] == _QUOTE
    )


@part
def _find_name(data: Bytes, start: int, end: int, owner: int, tables: Tables) -> int:
    """The field of an object with the name from ``start`` to ``end``."""
    length = end - start
    slot = name_slot(word_at(data, start) & low_bytes(length), length, owner)
    while tables.fields[slot].name_bytes != 0:
        is_as_long = tables.fields[slot].name_bytes == length
        if is_as_long and _is_name(data, start, end, owner, slot, tables):
            return slot
        slot = (slot + 1) % SLOTS
    return UNKNOWN_FIELD


@part
def _is_new_name(data: Bytes, start: int, end: int, scratch: Scratch) -> bool:
    """Whether the open object does not have an unknown name yet; from then on it does."""
    count, length = scratch.counts[_UNKNOWN], end - start
    if count == _MAX_UNKNOWN:
        return False
    for other in range(scratch.open[scratch.counts[_DEPTH], 1], count):
        same = scratch.unknown[other, 1] == length
        k = 0
        while same and k < length:
            same = data[start + k] == data[scratch.unknown[other, 0] + k]
            k += 1
        if same:
            return False
    scratch.unknown[count, 0], scratch.unknown[count, 1] = start, length
    scratch.counts[_UNKNOWN] += 1
    return True


@part
def _take_name(
    data: Bytes, start: int, before: int, tables: Tables, scratch: Scratch
) -> tuple[int, int]:
    """Take the name of a member, after the field ``before``: where its value is, and the field.

    Nowhere if there is no name, or the object has it already.
    """
    owner = scratch.open[scratch.counts[_DEPTH], 0]
    field = scratch.follower[before]
    end = start + tables.fields[field].name_bytes
    if not _is_name(data, start, end, owner, field, tables):
        end = text_end(data, start)
        if end == NOWHERE:
            return NOWHERE, field
        field = _find_name(data, start, end, owner, tables)
        scratch.follower[before] = field
    colon = after_space(data, end + 1)
    if data[colon] != _COLON:
        return NOWHERE, field
    if field == UNKNOWN_FIELD:
        is_new = _is_new_name(data, start, end, scratch)
    else:
        is_new = scratch.seen[0] & tables.fields[field].bit == 0
        scratch.seen[0] |= tables.fields[field].bit
    return colon + 1 if is_new else NOWHERE, field


@part
def _take_text(
    data: Bytes, start: int, end: int, field: int, row: int, tables: Tables, rows: Rows
) -> bool:
    """Take a text for the value of a field: whether it may have one."""
    kind, place, bit = (
        tables.fields[field].kind,
        tables.fields[field].place,
        tables.fields[field].bit,
    )
    if kind == CODE:
        name = _find_name(data, start, end, signed(TYPE_NAMES), tables)
        if name == UNKNOWN_FIELD:
            return False
        rows.numbers[place, row] = np.uint64(tables.fields[name].code)
    elif kind == TEXT:
        # The first of a list is kept; any other field comes once.
        if place != NOTHING and not rows.present[row] & bit:
            length = end - start
            if not tables.fields[field].least <= length <= tables.fields[field].most:
                return False
            first = word_at(data, start) & low_bytes(length)
            if length > _INLINE_BYTES:
                rest = np.uint64(start) << np.uint64(32)
            else:
                second = word_at(data, start + 8) & low_bytes(length - 8)
                rest = (first >> np.uint64(32)) | (second << np.uint64(32))
            rows.texts[place, row, 0] = np.uint64(length) | (first << np.uint64(32))
            rows.texts[place, row, 1] = rest
    elif kind != ANYTHING:
        return False
    rows.present[row] |= bit
    return True


@part
def _take_number(data: Bytes, start: int, field: int, row: int, tables: Tables, rows: Rows) -> int:
    """Take a number for the value of a field: where it ends; nowhere if it is not that simple."""
    negative = data[start] == _MINUS
    end, whole_end, mantissa, exponent = number_at(data, start + negative)
    if end == NOWHERE or (negative and mantissa == 0):
        return NOWHERE
    kind, place = tables.fields[field].kind, tables.fields[field].place
    value = -signed(mantissa) if negative else signed(mantissa)
    whole = end == whole_end
    if kind == VERSION:
        if not whole or value != tables.fields[field].code:
            return NOWHERE
    elif kind in (INTEGER, FLOAT):
        if kind == INTEGER and not whole:
            return NOWHERE
        if place != NOTHING:
            size = np.float64(value)
            rows.numbers[place, row] = np.uint64(value)
            if kind == FLOAT:
                sign = np.uint64(negative) << np.uint64(63)
                rows.numbers[place, row] = nearest_float(mantissa, exponent) | sign
                size = rows.floats[place, row]
            if not tables.fields[field].least <= size <= tables.fields[field].most:
                return NOWHERE
    elif kind != ANYTHING:
        return NOWHERE
    rows.present[row] |= tables.fields[field].bit
    return end


@part
def _take_scalar(data: Bytes, start: int, field: int, row: int, tables: Tables, rows: Rows) -> int:
    """Take a number, a truth or null for the value of a field: where it ends, or nowhere."""
    if data[start] == _MINUS or _ZERO <= data[start] <= _NINE:
        return _take_number(data, start, field, row, tables, rows)
    word = word_at(data, start) & _LOW_HALF
    if word == _NULL:
        return start + 4 if tables.fields[field].nullable else NOWHERE
    kind, bit = tables.fields[field].kind, tables.fields[field].bit
    if kind not in (TRUTH, ANYTHING):
        return NOWHERE
    rows.present[row] |= bit
    if word == _TRUE:
        rows.truths[row] |= bit
        return start + 4
    return start + 5 if word == _FALSE and data[start + 4] == _SMALL_E else NOWHERE


@part
def _open(field: int, is_list: bool, row: int, tables: Tables, scratch: Scratch, rows: Rows) -> int:
    """Open the object or list that is the value of a field: what it consists of, or nothing."""
    depth = scratch.counts[_DEPTH] + 1
    kind, element = tables.fields[field].kind, tables.fields[field].element
    fits = element != NOTHING if is_list else kind in (OBJECT, ANYTHING)
    if not fits or depth == _MAX_DEPTH:
        return NOTHING
    rows.present[row] |= tables.fields[field].bit
    scratch.counts[_DEPTH] = depth
    scratch.open[depth, 0] = ARRAY if is_list else tables.fields[field].child
    scratch.open[depth, 1] = scratch.counts[_UNKNOWN]
    return element if is_list else field


@part
def _close(tables: Tables, scratch: Scratch) -> bool:
    """Close the open object: whether it has all fields that it must have."""
    depth = scratch.counts[_DEPTH]
    owner = scratch.open[depth, 0]
    scratch.counts[_UNKNOWN] = scratch.open[depth, 1]
    scratch.counts[_DEPTH] = depth - 1
    return bool(tables.required[owner] & ~scratch.seen[0] == 0)


@part
def _read_record(
    data: Bytes, start: int, end: int, row: int, tables: Tables, scratch: Scratch, rows: Rows
) -> bool:
    """Read the record from ``start`` to ``end`` into a row: whether that could be done."""
    position, field, may_come = start, signed(ROOT_FIELD), _VALUE
    in_list = False
    while True:
        position = after_space(data, position)
        sign = data[position]
        if sign == _QUOTE and may_come & _NAME:
            position, field = _take_name(data, position + 1, field, tables, scratch)
            if position == NOWHERE:
                return False
            may_come = _VALUE
        elif sign == _QUOTE and may_come & _VALUE:
            quote = text_end(data, position + 1)
            if quote == NOWHERE or not _take_text(
                data, position + 1, quote, field, row, tables, rows
            ):
                return False
            position, may_come = quote + 1, _COMMA | _CLOSE
        elif sign == _COMMA_SIGN and may_come & _COMMA:
            position, may_come = position + 1, _VALUE if in_list else _NAME
        elif sign in (_OPEN_OBJECT, _OPEN_LIST) and may_come & _VALUE:
            in_list = sign == _OPEN_LIST
            field = _open(field, in_list, row, tables, scratch, rows)
            if field == NOTHING:
                return False
            position, may_come = position + 1, (_VALUE if in_list else _NAME) | _CLOSE
        elif sign == (_CLOSE_LIST if in_list else _CLOSE_OBJECT) and may_come & _CLOSE:
            if not _close(tables, scratch):
                return False
            depth = scratch.counts[_DEPTH]
            if depth == 0:
                body = tables.bodies[rows.numbers[tables.type_place, row]]
                return position + 1 == end and body & ~rows.present[row] == 0
            in_list = scratch.open[depth, 0] == ARRAY
            position, may_come = position + 1, _COMMA | _CLOSE
        elif may_come & _VALUE:
            position = _take_scalar(data, position, field, row, tables, rows)
            if position == NOWHERE:
                return False
            may_come = _COMMA | _CLOSE
        else:
            return False


@kernel
def read_records(
    data: Bytes, starts: Int64s, ends: Int64s, tables: Tables, scratch: Scratch, rows: Rows
) -> int:
    """Read what can be read of n records (see the module); how many rows that gives."""
    row = signed(0)
    for record in range(len(starts)):
        start, end = starts[record], ends[record]
        if end - start > tables.max_bytes:
            continue
        while end > start and (is_space(data[end - 1]) or data[end - 1] == _NEW_LINE):
            end -= 1
        rows.present[row] = rows.truths[row] = scratch.seen[0] = np.uint64(0)
        scratch.counts[_DEPTH] = scratch.counts[_UNKNOWN] = 0
        if _read_record(data, start, end, row, tables, scratch, rows):
            rows.positions[row] = record
            row += 1
    return row


@kernel
def bitmaps(sets: Words, fields: Words, bits: Bytes) -> None:
    """Write for each field in which of n sets it is: a bit for each set, the lowest first.

    ``fields`` (k,) are their bits; ``bits`` is (k, n / 8 rounded up) and zero.
    """
    for i in range(len(fields)):
        for k in range(len(sets)):
            bits[i, k >> 3] |= np.uint8((sets[k] & fields[i] != 0) << (k & 7))
