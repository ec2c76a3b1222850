"""Writing off the detection path, in the process that detects."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from monitor.store.entries import Entry, as_entries
from monitor.store.errors import StoreError, StoreUnavailableError
from monitor.store.observer import IgnoringStoreObserver, StoreObserver
from monitor.store.spool import Spool
from monitor.store.store import Store

if TYPE_CHECKING:
    from detectors.incidents import Output
    from monitor.wire import DeadLetter

__all__ = ["Backoff", "StoreWriter", "WriterLimits"]

_log = logging.getLogger(__name__)
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """``batch_outputs`` at most in a transaction, ``queue_outputs`` at most in memory."""

    batch_outputs: int = 5_000
    queue_outputs: int = 50_000


class Backoff:
    """When to try again: after a tenth of a second, then twice as long each time, up to 5 s."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause_s = _FIRST_PAUSE_S
        self._next_s = clock()

    @property
    def remaining_s(self) -> float:
        """How long to wait still."""
        return max(0.0, self._next_s - self._clock())

    def failed(self) -> None:
        """Wait longer."""
        self._next_s = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def succeeded(self) -> None:
        """No more waiting."""
        self._pause_s, self._next_s = _FIRST_PAUSE_S, self._clock()


class StoreWriter:
    """Puts outputs into a store from a thread of its own. A ``Sink`` whose ``write`` never waits.

    Outputs wait in memory; where that is full, or the database is away, on disk in ``spool``, and
    are stored from there later, also by the next process. In whichever order: the store keeps each
    once, and of an incident the newest. Where the spool is full too, the rest is lost to the
    store, counted and said. It closes ``store`` and ``spool`` when it is closed.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool,
        *,
        limits: WriterLimits | None = None,
        observer: StoreObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = store.url
        self.dropped = 0
        self._store = store
        self._spool = spool
        self._limits = limits or WriterLimits()
        self._observer = observer or IgnoringStoreObserver()
        self._clock = clock
        self._backoff = Backoff(clock)
        self._away = False
        self._queue: deque[Entry] = deque()
        self._in_hand: list[Entry] = []
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many outputs are not stored yet, as far as is known."""
        return len(self._queue) + len(self._spool)

    def write(self, outputs: Sequence[Output], dead_letters: Sequence[DeadLetter] = ()) -> None:
        """Take outputs to be stored. Dead letters are not kept here.

        Raises:
            StoreError: writing has ended with an error that waiting does not mend.
        """
        self._raise_error()
        if not outputs:
            return
        assert not self._closing, "closed"
        entries = as_entries(outputs)
        with self._changed:
            fits = len(self._queue) + len(entries) <= self._limits.queue_outputs
            if fits:
                self._queue.extend(entries)
                self._changed.notify()
        if not fits:
            self._put_aside(entries)

    def close(self) -> None:
        """Store what waits; where the database is away, leave it in the spool and say so.

        Raises as ``write`` does.
        """
        with self._changed:
            self._closing = True
            self._backoff.succeeded()  # One more attempt, at once.
            self._changed.notify()
        self._thread.join()
        left = len(self._spool)
        if left:
            _log.error(
                "%s is away: %d outputs wait in %s; the next process with this spool stores them",
                self.url,
                left,
                self._spool.folder,
            )
        self._spool.close()
        self._store.close()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise StoreError(
                f"store {self.url}: writing has ended: {self._error!r}"
            ) from self._error

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - whatever it is, write and close raise it
            _log.exception("the store is no longer written")
            self._error = error
            self._put_aside([*self._in_hand, *self._queue])

    def _work(self) -> None:
        while True:
            batch = self._in_hand = self._next_batch()
            if batch and not self._stored(batch):
                self._put_aside(batch)
            self._in_hand = []
            if not batch or not self._away:
                self._drain_one()
            self._tell()
            done = self._closing and not self._queue
            if done and (self._away or not len(self._spool)):
                return

    def _next_batch(self) -> list[Entry]:
        """Wait for something to do; what is to be stored next, which may be only in the spool."""
        with self._changed:
            if not self._queue and not self._closing:
                spooled = len(self._spool) > 0
                self._changed.wait(self._backoff.remaining_s if spooled else None)
            count = min(len(self._queue), self._limits.batch_outputs)
            return [self._queue.popleft() for _ in range(count)]

    def _stored(self, batch: Sequence[Entry]) -> bool:
        """Store a batch, unless the database is away and it is too early to try again."""
        if self._away and self._backoff.remaining_s > 0:
            return False
        started_s = self._clock()
        try:
            written = self._store.write_each(batch)
        except StoreUnavailableError as error:
            self._observer.failed()
            if not self._away:
                _log.warning("%s; what comes meanwhile waits in %s", error, self._spool.folder)
            self._away = True
            self._backoff.failed()
            return False
        if self._away:
            _log.info("%s is back", self.url)
        self._away = False
        self._backoff.succeeded()
        for rejected in written.rejected:
            _log.error("not stored: %s: %s", rejected.reason, rejected.entry.data)
        self._observer.wrote(written, len(batch), self._clock() - started_s)
        return True

    def _drain_one(self) -> None:
        """Store a segment of the spool, if there is one and the database answers."""
        segment = self._spool.oldest()
        if segment is not None and self._stored(self._spool.read(segment)):
            self._spool.remove(segment)

    def _put_aside(self, entries: Sequence[Entry]) -> None:
        try:
            kept = self._spool.append(entries)
            reason = "is full"
        except OSError as error:
            kept, reason = 0, f"cannot be written: {error}"
        lost = len(entries) - kept
        if lost:
            if not self.dropped:
                _log.error("the spool %s %s: outputs are lost", self._spool.folder, reason)
            self.dropped += lost
            self._observer.dropped(lost)
        with self._changed:
            self._changed.notify()

    def _tell(self) -> None:
        self._observer.waiting(len(self._queue), len(self._spool), self._spool.size_bytes)
