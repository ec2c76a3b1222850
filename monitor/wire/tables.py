"""How the wire schema is laid out for the kernel: made by ``plan``, read by ``kernel``."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "ANYTHING",
    "ARRAY",
    "CODE",
    "FIELD",
    "FLOAT",
    "INTEGER",
    "MAX_NAME_BYTES",
    "NOTHING",
    "OBJECT",
    "ROOT_FIELD",
    "SLOTS",
    "TEXT",
    "TEXTS",
    "TRUTH",
    "TYPE_NAMES",
    "UNKNOWN",
    "UNKNOWN_FIELD",
    "VERSION",
    "Tables",
]

ANYTHING, TEXT, INTEGER, FLOAT, TRUTH, OBJECT, TEXTS, CODE, VERSION = range(9)
"""What a field holds. CODE: the type of the event, which is read as its number. ANYTHING: it is no
field of ours."""

SLOTS: Final = 256
"""Fields are kept in a hash table of their names with so many slots; a field is its slot."""
UNKNOWN_FIELD, ROOT_FIELD = SLOTS, SLOTS + 1
"""The next ones have no name: what we do not know; the event; and what lists consist of."""
NOTHING: Final = -1

UNKNOWN, ARRAY, TYPE_NAMES = 61, 62, 63
"""An object has the number of the field that holds it, but for: one that we do not know; a list,
whose members have no names; and one whose "fields" are the types of events, to look them up."""

MAX_NAME_BYTES: Final = 24
FIELD: Final = np.dtype(
    [
        ("name", "u8", MAX_NAME_BYTES // 8),  # zero bytes after its end
        ("name_mask", "u8", MAX_NAME_BYTES // 8),  # all bits of the bytes that it has
        ("name_bytes", "i8"),  # 0 in a free slot
        ("owner", "i8"),  # the object that it is in; NOTHING in a free slot
        ("kind", "i8"),
        ("nullable", "?"),
        ("child", "i8"),  # the object that it holds
        ("element", "i8"),  # the field that a list in it consists of, or NOTHING
        ("place", "i8"),  # which column of texts or numbers it goes into, or NOTHING
        ("code", "i8"),  # the number of a type, or the version that there must be
        ("bit", "u8"),  # stands for it in sets of fields
        ("least", "f8"),  # a number must not be below this, nor a text shorter (in bytes)
        ("most", "f8"),  # nor above, nor longer
    ],
    align=True,
)
"""What is known of a field."""


class Tables(NamedTuple):
    """The schema. A set of fields is a word with a bit for each."""

    fields: npt.NDArray[np.void]  # (SLOTS and more,) of FIELD
    required: npt.NDArray[np.uint64]  # (64,) for each object the fields that must be in it
    bodies: npt.NDArray[np.uint64]  # (types,) for each type of event the fields of its body
    type_place: int
    max_bytes: int  # of a record
