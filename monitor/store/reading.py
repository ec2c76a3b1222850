"""What people ask the store: which incidents there are, and all that is known of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, Select, and_, func, select

from detectors.pack import SEVERITIES
from monitor.store.engine import reading
from monitor.store.errors import UnknownIncidentError
from monitor.store.store import wall_clock_ms
from monitor.store.tables import (
    ACKNOWLEDGEMENTS,
    ALERTS,
    DECISIONS,
    INCIDENT_UPDATES,
    INCIDENTS,
    NOTES,
    SNOOZES,
    VERDICTS,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from detectors.pack import Severity

__all__ = ["LATEST", "Dossier", "IncidentFilter", "IncidentPage", "Incidents", "Record"]

Record = Mapping[str, Any]
"""A row, by column."""

LATEST: Final = "latest"
"""The name of the incident with the newest finding."""

_ALERTS_SHOWN: Final = 10
_ROWS_SHOWN: Final = 50
_CANDIDATES_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentFilter:
    """Which incidents to list; what is not given does not matter.

    ``severity`` is the least one; ``since_ms`` looks at the newest finding. ``key`` is one key, in
    any key space. Snoozed ones are left out of a list of open ones, and counted.
    """

    open_only: bool = False
    severity: Severity | None = None
    rule_id: str | None = None
    key: str | None = None
    since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class IncidentPage:
    """Incidents, newest finding first: the columns of ``incidents`` and those beside.

    ``acknowledged_by``, ``verdict`` and ``snoozed_until_ms`` may be None. ``total`` counts all that
    match, ``snoozed`` those left out for being snoozed.
    """

    incidents: list[Record]
    total: int
    snoozed: int


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that is known of an incident. Alerts are the newest, whole; rows are oldest first."""

    incident: Record
    alerts: list[Record]
    alerts_stored: int
    history: list[Record]
    decisions: list[Record]
    verdicts: list[Record]
    acknowledged: Record | None
    snooze: Record | None
    notes: list[Record]
    earlier: int  # other incidents of the same rule and key


class Incidents:
    """Questions to the store. They raise StoreUnavailableError where it does not answer."""

    def __init__(self, engine: Engine, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._engine = engine
        self._now_ms = now_ms

    def resolve(self, name: str) -> str:
        """The whole id for an id, its unambiguous beginning, or ``latest``.

        Raises:
            UnknownIncidentError: nothing or several begin so.
        """
        column = INCIDENTS.c.incident_id
        if name == LATEST:
            newest = INCIDENTS.c.last_finding_ms.desc()
            query = select(column).order_by(newest, column).limit(1)
        else:
            beginning = name if name.startswith("inc_") else f"inc_{name}"
            matching = column.startswith(beginning, autoescape=True)
            query = select(column).where(matching).order_by(column).limit(_CANDIDATES_SHOWN + 1)
        with reading(self._engine) as connection:
            found: list[str] = list(connection.scalars(query))
        if name in found:
            return name
        if len(found) == 1:
            return found[0]
        if not found:
            what = (
                "there is none yet" if name == LATEST else "'floodwatch incidents list' says which"
            )
            raise UnknownIncidentError(f"there is no incident {name!r}; {what} there are")
        candidates = ", ".join(found[:_CANDIDATES_SHOWN])
        more = " and more" if len(found) > _CANDIDATES_SHOWN else ""
        raise UnknownIncidentError(f"{name!r} may be {candidates}{more}; say more of the id")

    def page(self, wanted: IncidentFilter, limit: int) -> IncidentPage:
        """The newest ``limit`` incidents that match."""
        now_ms = self._now_ms()
        query = _overview(now_ms)
        for condition in _conditions(wanted):
            query = query.where(condition)
        is_snoozed = SNOOZES.c.until_ms.is_not(None)
        shown = query.where(~is_snoozed) if wanted.open_only else query
        newest = INCIDENTS.c.last_finding_ms.desc(), INCIDENTS.c.incident_id
        with reading(self._engine) as connection:
            rows = _records(connection, shown.order_by(*newest).limit(limit))
            total = _count(connection, shown)
            snoozed = _count(connection, query.where(is_snoozed)) if wanted.open_only else 0
        return IncidentPage(rows, total, snoozed)

    def dossier(self, incident_id: str) -> Dossier:
        """All that is known of one incident. Raises UnknownIncidentError."""

        def of(table: Table, order: str = "time_ms") -> Select[Any]:
            return (
                select(table)
                .where(table.c.incident_id == incident_id)
                .order_by(table.c[order].desc())
                .limit(_ROWS_SHOWN)
            )

        alerts = select(ALERTS.c.record).where(ALERTS.c.incident_id == incident_id)
        newest = alerts.order_by(ALERTS.c.time_ms.desc(), ALERTS.c.alert_id).limit(_ALERTS_SHOWN)
        alert_ids = select(ALERTS.c.alert_id).where(ALERTS.c.incident_id == incident_id)
        decided = (
            select(DECISIONS)
            .where(DECISIONS.c.alert_id.in_(alert_ids))
            .order_by(DECISIONS.c.time_ms.desc())
            .limit(_ROWS_SHOWN)
        )
        with reading(self._engine) as connection:
            incidents = _records(connection, of(INCIDENTS))
            if not incidents:
                raise UnknownIncidentError(f"there is no incident {incident_id!r}")
            (incident,) = incidents
            same = and_(*(INCIDENTS.c[n] == incident[n] for n in ("rule_id", "key_space", "key")))
            snoozes = and_(*(SNOOZES.c[n] == incident[n] for n in ("rule_id", "key_space", "key")))
            acknowledged = _records(connection, of(ACKNOWLEDGEMENTS))
            snooze = _records(
                connection,
                select(SNOOZES).where(snoozes, SNOOZES.c.until_ms > self._now_ms()),
            )
            return Dossier(
                incident=incident,
                alerts=list(connection.scalars(newest)),
                alerts_stored=_count(connection, alerts),
                history=_records(connection, of(INCIDENT_UPDATES))[::-1],
                decisions=_records(connection, decided)[::-1],
                verdicts=_records(connection, of(VERDICTS))[::-1],
                acknowledged=acknowledged[0] if acknowledged else None,
                snooze=snooze[0] if snooze else None,
                notes=_records(connection, of(NOTES))[::-1],
                earlier=_count(connection, select(INCIDENTS.c.incident_id).where(same)) - 1,
            )


def _overview(now_ms: int) -> Select[Any]:
    """Incidents with who is on them, the newest verdict, and until when they are snoozed."""
    verdict = (
        select(VERDICTS.c.verdict)
        .where(VERDICTS.c.incident_id == INCIDENTS.c.incident_id)
        .order_by(VERDICTS.c.time_ms.desc())
        .limit(1)
        .scalar_subquery()
    )
    same = and_(
        SNOOZES.c.rule_id == INCIDENTS.c.rule_id,
        SNOOZES.c.key_space == INCIDENTS.c.key_space,
        SNOOZES.c.key == INCIDENTS.c.key,
        SNOOZES.c.until_ms > now_ms,
    )
    acknowledged = ACKNOWLEDGEMENTS.c.incident_id == INCIDENTS.c.incident_id
    return (
        select(
            INCIDENTS,
            ACKNOWLEDGEMENTS.c.author.label("acknowledged_by"),
            verdict.label("verdict"),
            SNOOZES.c.until_ms.label("snoozed_until_ms"),
        )
        .outerjoin(ACKNOWLEDGEMENTS, acknowledged)
        .outerjoin(SNOOZES, same)
    )


def _conditions(wanted: IncidentFilter) -> list[Any]:
    conditions: list[Any] = []
    if wanted.open_only:
        conditions.append(INCIDENTS.c.state != "closed")
    if wanted.severity is not None:
        enough = SEVERITIES[SEVERITIES.index(wanted.severity) :]
        conditions.append(INCIDENTS.c.severity.in_(enough))
    if wanted.rule_id is not None:
        conditions.append(INCIDENTS.c.rule_id == wanted.rule_id)
    if wanted.key is not None:
        conditions.append(INCIDENTS.c.key == wanted.key)
    if wanted.since_ms is not None:
        conditions.append(INCIDENTS.c.last_finding_ms >= wanted.since_ms)
    return conditions


def _records(connection: Connection, query: Select[Any]) -> list[Record]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _count(connection: Connection, query: Select[Any]) -> int:
    return connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
