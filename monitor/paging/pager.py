"""The pager: compares what is open in the store with what Alertmanager was told."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, Protocol

from monitor.paging.alertmanager import AlertmanagerError
from monitor.paging.open_incidents import open_incidents
from monitor.paging.pages import pages_of
from monitor.store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine

    from detectors.pack import Severity
    from monitor.paging.alertmanager import Alertmanager
    from monitor.paging.open_incidents import OpenIncident
    from monitor.paging.pages import Links, Page

__all__ = ["Pager", "PagerObserver"]

_log = logging.getLogger(__name__)

_LASTS: Final = 4  # refreshes: as Prometheus does it
_MOST: Final = 1_000
"""Incidents that are looked at, the gravest; those beyond are counted, and nobody is told."""


class PagerObserver(Protocol):
    """Counts what the pager does."""

    def paged(self, firing: int, resolved: int) -> None:
        """Alertmanager took so many that fire, and that are over."""
        ...

    def paging_failed(self) -> None:
        """Alertmanager or the store did not answer."""
        ...

    def pages(self, firing: int, left_out: int) -> None:
        """So many fire now; so many incidents were beyond the bound."""
        ...


class Pager:
    """Tells Alertmanager of incidents that are open: at once, every ``refresh_s``, when they end.

    It keeps nothing: a page that it does not repeat (it was stopped, it lost the store) ends by
    itself after four refreshes, and one that was told before a restart is the same afterwards.
    """

    def __init__(
        self,
        engine: Engine,
        alertmanager: Alertmanager,
        observer: PagerObserver,
        *,
        severities: Sequence[Severity],
        links: Links,
        refresh_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._alertmanager = alertmanager
        self._observer = observer
        self._severities = tuple(severities)
        self._links = links
        self._refresh_ms = round(1_000 * refresh_s)
        self._now_ms = now_ms
        self._told: dict[tuple[tuple[str, str], ...], tuple[Page, int]] = {}
        self._bare: set[str] = set()

    def run(self, stop: threading.Event, interval_s: float) -> None:
        """Look every ``interval_s`` until ``stop`` is set."""
        failing = False
        while not stop.wait(interval_s):
            try:
                self.look()
            except (AlertmanagerError, StoreError) as error:
                self._observer.paging_failed()
                if not failing:
                    _log.error("paging does not work; it is tried again all the time: %s", error)
                failing = True
            else:
                if failing:
                    _log.warning("paging works again")
                failing = False

    def look(self) -> None:
        """Tell what is new, what is due again and what is over.

        Raises:
            StoreError: it is not known what is open; what was told goes on until it ends.
            AlertmanagerError: nobody was told; the next look tries again.
        """
        now_ms = self._now_ms()
        incidents, count = open_incidents(self._engine, self._severities, now_ms, _MOST)
        pages = {page.identity: page for page in pages_of(self._whole(incidents), self._links)}
        self._observer.pages(len(pages), count - len(incidents))
        firing = [page for page in pages.values() if self._is_due(page, now_ms)]
        over = [page for identity, (page, _) in self._told.items() if identity not in pages]
        if firing or over:
            ends_ms = now_ms + _LASTS * self._refresh_ms
            told = [*((page, ends_ms) for page in firing), *((page, now_ms) for page in over)]
            self._alertmanager.post(told)
            self._told |= {page.identity: (page, now_ms) for page in firing}
            for page in over:
                del self._told[page.identity]
            self._observer.paged(len(firing), len(over))

    def _whole(self, incidents: Sequence[OpenIncident]) -> list[OpenIncident]:
        """Without those whose alert is still on its way; each is waited for once."""
        bare = {incident.incident_id for incident in incidents if not incident.record}
        waited, self._bare = self._bare, bare
        return [
            incident for incident in incidents if incident.record or incident.incident_id in waited
        ]

    def _is_due(self, page: Page, now_ms: int) -> bool:
        """Whether it is new, says something new, or was told long enough ago."""
        told, told_ms = self._told.get(page.identity, (None, 0))
        return told != page or now_ms - told_ms >= self._refresh_ms
