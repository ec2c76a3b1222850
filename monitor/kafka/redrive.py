"""Sends dead letters back to where they came from, each at most once.

The events go to the partition they were in, with their key, so that a user's events stay
together. What makes it happen at most once, whatever is killed when:

1. A re-drive is the one producer with the *transactional id* of the dead-letter topic. When the
   next one begins, the broker aborts what the one before has open and refuses it from then on: two
   never write at a time, and one that was paused cannot wake up and send.
2. Before a batch is sent, each of its letters is *claimed* in the ledger, with the offset that its
   partition had reached (one transaction).
3. The batch and, once the broker has said where the records are, the ledger entries that say so
   are one transaction: a letter was sent if and only if it is entered.
4. Workers read uncommitted records, or an open transaction would hold up detection. So they see
   a batch whose transaction was aborted. Whoever begins next looks for the letters that are claimed
   but not entered, by the header with their origin, from the claimed offset on. Those found are
   entered, the claims of the others are taken back.
5. It need not look for long: the transaction (3) begins with a record to the ledger. If by the
   broker's clock that is more than a minute after the claim, the process was paused, and nothing
   is sent; and the broker itself ends a transaction after half a minute.

A transaction alone (3) would do for readers of committed records; a marker without one can be
lost between the two writes; committed offsets cannot say "these, but not those between them",
which filters and letters that still fail need.
"""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from kafka import KafkaProducer
from kafka.errors import (
    InvalidProducerEpochError,
    KafkaError,
    ProducerFencedError,
)

from monitor.failpoints import Failpoint, no_failpoint
from monitor.kafka.dead_letters import Letter, LetterId, Position
from monitor.kafka.errors import KafkaShellError
from monitor.kafka.log_reader import LogReader
from monitor.kafka.redrive_ledger import (
    Claim,
    Ledger,
    LedgerEntry,
    Sent,
    ledger_key,
    ledger_topic,
    load_ledger,
)
from monitor.kafka.topics import create_topics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from monitor.kafka.log_reader import LogRecord

__all__ = [
    "ATTEMPT_HEADER",
    "BATCH_LETTERS",
    "ORIGIN_HEADER",
    "RECEIVED_HEADER",
    "RedriveError",
    "Redriver",
]

ORIGIN_HEADER: Final = "floodwatch-redriven-from"
RECEIVED_HEADER: Final = "floodwatch-first-received-ms"
ATTEMPT_HEADER: Final = "floodwatch-redrive-attempt"

BATCH_LETTERS: Final = 500
"""Letters in a transaction; up to 32 MB of them at a time."""

_CONNECT_TIMEOUT_MS: Final = 10_000
_TRANSACTION_TIMEOUT_MS: Final = 30_000
_ACKNOWLEDGE_S: Final = 30.0
_CLOSE_S: Final = 5.0
_CLAIM_MS: Final = 60_000
_SETTLE_MS: Final = 600_000
_FENCED: Final = (ProducerFencedError, InvalidProducerEpochError)


class RedriveError(KafkaShellError):
    """A re-drive could not begin or go on. What it had sent is in the ledger, or will be found."""


class Redriver:
    """The one that may drive the letters of a dead-letter topic again. Use as a context manager.

    Entering it makes the ledger if there is none, ends whatever re-drive is under way, and settles
    what that left uncertain: ``settled`` letters were found to be sent. Raises RedriveError,
    LogReadError or TopicsError. ``failpoint`` is for tests, which have the process killed there.
    """

    def __init__(
        self,
        brokers: Sequence[str],
        *,
        source: str,
        dead_letters: str,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self._brokers = tuple(brokers)
        self._source = source
        self._dead_letters = dead_letters
        self._ledger_topic = ledger_topic(dead_letters)
        self._failpoint = failpoint
        self._reader: LogReader | None = None
        self._producer: Any = None
        self.ledger = Ledger()
        self.settled = 0
        self.sent = 0

    def __enter__(self) -> Self:
        self._make_ledger()
        self._reader = LogReader(self._brokers)
        try:
            self._begin()
            # Only now: nothing that another re-drive has under way can be entered after this.
            with LogReader(self._brokers, committed_only=True) as committed:
                self.ledger = load_ledger(committed, self._dead_letters)
            self._settle(tuple(self.ledger.claims.values()))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def send(self, letters: Sequence[Letter]) -> None:
        """Send letters that are whole and not in the ledger; return once the broker has them all.

        At most ``BATCH_LETTERS``, each another record. Raises RedriveError; then some or none of
        them are sent, which the next re-drive finds out.
        """
        assert self._reader is not None, "enter it first"
        assert len({letter.id for letter in letters}) == len(letters) <= BATCH_LETTERS
        ends = self._reader.ends(self._source, {letter.id.partition for letter in letters})
        claims = [self._claim(letter, ends[letter.id.partition]) for letter in letters]
        claimed_ms = self._transact(lambda: self._enter(claims))
        self._failpoint("letters-claimed")
        self._transact(lambda: self._send_and_enter(letters, claims, claimed_ms))
        self._failpoint("letters-entered")
        self.sent += len(letters)

    def _claim(self, letter: Letter, from_offset: int) -> LedgerEntry:
        partition, offset, timestamp_ms = letter.id
        return LedgerEntry(
            partition=partition,
            offset=offset,
            timestamp_ms=timestamp_ms,
            attempt=self.ledger.attempts(letter.id) + 1,
            from_offset=from_offset,
        )

    def _send_and_enter(
        self, letters: Sequence[Letter], claims: Sequence[LedgerEntry], claimed_ms: int
    ) -> int:
        # This opens the transaction: from here on the broker watches the time.
        paused_ms = self._enter(claims[:1]) - claimed_ms
        if paused_ms > _CLAIM_MS:
            raise RedriveError(
                f"the re-drive of {self._dead_letters} was paused for {paused_ms / 1_000:.0f} s "
                f"before a batch, it stopped after {self.sent} letters; run it again"
            )
        places = self._acknowledged(
            self._producer.send(
                self._source,
                value=letter.raw,
                key=letter.key,
                partition=claim.partition,
                headers=_headers(letter, claim.attempt),
            )
            for letter, claim in zip(letters, claims, strict=True)
        )
        self._failpoint("letters-sent")
        return self._enter(
            _entered(claim, place.offset, place.timestamp)
            for claim, place in zip(claims, places, strict=True)
        )

    def _enter(self, entries: Iterable[LedgerEntry]) -> int:
        """Write to the ledger, in the transaction that is open; the broker's time when it had it.

        It is -1 where there are no entries.
        """
        entries = list(entries)
        written = self._acknowledged(
            self._producer.send(
                self._ledger_topic.name,
                key=entry.key,
                value=msgspec.json.encode(entry),
                partition=0,
            )
            for entry in entries
        )
        for entry in entries:
            self.ledger.note(entry, -1)
        return max((place.timestamp for place in written), default=-1)

    # -- what an interrupted re-drive left

    def _settle(self, claims: Sequence[Claim]) -> None:
        """Find out which claimed letters were sent; enter these, take the other claims back."""
        by_partition: dict[int, list[Claim]] = {}
        for claim in claims:
            by_partition.setdefault(claim.entry.partition, []).append(claim)
        found: list[LedgerEntry] = []
        for partition, claimed in by_partition.items():
            found += self._find(partition, claimed)
        sent = {entry.letter for entry in found}
        missing = [claim.entry.letter for claim in claims if claim.entry.letter not in sent]
        if claims:
            self._transact(lambda: self._enter_settled(found, missing))
        self.settled = len(found)

    def _enter_settled(self, found: Sequence[LedgerEntry], missing: Sequence[LetterId]) -> int:
        entered_ms = self._enter(found)
        self._acknowledged(
            self._producer.send(self._ledger_topic.name, key=ledger_key(letter), partition=0)
            for letter in missing
        )
        for letter in missing:
            self.ledger.forget_claim(letter)
        return entered_ms

    def _find(self, partition: int, claims: Sequence[Claim]) -> Iterator[LedgerEntry]:
        """The claimed letters that are in their partition, with the place they have there."""
        assert self._reader is not None, "enter it first"
        if partition not in self._reader.partitions(self._source):
            return
        claimed = {claim.entry.letter: claim.entry for claim in claims}
        # A minute until its transaction, half a minute in it; the rest is for clocks that differ.
        last_ms = max(claim.claimed_ms for claim in claims) + _SETTLE_MS
        start = min(claim.entry.from_offset for claim in claims)
        _, stop = self._reader.bounds(self._source, partition)
        for record in self._reader.read(self._source, partition, start, stop):
            if record.append_time and record.timestamp_ms > last_ms:
                return
            letter = _origin(record)
            claim = None if letter is None else claimed.pop(letter, None)
            if claim is not None:
                yield _entered(claim, record.offset, record.timestamp_ms)
            if not claimed:
                return

    def _make_ledger(self) -> None:
        (status,) = create_topics(self._brokers, [self._ledger_topic])
        if status.differences:
            raise RedriveError(
                f"the ledger {status.name} is not as it must be, or it forgets what was sent: "
                f"{'; '.join(status.differences)}; set that with kafka-configs.sh"
            )

    # -- the producer

    def _begin(self) -> None:
        """Become the one producer: from here on the broker refuses all others."""
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=list(self._brokers),
                client_id="floodwatch-dlq",
                bootstrap_timeout_ms=_CONNECT_TIMEOUT_MS,
                transactional_id=f"floodwatch-redrive-{self._dead_letters}",
                transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
                delivery_timeout_ms=_TRANSACTION_TIMEOUT_MS,
                request_timeout_ms=_TRANSACTION_TIMEOUT_MS // 2,
                max_block_ms=2 * _TRANSACTION_TIMEOUT_MS,
                allow_auto_create_topics=False,
                acks="all",
                linger_ms=5,
            )
            self._producer.init_transactions()
        except KafkaError as error:
            raise RedriveError(
                f"no re-drive of {self._dead_letters} can begin at {', '.join(self._brokers)}: "
                f"{error!r}; may this user write transactions there (the transactional id "
                f"floodwatch-redrive-{self._dead_letters})?"
            ) from error

    def _transact(self, write: Callable[[], int]) -> int:
        """Run ``write`` as one transaction; returns what it does.

        One that fails is left open: the broker ends it after half a minute, and the next re-drive
        at once.
        """
        try:
            self._producer.begin_transaction()
            written = write()
            self._producer.commit_transaction()
        except KafkaError as error:
            raise RedriveError(self._what_failed(error)) from error
        return written

    def _what_failed(self, error: KafkaError) -> str:
        again = "what is sent is known or will be found: running it again sends nothing twice"
        # Whatever is asked of a refused producer afterwards fails without saying why.
        if _is_fenced(error) or _is_fenced(self._producer._transaction_manager.last_error):
            return (
                f"another re-drive of {self._dead_letters} has begun, this one stopped after "
                f"{self.sent} letters; {again}"
            )
        return (
            f"the re-drive of {self._dead_letters} stopped after {self.sent} letters, the broker "
            f"did not take the next ones: {error!r}; {again}"
        )

    @staticmethod
    def _acknowledged(futures: Iterable[Any]) -> list[Any]:
        """The metadata of the records, once the broker has all of them."""
        return [future.get(_ACKNOWLEDGE_S) for future in list(futures)]

    def _close(self) -> None:
        with suppress(KafkaError):  # What is not acknowledged by now was reported.
            if self._producer is not None:
                self._producer.close(timeout=_CLOSE_S)
        if self._reader is not None:
            self._reader.close()


def _headers(letter: Letter, attempt: int) -> list[tuple[str, bytes]]:
    return [
        (ORIGIN_HEADER, str(letter.source).encode()),
        (RECEIVED_HEADER, b"%d" % letter.id.timestamp_ms),
        (ATTEMPT_HEADER, b"%d" % attempt),
    ]


def _origin(record: LogRecord) -> LetterId | None:
    """The letter that was driven again as this record; None if it is another record."""
    headers = dict(record.headers)
    origin, received_ms = headers.get(ORIGIN_HEADER), headers.get(RECEIVED_HEADER)
    if origin is None or received_ms is None:
        return None
    try:
        position = Position.parse(origin.decode())
        return LetterId(position.partition, position.offset, int(received_ms))
    except ValueError:  # Not a header of ours.
        return None


def _entered(claim: LedgerEntry, offset: int, timestamp_ms: int) -> LedgerEntry:
    return msgspec.structs.replace(claim, sent=Sent(offset=offset, timestamp_ms=timestamp_ms))


def _is_fenced(error: BaseException | None) -> bool:
    """Whether the broker refuses this producer because there is another one by now."""
    while error is not None:
        if isinstance(error, _FENCED):
            return True
        error = error.__cause__ or error.__context__
    return False
