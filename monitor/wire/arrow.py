"""Columns in Arrow's memory layout, for Polars to take over without a copy.

The C data interface (https://arrow.apache.org/docs/format/CDataInterface.html) with its PyCapsules,
for one batch of columns. Each C structure holds a reference to the memory of the batch until its
consumer calls ``release``, which may be much later and in any thread.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ArrowBatch", "ArrowColumn"]

_NULLABLE: Final = 2
_NOT_COUNTED: Final = -1
_SCHEMA_NAME: Final = b"arrow_schema"
_ARRAY_NAME: Final = b"arrow_array"

# ``struct ArrowSchema`` and ``struct ArrowArray``. What is no number is an address.
_SCHEMA: Final = np.dtype(
    [
        ("format", "u8"),
        ("name", "u8"),
        ("metadata", "u8"),
        ("flags", "i8"),
        ("n_children", "i8"),
        ("children", "u8"),
        ("dictionary", "u8"),
        ("release", "u8"),
        ("private_data", "u8"),
    ]
)
_ARRAY: Final = np.dtype(
    [
        ("length", "i8"),
        ("null_count", "i8"),
        ("offset", "i8"),
        ("n_buffers", "i8"),
        ("n_children", "i8"),
        ("buffers", "u8"),
        ("children", "u8"),
        ("dictionary", "u8"),
        ("release", "u8"),
        ("private_data", "u8"),
    ]
)

_Callback: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # it takes the GIL
_API: Final = ctypes.pythonapi
_VOID: Final = ctypes.c_void_p
_increase: Final = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", _API))
_decrease: Final = ctypes.PYFUNCTYPE(None, _VOID)(("Py_DecRef", _API))
_new_capsule: Final = ctypes.PYFUNCTYPE(ctypes.py_object, _VOID, ctypes.c_char_p, _Callback)(
    ("PyCapsule_New", _API)
)
_in_capsule: Final = ctypes.PYFUNCTYPE(_VOID, _VOID, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _API)
)
_set_context: Final = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, _VOID)(
    ("PyCapsule_SetContext", _API)
)
_get_context: Final = ctypes.PYFUNCTYPE(_VOID, _VOID)(("PyCapsule_GetContext", _API))


class ArrowColumn(NamedTuple):
    """A column: its Arrow format (``b"l"`` is int64) and the addresses of its buffers.

    The first buffer says which rows are valid, a bit for each, the lowest first; 0: all are.
    """

    name: bytes
    format: bytes
    buffers: Sequence[int]


@dataclass(frozen=True, slots=True)
class ArrowBatch:
    """n rows of columns; ``polars.DataFrame(batch)`` is a frame of them.

    ``memory`` is what the buffers lie in; it is kept for as long as anybody uses them.
    """

    length: int
    columns: Sequence[ArrowColumn]
    memory: object

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """Capsules of the schema, and of the array of structs that the columns are."""
        lent = _Lent(self)
        return (
            lent.capsule(lent.schemas, _SCHEMA_NAME, _drop_schema),
            lent.capsule(lent.arrays, _ARRAY_NAME, _drop_array),
        )


class _Lent:
    """The C structures of a batch: the first of each table, and after it those of its columns.

    It lives as long as a structure is not released, or a capsule is there.
    """

    def __init__(self, batch: ArrowBatch) -> None:
        columns, count = batch.columns, len(batch.columns)
        names = (ctypes.c_char_p * (count + 1))(b"", *(column.name for column in columns))
        formats = (ctypes.c_char_p * (count + 1))(b"+s", *(column.format for column in columns))
        buffers = [(0,), *(column.buffers for column in columns)]
        addresses = np.array([one for some in buffers for one in some], dtype=np.uint64)
        sizes = np.array([len(some) for some in buffers])
        self._kept = [batch, names, formats, addresses]

        self.schemas = np.zeros(count + 1, dtype=_SCHEMA)
        self.schemas["name"] = np.frombuffer(memoryview(names), dtype=np.uint64)
        self.schemas["format"] = np.frombuffer(memoryview(formats), dtype=np.uint64)
        self.schemas["flags"][1:] = _NULLABLE
        self.arrays = np.zeros(count + 1, dtype=_ARRAY)
        self.arrays["length"] = batch.length
        self.arrays["null_count"] = [0, *(_NOT_COUNTED if c.buffers[0] else 0 for c in columns)]
        self.arrays["n_buffers"] = sizes
        starts = (np.cumsum(sizes) - sizes) * addresses.itemsize
        self.arrays["buffers"] = addresses.ctypes.data + starts
        for table, release in ((self.schemas, _release_schema), (self.arrays, _release_array)):
            children = table.ctypes.data + table.itemsize * np.arange(1, count + 1)
            table["n_children"][0], table["children"][0] = count, children.ctypes.data
            table["release"] = ctypes.cast(release, ctypes.c_void_p).value
            table["private_data"] = id(self)
            self._kept.append(children)
            for _ in table:
                _increase(self)

    def capsule(self, table: npt.NDArray[np.void], name: bytes, drop: object) -> object:
        """A capsule with the first structure of a table.

        Whoever moves that out may release it before the capsule goes, so this keeps us as well.
        """
        capsule = _new_capsule(table.ctypes.data, name, drop)
        _increase(self)
        _set_context(capsule, id(self))
        return capsule


def _structures(address: int, dtype: np.dtype[Any], count: int = 1) -> npt.NDArray[Any]:
    """The C structures at an address."""
    memory = (ctypes.c_char * (dtype.itemsize * count)).from_address(address)
    return np.frombuffer(memoryview(memory), dtype=np.uint8).view(dtype)


def _release(address: int, dtype: np.dtype[np.void]) -> None:
    """Give up a structure; those of its columns too, where nobody has moved them elsewhere."""
    [struct] = _structures(address, dtype)
    lent, released = int(struct["private_data"]), 1
    if struct["n_children"]:
        [first] = _structures(int(struct["children"]), np.dtype(np.uint64))
        columns = _structures(int(first), dtype, int(struct["n_children"]))
        released += int(np.count_nonzero(columns["release"]))
        columns["release"] = 0
    struct["release"] = 0
    for _ in range(released):
        _decrease(lent)


def _drop(capsule: int, name: bytes, dtype: np.dtype[np.void]) -> None:
    """Give up a capsule, and what is in it unless somebody took it."""
    address = _in_capsule(capsule, name)
    [struct] = _structures(address, dtype)
    if struct["release"]:
        _release(address, dtype)
    _decrease(_get_context(capsule))


_release_schema: Final = _Callback(lambda address: _release(address, _SCHEMA))
_release_array: Final = _Callback(lambda address: _release(address, _ARRAY))
_drop_schema: Final = _Callback(lambda capsule: _drop(capsule, _SCHEMA_NAME, _SCHEMA))
_drop_array: Final = _Callback(lambda capsule: _drop(capsule, _ARRAY_NAME, _ARRAY))
