"""Reading aiokafka's batches as columns gives what aiokafka's own reader gives."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from monitor.kafka.chunks import Columns
from monitor.kafka.columnar_fetch import ColumnarRecords, install

_PARTITION = TopicPartition("t", 0)
_GZIP = 1


def _batch(
    base_offset: int,
    values: list[bytes | None],
    *,
    compression: int = 0,
    last_offset_delta: int | None = None,
) -> bytes:
    """A batch as a broker stores it; the builder starts at offset 0, the broker moves it."""
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 20)
    for number, value in enumerate(values):
        assert builder.append(number, 1_000 + number, b"k", value, [("h", b"1")]) is not None
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base_offset)
    if last_offset_delta is not None:  # compaction removed the records at the end
        struct.pack_into(">i", data, 23, last_offset_delta)
    return bytes(data)


def _records(
    data: bytes, *, start: int = 0, check_crcs: bool = True, isolation: int = 0
) -> PartitionRecords:
    return PartitionRecords(
        _PARTITION, MemoryRecords(data), [], start, None, None, check_crcs, isolation
    )


def _columns(records: ColumnarRecords) -> Columns:
    found = list(records)
    assert len(found) <= 1
    return found[0] if found else Columns()


_DATA = _batch(10, [b"a", None, b"c"]) + _batch(20, [b"d" * 100, b""], compression=_GZIP)


@pytest.mark.parametrize("isolation", [0, 1])
@pytest.mark.parametrize("start", [0, 10, 11, 20, 21, 22])
def test_columns_equal_aiokafkas_records(start: int, isolation: int) -> None:
    """Wherever reading starts: in the middle of a compressed batch too."""
    stock = _records(_DATA, start=start)
    expected = [(r.offset, r.timestamp, r.key, r.value) for r in stock]
    ours = ColumnarRecords(_records(_DATA, start=start, isolation=isolation))
    columns = _columns(ours)
    rows = zip(columns.offsets, columns.timestamps_ms, columns.keys, columns.values, strict=True)
    assert list(rows) == expected
    assert ours.next_fetch_offset == stock.next_fetch_offset


def test_the_next_fetch_starts_after_records_that_compaction_removed() -> None:
    data = _batch(10, [b"a", b"b"], last_offset_delta=9)
    ours = ColumnarRecords(_records(data, check_crcs=False))
    assert _columns(ours).offsets == [10, 11]
    assert ours.next_fetch_offset == 20


def test_a_corrupt_batch_is_refused() -> None:
    data = bytearray(_DATA)
    data[70] ^= 0xFF
    with pytest.raises(CorruptRecordException, match="t"):
        list(ColumnarRecords(_records(bytes(data))))


class _Fetcher:
    def __init__(self) -> None:
        self._records: Any = {}


def _result(partition: TopicPartition) -> FetchResult:
    return FetchResult(partition, assignment=None, partition_records=_records(_DATA), backoff=0.0)


def test_only_the_chosen_partitions_are_read_as_columns() -> None:
    fetcher, other = _Fetcher(), TopicPartition("changelog", 0)
    install(fetcher, lambda partition: partition.topic == "t")
    for partition in (_PARTITION, other):
        fetcher._records[partition] = _result(partition)
    assert isinstance(fetcher._records[_PARTITION]._partition_records, ColumnarRecords)
    assert isinstance(fetcher._records[other]._partition_records, PartitionRecords)


def test_installing_late_is_refused() -> None:
    """What is fetched already would come as single records."""
    fetcher = _Fetcher()
    fetcher._records[_PARTITION] = _result(_PARTITION)
    with pytest.raises(ValueError, match="before subscribing"):
        install(fetcher, lambda _: True)
