"""Records packed into one piece of memory, and texts cut into lines."""

from __future__ import annotations

import pytest

from monitor.wire.letters import MAX_RECORD_BYTES
from monitor.wire.records import PackedRecords, split_lines


def test_records_come_out_as_they_went_in() -> None:
    """Also by slices."""
    values = [b"one", b"", b"three\n", b"4"]
    packed = PackedRecords.of(values)
    assert list(packed) == values
    assert list(packed[1:3]) == values[1:3]
    assert (packed[0], packed[-1], len(packed[1:])) == (b"one", b"4", 3)


def test_what_is_not_to_be_read_takes_no_memory() -> None:
    """A record of a gigabyte is not copied to find that it is too large."""
    packed = PackedRecords.of([None, b"x" * (MAX_RECORD_BYTES + 1), b"x" * MAX_RECORD_BYTES])
    assert [len(record) for record in packed] == [0, 0, MAX_RECORD_BYTES]
    assert len(packed.data) < 2 * MAX_RECORD_BYTES


@pytest.mark.parametrize(
    ("text", "lines", "rest"),
    [
        (b"", [], b""),
        (b"a", [], b"a"),
        (b"a\n", [b"a"], b""),
        (b"a\nbc\nd", [b"a", b"bc"], b"d"),
        (b"\n\na\n \t\n\r\nb\r\n", [b"a", b"b\r"], b""),
        (b" a \n\x0b\n", [b" a "], b""),
    ],
)
def test_lines_are_what_lies_between_new_lines(
    text: bytes, lines: list[bytes], rest: bytes
) -> None:
    """Blank ones are none; what follows the last new line may go on in the next piece."""
    for cut in range(len(text) + 1):
        found, left = split_lines(text[:cut], text[cut:])
        assert (list(found), left) == (lines, rest)
