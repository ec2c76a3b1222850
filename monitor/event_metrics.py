"""What Prometheus is told that the client library cannot hold: many delays at once, and stalls."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

__all__ = ["DelayHistogram", "PartitionStalls"]

_EVENT_DELAY_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0)


class DelayHistogram(Collector):
    """How long events took from the log to their outputs: a histogram fed by the thousand.

    It counts from the time at which the log received a record, not from the event's own: what a
    phone sends an hour late is not late here. The library's histogram takes one value a call.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lock = threading.Lock()
        self._edges_s = np.array(_EVENT_DELAY_BUCKETS_S)
        self._counts = np.zeros(len(_EVENT_DELAY_BUCKETS_S) + 1, dtype=np.int64)
        self._sum_s = 0.0
        registry.register(self)

    def observe(self, delays_s: NDArray[np.float64]) -> None:
        """Count delays (n,) in seconds; below 0 (clocks differ) is 0."""
        delays_s = np.maximum(delays_s, 0.0)
        places = np.searchsorted(self._edges_s, delays_s, side="left")
        counts = np.bincount(places, minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum_s += float(delays_s.sum())

    def collect(self) -> Iterator[Metric]:
        """The histogram as it stands."""
        with self._lock:
            counts, sum_s = np.cumsum(self._counts).tolist(), self._sum_s
        edges = [*map(str, _EVENT_DELAY_BUCKETS_S), "+Inf"]
        yield HistogramMetricFamily(
            "floodwatch_event_delay_seconds",
            "From when the log received an event until what came of it was acknowledged.",
            buckets=list(zip(edges, counts, strict=True)),
            sum_value=sum_s,
        )


class PartitionStalls(Collector):
    """For each partition of each stage: how long it has stood still with records waiting."""

    def __init__(self, clock: Callable[[], float], registry: CollectorRegistry) -> None:
        self._clock = clock
        self._since_s: dict[str, float] = {}
        self._waiting: defaultdict[str, dict[str, int]] = defaultdict(dict)
        registry.register(self)

    def assigned(self, partition: str) -> None:
        """It is ours from now on."""
        self._since_s[partition] = self._clock()

    def moved(self, partition: str) -> None:
        """Something of it was done."""
        self._since_s[partition] = self._clock()

    def waits(self, partition: str, topic: str, records: int) -> None:
        """So many of its records wait; while none do, it does not stand still."""
        waiting = self._waiting[partition]
        if not any(waiting.values()):
            self._since_s[partition] = self._clock()
        waiting[topic] = records

    def forget(self) -> None:
        """None is ours any more."""
        self._since_s.clear()
        self._waiting.clear()

    def collect(self) -> Iterator[Metric]:
        """A sample for each partition."""
        family = GaugeMetricFamily(
            "floodwatch_partition_stalled_seconds",
            "Seconds since a partition with records waiting last moved; 0 where none wait.",
            labels=["partition"],
        )
        now_s = self._clock()
        for partition, since_s in list(self._since_s.items()):
            waits = any(list(self._waiting[partition].values()))
            family.add_metric([partition], max(0.0, now_s - since_s) if waits else 0.0)
        yield family
