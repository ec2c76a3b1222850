"""What the pager measures of itself, for Prometheus (every name: ``docs/metrics.md``)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["PagerMetrics"]


class PagerMetrics:
    """The observer of a ``Pager``; adds its series to ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sent = Counter(
            "floodwatch_pages_sent",
            "Pages that Alertmanager was told of: that they fire (again), or are over.",
            ["state"],
            registry=registry,
        )
        self._failures = Counter(
            "floodwatch_paging_failures",
            "Looks of the pager at which the store or every Alertmanager did not answer.",
            registry=registry,
        )
        self._firing = Gauge("floodwatch_pages_firing", "Pages that fire now.", registry=registry)
        self._left_out = Gauge(
            "floodwatch_pages_left_out",
            "Open incidents beyond the pager's bound, of which nobody is told.",
            registry=registry,
        )
        for state in ("firing", "resolved"):
            self._sent.labels(state)

    def paged(self, firing: int, resolved: int) -> None:
        """Alertmanager took so many that fire, and that are over."""
        self._sent.labels("firing").inc(firing)
        self._sent.labels("resolved").inc(resolved)

    def paging_failed(self) -> None:
        """Alertmanager or the store did not answer."""
        self._failures.inc()

    def pages(self, firing: int, left_out: int) -> None:
        """So many fire now; so many incidents were beyond the bound."""
        self._firing.set(firing)
        self._left_out.set(left_out)
