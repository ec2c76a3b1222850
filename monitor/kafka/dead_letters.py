"""Dead letters as one reads them back: where they lie, which of them are meant, one by one."""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from monitor.kafka.dlq import MAX_KEY_BYTES, DeadLetterRecord, decode_dead_letter, raw_bytes
from monitor.kafka.log_reader import LogReader, LogReadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from monitor.kafka.log_reader import LogRecord

__all__ = [
    "EVERY_LETTER",
    "Letter",
    "LetterFilter",
    "LetterId",
    "Position",
    "Unreadable",
    "find_letter",
    "read_letter",
    "read_letters",
]

_POSITION: Final = re.compile(r"(?P<topic>[A-Za-z0-9._-]+)\[(?P<partition>\d+)\]@(?P<offset>\d+)")


class LetterId(NamedTuple):
    """Which record of its source topic a dead letter is about.

    A worker that crashes may write the letter of a record twice: both have this identity. The
    time at which the log received the record tells a topic from its namesake made anew.
    """

    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log, written ``topic[partition]@offset`` as in all messages."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position that ``text`` names. Raises ValueError for anything else."""
        match = _POSITION.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a position such as generation-events[3]@42")
        return cls(match["topic"], int(match["partition"]), int(match["offset"]))

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, where it lies (``at``), and when it was written."""

    at: Position
    written_ms: int
    key: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    record: DeadLetterRecord
    raw: bytes | None

    @property
    def id(self) -> LetterId:
        source = self.record.source
        return LetterId(source.partition, source.offset, source.timestamp_ms)

    @property
    def source(self) -> Position:
        """Where the record was that could not be used."""
        source = self.record.source
        return Position(source.topic, source.partition, source.offset)

    @property
    def key_may_be_cut(self) -> bool:
        """Whether the key is as long as a letter keeps of it at most."""
        return self.key is not None and len(self.key) >= MAX_KEY_BYTES


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record in a dead-letter topic that is no dead letter: not of our making."""

    at: Position
    written_ms: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which letters are meant; None means any.

    ``partition`` is the source's. ``since_ms`` (inclusive) and ``until_ms`` (exclusive) are about
    when the letter was written.
    """

    reasons: frozenset[str] | None = None
    partition: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, letter: Letter) -> bool:
        record = letter.record
        return (
            (self.reasons is None or record.reason in self.reasons)
            and (self.partition is None or record.source.partition == self.partition)
            and self.takes_time(letter.written_ms)
        )

    def takes_time(self, written_ms: int) -> bool:
        return (self.since_ms is None or written_ms >= self.since_ms) and (
            self.until_ms is None or written_ms < self.until_ms
        )


EVERY_LETTER: Final = LetterFilter()

_Entry: TypeAlias = Letter | Unreadable


def read_letters(
    reader: LogReader, topic: str, wanted: LetterFilter = EVERY_LETTER
) -> Iterator[_Entry]:
    """The letters of the dead-letter ``topic`` that are there now, partition by partition.

    None if there is no such topic. What is written meanwhile is not read: it ends. Records that
    are no letters come as ``Unreadable``, unless letters of certain reasons or partitions are
    wanted. Raises LogReadError.
    """
    for partition in reader.partitions(topic):
        start, stop = reader.bounds(topic, partition)
        if wanted.since_ms is not None:
            since = reader.offset_at(topic, partition, wanted.since_ms)
            start = stop if since is None else max(start, since)
        for record in reader.read(topic, partition, start, stop):
            entry = read_letter(record)
            if isinstance(entry, Letter):
                if wanted.takes(entry):
                    yield entry
            elif (
                wanted.reasons is None
                and wanted.partition is None
                and wanted.takes_time(entry.written_ms)
            ):
                yield entry


def read_letter(record: LogRecord) -> _Entry:
    """A record of a dead-letter topic as a letter, or why it is none."""
    at = Position(record.topic, record.partition, record.offset)
    if record.value is None:
        return Unreadable(at, record.timestamp_ms, "a record without a value")
    try:
        letter = decode_dead_letter(record.value)
        raw = raw_bytes(letter)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Base64Error) as error:
        return Unreadable(at, record.timestamp_ms, str(error))
    return Letter(at, record.timestamp_ms, record.key, record.headers, letter, raw)


def find_letter(reader: LogReader, dead_letters: str, position: Position) -> tuple[Letter, int]:
    """The letter at a position, or the newest about the record there; how many more there are.

    Raises LogReadError where there is none.
    """
    if position.topic != dead_letters:
        return _find_about(reader, dead_letters, position)
    if position.partition not in reader.partitions(dead_letters):
        raise LogReadError(f"{position}: there is no such partition")
    first, end = reader.bounds(dead_letters, position.partition)
    start = position.offset
    for record in reader.read(dead_letters, position.partition, start, min(end, start + 1)):
        entry = read_letter(record)
        if isinstance(entry, Unreadable):
            raise LogReadError(f"{position} is no dead letter: {entry.message}")
        return entry, 0
    raise LogReadError(
        f"{position}: no record is there; the partition holds offsets {first} to {end - 1}"
        if first < end
        else f"{position}: no record is there; the partition is empty"
    )


def _find_about(reader: LogReader, dead_letters: str, position: Position) -> tuple[Letter, int]:
    wanted = LetterFilter(partition=position.partition)
    found: Letter | None = None
    count = 0
    for entry in read_letters(reader, dead_letters, wanted):
        if isinstance(entry, Letter) and entry.source == position:
            found, count = entry, count + 1
    if found is None:
        raise LogReadError(
            f"{position}: {dead_letters} has no letter about it; "
            "'floodwatch dlq list --each' shows those that are there"
        )
    return found, count - 1
