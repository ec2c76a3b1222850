"""Records of a chunk, packed into one piece of memory for the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, overload

import numpy as np

from monitor.wire.kernel import PADDING
from monitor.wire.letters import MAX_RECORD_BYTES

if TYPE_CHECKING:
    import numpy.typing as npt

    Int64s = npt.NDArray[np.int64]

__all__ = ["PackedRecords", "split_lines"]

_END: Final = b"\n"
_NEW_LINE, _SPACE = b"\n "


class PackedRecords(Sequence[bytes]):
    """n records in ``data``: where each starts and ends.

    After each comes a new line, and ``PADDING`` more bytes after the last one.
    """

    def __init__(self, data: bytes, starts: Int64s, ends: Int64s) -> None:
        assert not len(ends) or int(ends.max()) + PADDING <= len(data)
        self.data = data
        self.starts = starts
        self.ends = ends

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> PackedRecords:
        """Pack records. What is no record or too large to be read is left out (length 0)."""
        records = [value or b"" for value in values]
        lengths = np.fromiter(map(len, records), dtype=np.int64, count=len(records))
        if len(lengths) and lengths.max() > MAX_RECORD_BYTES:
            records = [record if len(record) <= MAX_RECORD_BYTES else b"" for record in records]
            lengths[lengths > MAX_RECORD_BYTES] = 0
        ends = np.cumsum(lengths + len(_END)) - len(_END)
        return cls(_END.join([*records, _END * PADDING]), ends - lengths, ends)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> PackedRecords: ...
    def __getitem__(self, index: int | slice) -> bytes | PackedRecords:
        if isinstance(index, slice):
            return PackedRecords(self.data, self.starts[index], self.ends[index])
        return self.data[self.starts[index] : self.ends[index]]


def split_lines(*pieces: bytes) -> tuple[PackedRecords, bytes]:
    """The lines of a text in pieces as records, without blank ones; what follows the last of them.

    The text is copied once, to join it; the records lie in it.
    """
    text = b"".join((*pieces, _END * PADDING))
    data = np.frombuffer(text, dtype=np.uint8)[:-PADDING]
    ends = np.flatnonzero(data == _NEW_LINE)
    starts = np.concatenate(([0], ends + 1))
    rest = text[starts[-1] : len(data)]
    starts = starts[:-1]
    # A line that does not begin with a visible character may be blank.
    visible = data[starts] > _SPACE
    for line in np.flatnonzero(~visible).tolist():
        visible[line] = bool(text[starts[line] : ends[line]].strip())
    return PackedRecords(text, starts[visible], ends[visible]), rest
