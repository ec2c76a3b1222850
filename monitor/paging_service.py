"""The pager beside the store service, as the settings say."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from detectors.pack import SEVERITIES
from monitor.paging import Alertmanager, Links, Pager, PagerMetrics
from monitor.store.store import wall_clock_ms

if TYPE_CHECKING:
    import threading

    from prometheus_client import CollectorRegistry

    from monitor.config import PagingSettings
    from monitor.store.store import Store

__all__ = ["paging"]

_log = logging.getLogger(__name__)


@contextmanager
def paging(
    settings: PagingSettings, store: Store, registry: CollectorRegistry, stop: threading.Event
) -> Iterator[None]:
    """Page until ``stop`` is set, if there is an Alertmanager; sets ``stop`` should it end before.

    Raises at the end what ended it.
    """
    if not settings.alertmanagers:
        yield
        return
    pager = Pager(
        store.engine,
        Alertmanager(settings.alertmanagers.split(",")),
        PagerMetrics(registry),
        severities=SEVERITIES[SEVERITIES.index(settings.severity) :],
        links=Links(settings.runbooks, settings.dashboard),
        refresh_s=settings.refresh_s,
        now_ms=wall_clock_ms,
    )
    _log.info("paging from severity %s on by %s", settings.severity, settings.alertmanagers)

    def ended(_: Future[None]) -> None:
        stop.set()

    with ThreadPoolExecutor(1, "pager") as executor:
        running = executor.submit(pager.run, stop, settings.interval_s)
        running.add_done_callback(ended)
        try:
            yield
        finally:
            stop.set()
        running.result()
