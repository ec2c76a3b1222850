"""Columns handed to Polars without a copy: their memory lives as long as it is used, not longer."""

from __future__ import annotations

import gc
import weakref
from typing import Final

import numpy as np
import polars as pl

from monitor.wire.arrow import ArrowBatch, ArrowColumn

ROWS: Final = 10
FLOATS: Final = [float(row) / 4 for row in range(ROWS)]


class Memory:
    """What the buffers of a batch lie in; its end can be watched."""

    def __init__(self) -> None:
        self.floats = np.array(FLOATS)
        self.valid = np.array([0b1111_1011, 0b11], dtype=np.uint8)
        self.data = np.frombuffer(b"a text that is long", dtype=np.uint8)
        self.data_bytes = np.array([len(self.data)])
        self.texts = np.zeros((ROWS, 16), dtype=np.uint8)
        self.texts[:, :8] = np.frombuffer(b"\x13\0\0\0a te", dtype=np.uint8)  # 19 bytes, its first

    def batch(self) -> ArrowBatch:
        valid, floats, texts, data, data_bytes = (
            array.ctypes.data
            for array in (self.valid, self.floats, self.texts, self.data, self.data_bytes)
        )
        columns = [
            ArrowColumn(b"all", b"g", (0, floats)),
            ArrowColumn(b"some", b"g", (valid, floats)),
            ArrowColumn(b"text", b"vu", (valid, texts, data, data_bytes)),
        ]
        return ArrowBatch(ROWS, columns, self)


def lend() -> tuple[pl.DataFrame, weakref.ref[Memory]]:
    memory = Memory()
    return pl.DataFrame(memory.batch()), weakref.ref(memory)


def test_polars_reads_the_columns() -> None:
    """Where a bit is not set there is no value."""
    frame, _ = lend()
    assert frame.schema == {"all": pl.Float64, "some": pl.Float64, "text": pl.String}
    assert frame["all"].to_list() == FLOATS
    assert frame["some"].to_list() == [*FLOATS[:2], None, *FLOATS[3:]]
    assert frame["text"].to_list() == [
        None if row == 2 else "a text that is long" for row in range(10)
    ]


def test_memory_is_kept_for_what_is_left_of_a_frame() -> None:
    """A slice of one column is enough."""
    frame, memory = lend()
    part = frame["text"][1:2]
    del frame
    gc.collect()
    assert memory() is not None
    assert part.to_list() == ["a text that is long"]


def test_memory_goes_with_the_last_user() -> None:
    """Not with the interpreter: a worker reads for weeks."""
    frame, memory = lend()
    part = frame.filter(pl.col("all") > 1)["text"]
    del frame, part
    gc.collect()
    assert memory() is None


def test_what_nobody_takes_is_given_back() -> None:
    """A consumer may fail between asking for the capsules and taking what is in them."""
    memory = Memory()
    capsules = memory.batch().__arrow_c_array__()
    alive = weakref.ref(memory)
    del memory
    gc.collect()
    assert alive() is not None
    del capsules
    gc.collect()
    assert alive() is None


def test_a_batch_can_be_taken_more_than_once() -> None:
    """Each time with structures of its own."""
    memory = Memory()
    batch, alive = memory.batch(), weakref.ref(memory)
    frames = [pl.DataFrame(batch) for _ in range(3)]
    del memory, batch, frames[0]
    gc.collect()
    assert alive() is not None
    assert frames[0].equals(frames[1])
    frames.clear()
    gc.collect()
    assert alive() is None
