"""What the store measures of itself, for Prometheus (every name: ``docs/metrics.md``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitor.store.tables import OUTPUT_TABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monitor.store.store import Written

__all__ = ["StoreMetrics"]

_SECONDS_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS_BUCKETS: Final = (1, 10, 50, 100, 500, 1_000, 2_500, 5_000, 10_000, 25_000)


class StoreMetrics:
    """The observer of a ``StoreWriter`` or a ``StoreConsumer``; adds its series to ``registry``."""

    def __init__(self, registry: CollectorRegistry, topics: tuple[str, ...] = ()) -> None:
        self._define_writes(registry)
        self._define_waiting(registry)
        for table in OUTPUT_TABLES:
            self._rows.labels(table.name)
            self._pruned.labels(table.name)
        for topic in topics:
            self._unreadable.labels(topic)

    def wrote(self, written: Written, entries: int, elapsed_s: float) -> None:
        """A batch is in the database."""
        self._up.set(1)
        self._seconds.observe(elapsed_s)
        self._batch.observe(entries)
        self._rejected.inc(len(written.rejected))
        for table, count in written.rows.items():
            self._rows.labels(table).inc(count)

    def failed(self) -> None:
        """The database did not answer."""
        self._up.set(0)
        self._failures.inc()

    def waiting(self, queued: int, spooled: int, spooled_bytes: int) -> None:
        """What waits, in memory and on disk."""
        self._queued.set(queued)
        self._spooled.set(spooled)
        self._spooled_bytes.set(spooled_bytes)

    def dropped(self, count: int) -> None:
        """The spool was full."""
        self._dropped.inc(count)

    def unreadable(self, topic: str) -> None:
        """A message was put aside."""
        self._unreadable.labels(topic).inc()

    def lag(self, topic: str, partition: int, records: int) -> None:
        """How much of a partition is not stored yet."""
        self._lag.labels(topic, str(partition)).set(records)

    def assigned(self, partitions: int) -> None:
        """How many partitions are ours."""
        self._partitions.set(partitions)
        self._lag.clear()

    def pruned(self, rows: Mapping[str, int]) -> None:
        """What was removed for its age."""
        for table, count in rows.items():
            self._pruned.labels(table).inc(count)

    def _define_writes(self, registry: CollectorRegistry) -> None:
        self._rows = Counter(
            "floodwatch_store_rows",
            "Rows that are new or changed in the store.",
            ["table"],
            registry=registry,
        )
        self._seconds = Histogram(
            "floodwatch_store_write_seconds",
            "Time of one write transaction.",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self._batch = Histogram(
            "floodwatch_store_batch_outputs",
            "Outputs of one write transaction.",
            buckets=_ROWS_BUCKETS,
            registry=registry,
        )
        self._up = Gauge(
            "floodwatch_store_up",
            "1 if the database took the last write, 0 if it did not answer.",
            registry=registry,
        )
        self._failures = Counter(
            "floodwatch_store_failures",
            "Writes that the database did not answer; each is tried again.",
            registry=registry,
        )
        self._rejected = Counter(
            "floodwatch_store_rejected",
            "Outputs that the database refuses, which are left out.",
            registry=registry,
        )
        self._unreadable = Counter(
            "floodwatch_store_unreadable_messages",
            "Messages of output topics that are none of our outputs.",
            ["topic"],
            registry=registry,
        )

    def _define_waiting(self, registry: CollectorRegistry) -> None:
        self._queued = Gauge(
            "floodwatch_store_queued_outputs",
            "Outputs that wait in memory to be written.",
            registry=registry,
        )
        self._spooled = Gauge(
            "floodwatch_store_spooled_outputs",
            "Outputs that wait on disk for the database.",
            registry=registry,
        )
        self._spooled_bytes = Gauge(
            "floodwatch_store_spooled_bytes",
            "Size of what waits on disk for the database.",
            registry=registry,
        )
        self._dropped = Counter(
            "floodwatch_store_dropped",
            "Outputs lost to the store because the spool was full.",
            registry=registry,
        )
        self._lag = Gauge(
            "floodwatch_store_lag_records",
            "Messages that are not stored yet.",
            ["topic", "partition"],
            registry=registry,
        )
        self._partitions = Gauge(
            "floodwatch_store_partitions",
            "Partitions of output topics that this process stores.",
            registry=registry,
        )
        self._pruned = Counter(
            "floodwatch_store_pruned_rows",
            "Rows removed for their age.",
            ["table"],
            registry=registry,
        )
