"""Chunks: cutting fetched columns, and what is left of one after an offset."""

from __future__ import annotations

from monitor.kafka.chunks import Chunk, Columns, PartitionPosition, split_columns


def _columns(offsets: list[int]) -> Columns:
    return Columns(
        offsets,
        [1_000 + offset for offset in offsets],
        [b"k%d" % offset for offset in offsets],
        [b"v%d" % offset for offset in offsets],
    )


def _split(offsets: list[int], *, max_records: int, next_offset: int) -> list[Chunk]:
    return list(
        split_columns(
            _columns(offsets),
            topic="t",
            partition=3,
            generation=7,
            follows=2,
            next_offset=next_offset,
            max_records=max_records,
        )
    )


def test_chunks_are_bounded_and_follow_one_another() -> None:
    """Gaps in the offsets are inside; the end is where the fetch ended, beyond the last record."""
    chunks = _split([2, 3, 7, 8, 9], max_records=2, next_offset=12)
    assert [chunk.columns.offsets for chunk in chunks] == [[2, 3], [7, 8], [9]]
    assert [chunk.follows for chunk in chunks] == [2, 4, 9]
    assert [chunk.next_offset for chunk in chunks] == [4, 9, 12]
    assert {(chunk.topic, chunk.partition, chunk.generation) for chunk in chunks} == {("t", 3, 7)}
    assert [chunk.columns.values[0] for chunk in chunks] == [b"v2", b"v7", b"v9"]


def test_a_fetch_that_fits_is_not_copied() -> None:
    columns = _columns([5, 6])
    assert columns.part(0, 2) is columns


def test_the_part_from_an_offset_keeps_the_columns_together() -> None:
    (chunk,) = _split([2, 3, 7, 8], max_records=10, next_offset=9)
    part = chunk.from_offset(4)
    assert part is not None
    assert part.columns == _columns([7, 8])
    assert (part.follows, part.next_offset) == (chunk.follows, chunk.next_offset)
    assert chunk.from_offset(2) is chunk
    assert chunk.from_offset(9) is None


def test_caught_up_only_once_the_broker_has_told_the_end() -> None:
    assert not PartitionPosition(0, None).caught_up
    assert not PartitionPosition(4, 5).caught_up
    assert PartitionPosition(5, 5).caught_up
