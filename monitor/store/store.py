"""The store: what detection says, each once however often it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Engine, Table, delete, func, select, tuple_

from monitor.store.engine import open_engine, reading, shown_url, writing
from monitor.store.entries import Entry, EntryKind, as_entries, batch_text
from monitor.store.errors import StoreRejectedError, StoreUnavailableError
from monitor.store.schema import migrate
from monitor.store.statements import Statements
from monitor.store.tables import (
    ACKNOWLEDGEMENTS,
    ALERTS,
    DECISIONS,
    INCIDENT_UPDATES,
    INCIDENTS,
    NOTES,
    OUTPUT_TABLES,
    SNOOZES,
)

if TYPE_CHECKING:
    from detectors.incidents import Output
    from monitor.wire import DeadLetter

__all__ = ["Rejected", "Store", "Written", "wall_clock_ms"]

_TABLES: Final[dict[EntryKind, tuple[Table, ...]]] = {
    "alert": (ALERTS,),
    "incident": (INCIDENT_UPDATES, INCIDENTS),
    "decision": (DECISIONS,),
}
_DAY_MS: Final = 86_400_000
_PRUNED_AT_ONCE: Final = 10_000


def wall_clock_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry that the database refuses, and why."""

    entry: Entry
    reason: str


@dataclass(slots=True)
class Written:
    """How many rows of each table were new or changed, and what was refused."""

    rows: dict[str, int] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)


class Store:
    """Alerts, incidents with their history, and decisions in SQLite or PostgreSQL. A ``Sink``.

    Opening it brings the tables to those of today. ``now_ms`` is the wall clock. May be used by
    several threads and several processes at once.

    Raises:
        StoreError: the database cannot be opened, or its tables are not ours.
    """

    def __init__(
        self,
        url: str,
        *,
        password_file: Path | None = None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.engine: Engine = open_engine(url, password_file=password_file)
        self.url = shown_url(self.engine.url)
        self._now_ms = now_ms
        self._statements = Statements.of(self.engine.dialect.name)
        try:
            migrate(self.engine)
        except BaseException:
            self.engine.dispose()
            raise

    def write(self, outputs: Sequence[Output], dead_letters: Sequence[DeadLetter] = ()) -> None:
        """Store outputs in one transaction. Dead letters are not kept here.

        Raises:
            StoreUnavailableError, StoreRejectedError: nothing was written.
        """
        self.write_entries(as_entries(outputs))

    def write_entries(self, entries: Sequence[Entry]) -> Written:
        """Store entries in one transaction; raises as ``write`` does."""
        written = Written()
        if not entries:
            return written
        # Always in the same order: two that write the same rows wait for each other, and not both.
        by_kind: dict[EntryKind, list[Entry]] = {kind: [] for kind in _TABLES}
        for entry in sorted(entries, key=lambda entry: entry.id):
            by_kind[entry.kind].append(entry)
        stored_ms = self._now_ms()
        with writing(self.engine) as connection:
            for kind, of_kind in by_kind.items():
                text = batch_text(of_kind)
                for table in _TABLES[kind] if of_kind else ():
                    if table is INCIDENTS:
                        text = batch_text(_newest(of_kind))
                    given = {"rows": text, "stored_ms": stored_ms}
                    result = connection.execute(self._statements.by_table[table], given)
                    written.rows[table.name] = result.rowcount
        return written

    def write_each(self, entries: Sequence[Entry]) -> Written:
        """Store what can be stored: what the database refuses is found and left out.

        Raises:
            StoreUnavailableError: part of it may have been written; write all of it again.
        """
        try:
            return self.write_entries(entries)
        except StoreRejectedError as error:
            if len(entries) == 1:
                return Written(rejected=[Rejected(entries[0], str(error))])
        middle = len(entries) // 2
        total = Written()
        for half in (entries[:middle], entries[middle:]):
            part = self.write_each(half)
            total.rejected += part.rejected
            for name, count in part.rows.items():
                total.rows[name] = total.rows.get(name, 0) + count
        return total

    def counts(self) -> dict[str, int]:
        """How many rows each table of detection holds."""
        with reading(self.engine) as connection:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in OUTPUT_TABLES
            }

    def prune(self, before_ms: int) -> dict[str, int]:
        """Remove what was stored before then, by table how much; verdicts and the audit stay.

        An incident goes when its newest update is that old, and with it who was on it and what
        they wrote. Small transactions, so that nobody waits long.
        """
        pruned = {table.name: self._prune(table, before_ms) for table in OUTPUT_TABLES}
        known = select(INCIDENTS.c.incident_id)
        with writing(self.engine) as connection:
            for table in (ACKNOWLEDGEMENTS, NOTES):
                orphans = delete(table).where(
                    table.c.time_ms < before_ms, table.c.incident_id.not_in(known)
                )
                pruned[table.name] = connection.execute(orphans).rowcount
            ended = delete(SNOOZES).where(SNOOZES.c.until_ms < before_ms)
            pruned[SNOOZES.name] = connection.execute(ended).rowcount
        return pruned

    def prune_days(self, days: int) -> dict[str, int]:
        """Remove what has been here for more than ``days``; see ``prune``."""
        return self.prune(self._now_ms() - days * _DAY_MS)

    def ping(self) -> None:
        """Raise StoreUnavailableError unless the database answers."""
        with reading(self.engine) as connection:
            if connection.execute(select(1)).scalar_one() != 1:  # pragma: no cover
                raise StoreUnavailableError(f"store {self.url}: does not answer as it should")

    def close(self) -> None:
        """Close the connections; SQLite then folds its log into the file."""
        self.engine.dispose()

    def _prune(self, table: Table, before_ms: int) -> int:
        keys = tuple(table.primary_key.columns)
        old = select(*keys).where(table.c.stored_ms < before_ms).limit(_PRUNED_AT_ONCE)
        some = delete(table).where(tuple_(*keys).in_(old) if len(keys) > 1 else keys[0].in_(old))
        total = 0
        while True:
            with writing(self.engine) as connection:
                removed = connection.execute(some).rowcount
            total += removed
            if removed < _PRUNED_AT_ONCE:
                return total


def _newest(entries: Sequence[Entry]) -> list[Entry]:
    """The newest update of each incident: one statement must not change a row twice."""
    newest: dict[str, Entry] = {}
    for entry in entries:
        known = newest.get(entry.id)
        if known is None or entry.order > known.order:
            newest[entry.id] = entry
    return list(newest.values())
