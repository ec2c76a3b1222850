"""The source buffer proves that no chunk is missing, and knows where each record came from."""

from __future__ import annotations

import pytest
from faust.types import TP

from monitor.kafka.chunks import Chunk, Columns
from monitor.kafka.source_buffer import Origin, SourceBuffer


def _chunk(offsets: list[int], *, follows: int | None, next_offset: int | None = None) -> Chunk:
    end = offsets[-1] + 1 if next_offset is None else next_offset
    columns = Columns(
        offsets,
        [1_000 + offset for offset in offsets],
        [b"k%d" % offset for offset in offsets],
        [b"v%d" % offset for offset in offsets],
    )
    return Chunk("t", 0, 1, follows, end, columns)


@pytest.fixture
def buffer() -> SourceBuffer:
    return SourceBuffer(TP("t", 0), arrived_s=0.0)


def test_chunks_that_follow_one_another_are_taken_in_order(buffer: SourceBuffer) -> None:
    buffer.receive(_chunk([5, 6], follows=None, next_offset=9), now_s=1.0)
    buffer.receive(_chunk([12, 13], follows=9), now_s=2.0)
    assert (buffer.received_to, buffer.inbox_records, buffer.arrived_s) == (14, 4, 2.0)
    assert [buffer.take().first_offset, buffer.take().first_offset] == [5, 12]
    assert buffer.inbox_records == 0


def test_a_missing_chunk_is_noticed(buffer: SourceBuffer) -> None:
    buffer.receive(_chunk([5, 6], follows=None), now_s=1.0)
    late = _chunk([9], follows=9)
    assert buffer.misses_before(late)
    with pytest.raises(ValueError, match=r"t\[0\]: the chunk follows 9, received was up to 7"):
        buffer.receive(late, now_s=2.0)
    assert buffer.received_to == 7
    missing = _chunk([7, 8], follows=7)
    assert not buffer.misses_before(missing)


def test_a_first_chunk_that_is_missing_is_noticed(buffer: SourceBuffer) -> None:
    assert buffer.misses_before(_chunk([5], follows=5))
    assert not buffer.misses_before(_chunk([5], follows=None))


def test_a_first_chunk_beyond_what_was_restored_is_not_taken(buffer: SourceBuffer) -> None:
    """The consumer may have stood beyond the committed offset when a generation began."""
    buffer.start(5)
    assert not buffer.misses_before(_chunk([4, 5], follows=None))
    assert buffer.misses_before(_chunk([8], follows=None))
    with pytest.raises(ValueError, match="received was up to 5"):
        buffer.receive(_chunk([8], follows=None), now_s=1.0)
    # Read again from there, a chunk says what it follows: then nothing lies between.
    assert not buffer.misses_before(_chunk([8], follows=5))


def test_records_that_came_before_are_left_out(buffer: SourceBuffer) -> None:
    """After a seek to the committed offset a chunk can overlap the last one."""
    buffer.receive(_chunk([5, 6, 7], follows=None), now_s=1.0)
    buffer.receive(_chunk([6, 7, 8], follows=None), now_s=2.0)
    buffer.receive(_chunk([6, 7], follows=None), now_s=3.0)
    assert [chunk.columns.offsets for chunk in buffer.inbox] == [[5, 6, 7], [8]]
    assert buffer.received_to == 9


def test_progress_is_news_once(buffer: SourceBuffer) -> None:
    buffer.receive(_chunk([5, 6, 7], follows=None), now_s=1.0)
    assert not buffer.applied(5), "nothing of it is done yet"
    assert buffer.applied(7)
    assert not buffer.applied(7)
    assert not buffer.applied(6), "progress does not go back"
    assert buffer.applied_to == 7


def test_waits_since_the_oldest_chunk_that_is_not_done(buffer: SourceBuffer) -> None:
    assert buffer.waits_since_s() is None
    buffer.receive(_chunk([5, 6], follows=None), now_s=1.0)
    buffer.receive(_chunk([7], follows=7), now_s=2.0)
    buffer.applied(6)
    assert buffer.waits_since_s() == 1.0
    buffer.applied(7)
    assert buffer.waits_since_s() == 2.0
    buffer.applied(8)
    assert buffer.waits_since_s() is None


def test_the_origin_of_a_waiting_record_is_known(buffer: SourceBuffer) -> None:
    buffer.receive(_chunk([5, 9], follows=None), now_s=1.0)
    buffer.receive(_chunk([10], follows=10), now_s=1.0)
    assert buffer.origin(9) == Origin(1_009, b"k9")
    assert buffer.origin(10) == Origin(1_010, b"k10")
    with pytest.raises(KeyError, match="offset 7"):
        buffer.origin(7)
    buffer.applied(10)
    with pytest.raises(KeyError):
        buffer.origin(9)


def test_when_the_log_received_what_is_done_next_is_told(buffer: SourceBuffer) -> None:
    """From where it stands, below the next offset, over several chunks."""
    buffer.receive(_chunk([5, 6], follows=None, next_offset=9), now_s=1.0)
    buffer.receive(_chunk([12, 13], follows=9), now_s=2.0)
    assert buffer.received_ms(13) == [1_005, 1_006, 1_012]
    buffer.applied(6)
    assert buffer.received_ms(13) == [1_006, 1_012]
    buffer.applied(14)
    assert buffer.received_ms(14) == []
