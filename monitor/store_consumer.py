"""From the output topics into the store, as a consumer group of its own.

The topics are the spool: offsets are committed only when the database has what is before them, so
while it is away nothing is read and nothing is lost. Whatever is read twice (after a crash, or when
partitions change hands) is stored once. And a commit is true whoever makes it: all that is below
the offset is stored, no matter whose partition it is by now.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from monitor.cloudevents import ALERT_TYPE, DECISION_TYPE, INCIDENT_TYPE
from monitor.kafka.errors import KafkaShellError
from monitor.store.entries import Entry, EntryKind, read_entry
from monitor.store.errors import StoreUnavailableError
from monitor.store.writer import Backoff

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monitor.store.observer import StoreObserver
    from monitor.store.store import Store

__all__ = ["StoreConsumer", "StoreConsumerSettings", "UnreadableError", "read_message"]

_log = logging.getLogger(__name__)
_POLL_MS: Final = 200
_CONNECT_TIMEOUT_MS: Final = 10_000
_COMMIT_TIMEOUT_MS: Final = 10_000
_PAUSE_S: Final = 0.2
_METADATA_MS: Final = 30_000
_FETCH_BYTES: Final = 16 * 1024 * 1024
_PARTITION_FETCH_BYTES: Final = 4 * 1024 * 1024
_LOOK_EVERY_S: Final = 5.0
_PRUNE_EVERY_S: Final = 3_600.0
_KINDS: Final[Mapping[str, EntryKind]] = {
    ALERT_TYPE: "alert",
    INCIDENT_TYPE: "incident",
    DECISION_TYPE: "decision",
}


class UnreadableError(ValueError):
    """A message that is none of our outputs."""


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    type: str
    data: msgspec.Raw


def read_message(value: bytes | None) -> Entry:
    """The output in a message of an output topic. Raises UnreadableError."""
    if value is None:
        raise UnreadableError("no value")
    try:
        envelope = msgspec.json.decode(value, type=_Envelope)
        kind = _KINDS.get(envelope.type)
        if kind is None:
            raise UnreadableError(f"its type is {envelope.type!r}")
        return read_entry(kind, envelope.data)
    except msgspec.MsgspecError as error:
        raise UnreadableError(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConsumerSettings:
    """What is read, by whom. ``retention_days`` 0 keeps everything."""

    brokers: Sequence[str]
    group: str
    topics: Sequence[str]
    batch_outputs: int = 5_000
    retention_days: int = 0
    session_timeout_s: float = 10.0


class StoreConsumer:
    """Stores what is published until ``stop`` is set; made, run and closed in one thread.

    ``beat`` is called each time round. Raises KafkaShellError where no broker answers.
    """

    def __init__(
        self,
        settings: StoreConsumerSettings,
        store: Store,
        observer: StoreObserver,
        stop: threading.Event,
        *,
        beat: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._observer = observer
        self._beat = beat
        self._clock = clock
        self._backoff = Backoff(clock)
        self._stop = stop
        self._away = ""
        self._partitions = 0
        self._stored: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._look_s = clock()
        self._prune_s = clock()
        try:
            self._consumer: Any = KafkaConsumer(
                bootstrap_servers=list(settings.brokers),
                client_id="floodwatch-store",
                group_id=settings.group,
                bootstrap_timeout_ms=_CONNECT_TIMEOUT_MS,
                session_timeout_ms=round(settings.session_timeout_s * 1_000),
                heartbeat_interval_ms=round(settings.session_timeout_s * 300),
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                auto_offset_reset="earliest",
                metadata_max_age_ms=_METADATA_MS,
                fetch_max_bytes=_FETCH_BYTES,
                max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
                max_poll_records=settings.batch_outputs,
            )
            # The leader of a group gives away only partitions that it knows of by then.
            for topic in settings.topics:
                self._consumer.partitions_for_topic(topic)
            self._consumer.subscribe(list(settings.topics), listener=_Listener(self._assigned))
        except (KafkaError, OSError, ValueError) as error:
            raise KafkaShellError(
                f"no Kafka broker answers at {', '.join(settings.brokers)}: {error}; is it running?"
            ) from error

    @property
    def not_ready(self) -> str:
        """Why outputs are not being stored; empty when they are. From any thread."""
        return self._away or ("" if self._partitions else "partitions are not assigned yet")

    def run(self) -> None:
        """Read, store, commit, until ``stop``; then leave the group.

        What is in hand when it ends while the database is away is not committed: it is read again.
        """
        try:
            while not self._stop.is_set():
                self._beat()
                batch = self._poll()
                if batch and self._store_all(list(self._read(batch))):
                    self._note_stored(batch)
                    self._commit()
                self._now_and_then()
        finally:
            try:
                self._consumer.close(autocommit=False)
            except KafkaError as error:  # The group notices by itself.
                _log.warning("leaving the group failed: %r", error)

    def _poll(self) -> list[Any]:
        try:
            polled = self._consumer.poll(timeout_ms=_POLL_MS)
        except KafkaError as error:
            _log.warning("reading failed, trying again: %r", error)
            self._stop.wait(_PAUSE_S)
            return []
        for at, records in polled.items():
            self._stored.setdefault(at, records[0].offset)
        return [record for records in polled.values() for record in records]

    def _read(self, records: Iterable[Any]) -> Iterator[Entry]:
        for record in records:
            try:
                yield read_message(record.value)
            except UnreadableError as error:
                self._observer.unreadable(record.topic)
                place = f"{record.topic}[{record.partition}]@{record.offset}"
                _log.error("%s is none of our outputs and is not stored: %s", place, error)

    def _store_all(self, entries: Sequence[Entry]) -> bool:
        """Try until the database has them; False if we are to stop before that.

        Meanwhile nothing is read. After five minutes without reading the group goes on without us;
        then what is in hand is read again, by us or another.
        """
        while True:
            started_s = self._clock()
            try:
                written = self._store.write_each(entries)
            except StoreUnavailableError as error:
                self._database_failed(error)
            else:
                self._database_answered()
                for rejected in written.rejected:
                    _log.error("not stored: %s: %s", rejected.reason, rejected.entry.data)
                self._observer.wrote(written, len(entries), self._clock() - started_s)
                return True
            while self._backoff.remaining_s > 0:
                self._beat()
                if self._stop.wait(min(self._backoff.remaining_s, _PAUSE_S)):
                    return False
                self._tell_lag_when_due()

    def _note_stored(self, records: Iterable[Any]) -> None:
        for record in records:
            self._stored[TopicPartition(record.topic, record.partition)] = record.offset + 1

    def _commit(self) -> None:
        """Commit what is stored; what fails now is committed with the next batch."""
        ours = self._consumer.assignment()
        offsets = {
            at: OffsetAndMetadata(offset, "", -1)
            for at, offset in self._stored.items()
            if at in ours and self._committed.get(at) != offset
        }
        if not offsets:
            return
        try:
            self._consumer.commit(offsets, timeout_ms=_COMMIT_TIMEOUT_MS)
        except KafkaError as error:
            _log.warning("committing failed, to be done with the next batch: %r", error)
        else:
            self._committed.update({at: entry.offset for at, entry in offsets.items()})

    def _assigned(self) -> None:
        """The group has settled: other partitions may be ours, and all are read from the commit."""
        self._stored.clear()
        self._committed.clear()
        self._partitions = len(self._consumer.assignment())
        self._observer.assigned(self._partitions)

    def _now_and_then(self) -> None:
        """Tell the lag, see whether an idle database is there, remove what is old."""
        if self._tell_lag_when_due():
            try:
                self._store.ping()
            except StoreUnavailableError as error:
                self._database_failed(error)
            else:
                self._database_answered()
        if self._settings.retention_days and self._clock() >= self._prune_s and not self._away:
            self._prune_s = self._clock() + _PRUNE_EVERY_S
            try:
                pruned = self._store.prune_days(self._settings.retention_days)
            except StoreUnavailableError as error:
                self._database_failed(error)
            else:
                self._observer.pruned(pruned)

    def _tell_lag_when_due(self) -> bool:
        if self._clock() < self._look_s:
            return False
        self._look_s = self._clock() + _LOOK_EVERY_S
        ours = list(self._consumer.assignment())
        try:
            ends = self._consumer.end_offsets(ours, timeout_ms=_COMMIT_TIMEOUT_MS) if ours else {}
            for at, end in ends.items():
                reached = self._stored.get(at)
                if reached is None:
                    reached = self._consumer.position(at, timeout_ms=_POLL_MS)
                if reached is not None:
                    self._observer.lag(at.topic, at.partition, max(0, end - reached))
        except KafkaError as error:
            _log.warning("the lag cannot be told: %r", error)
        return True

    def _database_failed(self, error: StoreUnavailableError) -> None:
        self._observer.failed()
        if not self._away:
            _log.warning("%s; reading waits for it", error)
        self._away = str(error)
        self._backoff.failed()

    def _database_answered(self) -> None:
        if self._away:
            _log.info("%s answers again", self._store.url)
        self._away = ""
        self._backoff.succeeded()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # kafka-python has no types
    """Told by the consumer, from within ``poll``."""

    def __init__(self, assigned: Callable[[], None]) -> None:
        self._settled = assigned

    def on_partitions_revoked(self, revoked: object) -> None:
        """Nothing is to be done: what is in hand is stored before the next poll."""

    def on_partitions_assigned(self, assigned: object) -> None:
        self._settled()
