"""The ledger: which dead letters were driven again, where they are now, which are uncertain.

It is a compacted topic beside the dead letters, with one record for each letter: first a *claim*
(it is about to be sent, and can be found at or after an offset), then the place where it was sent
to. ``monitor.kafka.redrive`` says why this makes a re-drive happen at most once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from monitor.kafka.dead_letters import LetterId
from monitor.kafka.letter_map import LetterMap
from monitor.kafka.log_reader import LogReader, LogReadError
from monitor.kafka.topics import TopicSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from monitor.kafka.log_reader import LogRecord

__all__ = [
    "LEDGER_SUFFIX",
    "REMEMBERED_MS",
    "Claim",
    "Ledger",
    "LedgerEntry",
    "LedgerNote",
    "Sent",
    "Trace",
    "ledger_key",
    "ledger_topic",
    "load_ledger",
    "read_ledger",
    "trace_letter",
]

LEDGER_SUFFIX: Final = "-redriven"

_DAY_MS: Final = 86_400_000
_RETENTION_MS: Final = 90 * _DAY_MS

REMEMBERED_MS: Final = 60 * _DAY_MS
"""A letter older than this is not driven again: the ledger may have forgotten it.

An entry is younger than its letter, so it outlives this by a month, enough for clocks and for
the broker's habit of deleting whole segments. The dead letters themselves stay two weeks.
"""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """Where a letter is now, in the partition it came from."""

    offset: int
    timestamp_ms: int


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a ledger record. The letter's identity is also its key.

    ``attempt`` counts the re-drives of the event, this one included. The record that was driven
    again cannot be before ``from_offset``. ``sent`` is None while it is a claim.
    """

    partition: int
    offset: int
    timestamp_ms: int
    attempt: int
    from_offset: int
    sent: Sent | None = None

    @property
    def letter(self) -> LetterId:
        return LetterId(self.partition, self.offset, self.timestamp_ms)

    @property
    def arrived(self) -> LetterId | None:
        """What a letter would be called that is about the record that was sent."""
        if self.sent is None:
            return None
        return LetterId(self.partition, self.sent.offset, self.sent.timestamp_ms)

    @property
    def key(self) -> bytes:
        """The key of the ledger record, by which the topic is compacted."""
        return ledger_key(self.letter)


class Claim(NamedTuple):
    """An entry that does not say where the letter is, and when the broker received it."""

    entry: LedgerEntry
    claimed_ms: int


class LedgerNote(NamedTuple):
    """A record of the ledger; ``entry`` is None where a claim came to nothing."""

    letter: LetterId
    entry: LedgerEntry | None
    time_ms: int


class Trace(NamedTuple):
    """``redriven``: the letter was sent again, or is claimed. ``came_from``: its record was."""

    redriven: LedgerNote | None
    came_from: LedgerNote | None


class Ledger:
    """What the ledger of one dead-letter topic says."""

    def __init__(self) -> None:
        self._redriven = LetterMap()
        self._arrived = LetterMap()
        self.claims: dict[LetterId, Claim] = {}
        """Letters of re-drives that were interrupted: sent or not. Never more than a batch each."""

    def is_redriven(self, letter: LetterId) -> bool:
        """Whether it was sent again."""
        return letter in self._redriven

    def attempts(self, letter: LetterId) -> int:
        """How often the event of this letter had been driven again when it was refused."""
        return self._arrived.get(letter) or 0

    def note(self, entry: LedgerEntry, time_ms: int) -> None:
        """Take an entry that is in the topic since ``time_ms``."""
        arrived = entry.arrived
        if arrived is None:
            self.claims[entry.letter] = Claim(entry, time_ms)
            return
        self.claims.pop(entry.letter, None)
        self._redriven[entry.letter] = entry.attempt
        self._arrived[arrived] = entry.attempt

    def forget_claim(self, letter: LetterId) -> None:
        """It was not sent after all."""
        self.claims.pop(letter, None)


def ledger_key(letter: LetterId) -> bytes:
    """The key of a letter's record."""
    return f"{letter.partition}/{letter.offset}/{letter.timestamp_ms}".encode()


def ledger_topic(dead_letters: str) -> TopicSpec:
    """The ledger of a dead-letter topic, as it should be.

    The broker's time tells when something was claimed, whatever the clocks of the clients say.
    """
    return TopicSpec(
        dead_letters + LEDGER_SUFFIX,
        1,
        {
            "cleanup.policy": "compact,delete",
            "retention.ms": str(_RETENTION_MS),
            "message.timestamp.type": "LogAppendTime",
        },
    )


def load_ledger(reader: LogReader, dead_letters: str) -> Ledger:
    """Read the ledger of a dead-letter topic; empty where nothing was ever driven again.

    ``reader`` must read committed records only. Raises LogReadError.
    """
    ledger = Ledger()
    for note in read_ledger(reader, dead_letters):
        if note.entry is None:
            ledger.forget_claim(note.letter)
        else:
            ledger.note(note.entry, note.time_ms)
    return ledger


def read_ledger(reader: LogReader, dead_letters: str) -> Iterator[LedgerNote]:
    """The ledger's records as they were written; none where there is no ledger.

    Raises LogReadError, also for a record that is not ours: going on could send a letter twice.
    """
    topic = dead_letters + LEDGER_SUFFIX
    for partition in reader.partitions(topic):
        start, stop = reader.bounds(topic, partition)
        for record in reader.read(topic, partition, start, stop):
            yield _note(record)


def trace_letter(reader: LogReader, dead_letters: str, letter: LetterId) -> Trace:
    """What the ledger says of one letter. Raises LogReadError as ``read_ledger`` does."""
    redriven: LedgerNote | None = None
    came_from: LedgerNote | None = None
    for note in read_ledger(reader, dead_letters):
        if note.letter == letter:
            redriven = note if note.entry is not None else None
        elif note.entry is not None and note.entry.arrived == letter:
            came_from = note
    return Trace(redriven, came_from)


def _note(record: LogRecord) -> LedgerNote:
    try:
        partition, offset, timestamp_ms = (record.key or b"").split(b"/")
        letter = LetterId(int(partition), int(offset), int(timestamp_ms))
        entry = record.value and msgspec.json.decode(record.value, type=LedgerEntry)
        if entry and entry.letter != letter:
            raise ValueError(f"its value is about {entry.letter}")  # noqa: TRY301 - one message
    except (ValueError, msgspec.MsgspecError) as error:
        raise LogReadError(
            f"{record.topic}[{record.partition}]@{record.offset} is no entry of a ledger of "
            f"re-drives ({error}); only floodwatch may write there: see who else does, and remove "
            "the record (kafka-delete-records.sh) once it is clear what it stood for"
        ) from error
    return LedgerNote(letter, entry or None, record.timestamp_ms)
