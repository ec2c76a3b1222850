"""The wire schema compiled into the tables of the kernel.

All of it follows from the structs of ``monitor.wire.schema`` and from ``Column.path``: which
fields there are in which objects, of what kind, and which column a value goes into.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import inspect

from detectors.events import COLUMNS_BY_NAME, EVENT_TYPES, SCHEMA_VERSION
from monitor.wire.checks import BODIES, harmless_range
from monitor.wire.kernel import name_slot
from monitor.wire.letters import MAX_RECORD_BYTES
from monitor.wire.schema import Event
from monitor.wire.tables import (
    CODE,
    FIELD,
    FLOAT,
    INTEGER,
    MAX_NAME_BYTES,
    NOTHING,
    OBJECT,
    ROOT_FIELD,
    SLOTS,
    TEXT,
    TEXTS,
    TRUTH,
    TYPE_NAMES,
    UNKNOWN,
    UNKNOWN_FIELD,
    VERSION,
    Tables,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["STAND_INS", "WireField", "compile_tables", "wire_fields"]

_KINDS: Final[dict[type[inspect.Type], int]] = {
    inspect.StrType: TEXT,
    inspect.IntType: INTEGER,
    inspect.FloatType: FLOAT,
    inspect.BoolType: TRUTH,
    inspect.StructType: OBJECT,
    inspect.ListType: TEXTS,
}
_SPECIAL_KINDS: Final = {"type": CODE, "schema_version": VERSION}

STAND_INS: Final = {"share.asset_id": "feedback.asset_id"}
"""Where a column is read when there is nothing at its own path: feedback may name a video too."""


@dataclass(slots=True)
class WireField:
    """A field of the schema, in the field ``parent``.

    ``number`` is that of its bit; ``place`` is that of its column among texts, numbers or truths.
    """

    path: str
    parent: WireField | None
    kind: int
    nullable: bool = False
    required: bool = False
    default: object = None
    number: int = 0
    place: int = NOTHING
    least: float = -math.inf
    most: float = math.inf

    @property
    def bit(self) -> int:
        return 1 << self.number


def wire_fields(names: Collection[str]) -> dict[str, WireField]:
    """The fields of the schema by path; those of the columns ``names`` have places and ranges."""
    root = WireField("", None, OBJECT)
    event = inspect.type_info(Event)
    assert isinstance(event, inspect.StructType)
    fields = [root, *_fields(event, root)]
    assert len(fields) <= UNKNOWN, "a set of fields has no more bits"
    columns = {COLUMNS_BY_NAME[name].path: name for name in names}
    columns |= {STAND_INS[path]: name for path, name in columns.items() if path in STAND_INS}
    places = {TEXT: 0, TRUTH: 0, INTEGER: 0}
    for number, field in enumerate(fields):
        field.number = number
        field.kind = _SPECIAL_KINDS.get(field.path, field.kind)
        if field.path in columns:
            field.least, field.most = harmless_range(columns[field.path])
            alike = field.kind if field.kind in places else INTEGER
            field.place = places[alike]
            places[alike] += 1
    return {field.path: field for field in fields}


def _fields(struct: inspect.StructType, parent: WireField) -> Iterator[WireField]:
    """The fields of a struct, each followed by those in it."""
    prefix = f"{parent.path}." if parent.path else ""
    for item in struct.fields:
        found, nullable = _plain_type(item.type)
        default = None if item.default is msgspec.NODEFAULT else item.default
        path, kind = prefix + item.encode_name, _KINDS[type(found)]
        field = WireField(path, parent, kind, nullable, item.required, default)
        yield field
        if isinstance(found, inspect.StructType):
            yield from _fields(found, field)
        elif isinstance(found, inspect.ListType):
            yield WireField(f"{path}[0]", field, _KINDS[type(found.item_type)])


def _plain_type(found: inspect.Type) -> tuple[inspect.Type, bool]:
    """A type without annotations and null; whether it could be null."""
    if isinstance(found, inspect.Metadata):
        return _plain_type(found.type)
    if isinstance(found, inspect.UnionType):
        [some] = [option for option in found.types if not isinstance(option, inspect.NoneType)]
        return _plain_type(some)[0], True
    return found, False


def compile_tables(fields: Collection[WireField]) -> Tables:
    """The tables of the fields of ``wire_fields``."""
    rows = np.zeros(SLOTS + 2 + len(fields), dtype=FIELD)
    rows["owner"] = rows["element"] = rows["place"] = NOTHING
    unknown = rows[UNKNOWN_FIELD]
    unknown["nullable"], unknown["child"], unknown["element"] = True, UNKNOWN, UNKNOWN_FIELD
    required = np.zeros(64, dtype=np.uint64)
    slots: dict[int, int] = {}
    for field in fields:
        if field.parent is None:
            slot = ROOT_FIELD
        elif field.parent.kind == TEXTS:
            slot = ROOT_FIELD + field.number
            rows[slots[field.parent.number]]["element"] = slot
        else:
            slot = _take_slot(rows, field.path.rpartition(".")[2], field.parent.number)
            if field.required:
                required[field.parent.number] |= np.uint64(field.bit)
        slots[field.number] = slot
        row = rows[slot]
        row["kind"], row["nullable"], row["child"] = field.kind, field.nullable, field.number
        row["place"], row["bit"], row["code"] = field.place, field.bit, SCHEMA_VERSION
        row["least"], row["most"] = field.least, field.most
    bodies = np.zeros(len(EVENT_TYPES), dtype=np.uint64)
    by_path = {field.path: field for field in fields}
    for code, name in enumerate(EVENT_TYPES):
        rows[_take_slot(rows, name, TYPE_NAMES)]["code"] = code
        [body] = [column for types, column in BODIES if name in types]
        bodies[code] = by_path[COLUMNS_BY_NAME[body].path].bit
    return Tables(rows, required, bodies, by_path["type"].place, MAX_RECORD_BYTES)


def _take_slot(rows: npt.NDArray[np.void], name: str, owner: int) -> int:
    """Enter a name into the hash table."""
    data = name.encode()
    words = _words(data)
    slot = name_slot(words[0], len(data), owner)
    while rows[slot]["name_bytes"]:
        slot = (slot + 1) % SLOTS
    row = rows[slot]
    row["name"], row["name_mask"] = words, _words(b"\xff" * len(data))
    row["name_bytes"], row["owner"] = len(data), owner
    return slot


def _words(data: bytes) -> npt.NDArray[np.uint64]:
    """Bytes as the words of a name, zero bytes after their end."""
    assert len(data) <= MAX_NAME_BYTES, f"{data!r} is too long for a name"
    return np.frombuffer(data.ljust(MAX_NAME_BYTES, b"\0"), dtype="<u8")
