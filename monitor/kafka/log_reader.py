"""Reading a range of a topic's partition from a command: no group, nothing committed."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from monitor.kafka.errors import KafkaShellError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["LogReadError", "LogReader", "LogRecord"]

_CONNECT_TIMEOUT_MS: Final = 10_000
_SILENCE_S: Final = 30.0
_POLL_MS: Final = 500
_FETCH_BYTES: Final = 4 * 1024 * 1024
_LOG_APPEND_TIME: Final = 1


class LogReadError(KafkaShellError):
    """A topic could not be read."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record of a log.

    ``timestamp_ms`` is -1 where it has none; ``append_time`` says whether the broker set it.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    append_time: bool
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class LogReader:
    """Reads partitions one after the other, holding one fetch (4 MiB) at a time.

    ``committed_only`` leaves out what belongs to a transaction that was aborted, and stops before
    one that is open. Use as a context manager. Every method raises LogReadError when the broker
    does not answer.
    """

    def __init__(self, brokers: Sequence[str], *, committed_only: bool = False) -> None:
        self._brokers = ", ".join(brokers)
        try:
            self._consumer: Any = KafkaConsumer(
                bootstrap_servers=list(brokers),
                client_id="floodwatch-dlq",
                bootstrap_timeout_ms=_CONNECT_TIMEOUT_MS,
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                # What retention removes while we read is gone: go on after it.
                auto_offset_reset="earliest",
                isolation_level="read_committed" if committed_only else "read_uncommitted",
                fetch_max_bytes=_FETCH_BYTES,
                max_partition_fetch_bytes=_FETCH_BYTES,
                max_poll_records=1_000,
            )
        except (KafkaError, OSError, ValueError) as error:
            raise LogReadError(
                f"no Kafka broker answers at {self._brokers}: {error}; is it running?"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the broker."""
        with suppress(KafkaError):  # Nothing is committed: there is nothing to lose.
            self._consumer.close()

    def partitions(self, topic: str) -> list[int]:
        """The partition numbers of ``topic``; empty if there is no such topic."""
        try:
            return sorted(self._consumer.partitions_for_topic(topic))
        except KafkaError as error:
            raise self._failed(f"the partitions of {topic}", error) from error

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is still there, and the next one to be written."""
        at = TopicPartition(topic, partition)
        try:
            first = int(self._consumer.beginning_offsets([at])[at])
            return first, int(self._consumer.end_offsets([at])[at])
        except KafkaError as error:
            raise self._failed(f"the offsets of {topic}[{partition}]", error) from error

    def ends(self, topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        """The next offset to be written of each of ``partitions``."""
        places = [TopicPartition(topic, partition) for partition in partitions]
        try:
            found = self._consumer.end_offsets(places)
        except KafkaError as error:
            raise self._failed(f"the offsets of {topic}", error) from error
        return {at.partition: int(offset) for at, offset in found.items()}

    def offset_at(self, topic: str, partition: int, time_ms: int) -> int | None:
        """The first offset with a time at or after ``time_ms``; None if there is none."""
        at = TopicPartition(topic, partition)
        try:
            found = self._consumer.offsets_for_times({at: time_ms})[at]
        except KafkaError as error:
            raise self._failed(f"the times of {topic}[{partition}]", error) from error
        return None if found is None else int(found.offset)

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[LogRecord]:
        """The records from offset ``start`` to ``stop``, without the latter.

        One read at a time: the next one ends it.
        """
        if start >= stop:
            return
        at = TopicPartition(topic, partition)
        last_s = time.monotonic()
        try:
            self._consumer.assign([at])
            self._consumer.seek(at, start)
            position = start
            while position < stop:
                for record in self._consumer.poll(timeout_ms=_POLL_MS).get(at, ()):
                    if record.offset >= stop:
                        return
                    yield _log_record(record)
                # Not the last record's offset: markers and compacted records come after it.
                now_s, reached = time.monotonic(), self._consumer.position(at, timeout_ms=_POLL_MS)
                if reached is not None and reached > position:
                    position, last_s = reached, now_s
                elif now_s - last_s > _SILENCE_S:
                    raise LogReadError(
                        f"{topic}[{partition}]: nothing came after offset {position} for "
                        f"{_SILENCE_S:g} s from {self._brokers}; does the partition have a leader?"
                    )
        except KafkaError as error:
            raise self._failed(f"{topic}[{partition}]", error) from error

    def _failed(self, what: str, error: KafkaError) -> LogReadError:
        return LogReadError(f"{what} cannot be read from {self._brokers}: {error!r}")


def _log_record(record: Any) -> LogRecord:
    return LogRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=-1 if record.timestamp is None else record.timestamp,
        append_time=record.timestamp_type == _LOG_APPEND_TIME,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers or ()),
    )
