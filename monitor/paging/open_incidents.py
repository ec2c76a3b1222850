"""What is open in the store and should wake somebody, with the newest alert of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Row, Select, case, func, select

from detectors.pack import CAMPAIGN_SPACE, SEVERITIES
from monitor.store.engine import reading
from monitor.store.tables import ALERTS, INCIDENTS, SNOOZES, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from detectors.pack import Severity

__all__ = ["OpenIncident", "open_incidents"]

_BENIGN: Final = "benign"


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """An incident that is open, and its newest alert (``record``, empty while it is on its way)."""

    incident_id: str
    rule_id: str
    title: str
    severity: str
    key_space: str
    key: str
    opened_ms: int
    summary: str
    record: dict[str, Any]


def open_incidents(
    engine: Engine, severities: Sequence[Severity], now_ms: int, limit: int
) -> tuple[list[OpenIncident], int]:
    """The ``limit`` gravest open incidents of these severities, and how many there are in all.

    Of the same severity campaigns come first, then those that were opened first: what was told
    stays told.

    Left out are those of rules in shadow, those that are snoozed, and those that somebody found to
    be benign.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    with reading(engine) as connection:
        rows = connection.execute(_query(severities, now_ms, limit)).all()
    return [_incident(row) for row in rows], rows[0].total if rows else 0


def _query(severities: Sequence[Severity], now_ms: int, limit: int) -> Select[Any]:
    snoozed = select(SNOOZES.c.key).where(
        SNOOZES.c.rule_id == INCIDENTS.c.rule_id,
        SNOOZES.c.key_space == INCIDENTS.c.key_space,
        SNOOZES.c.key == INCIDENTS.c.key,
        SNOOZES.c.until_ms > now_ms,
    )
    newest_verdict = (
        select(VERDICTS.c.verdict)
        .where(VERDICTS.c.incident_id == INCIDENTS.c.incident_id)
        .order_by(VERDICTS.c.time_ms.desc(), VERDICTS.c.verdict_id)
        .limit(1)
        .scalar_subquery()
    )
    wanted = (
        INCIDENTS.c.state != "closed",
        INCIDENTS.c.mode == "live",
        INCIDENTS.c.severity.in_(severities),
        ~snoozed.exists(),
        func.coalesce(newest_verdict, "") != _BENIGN,
    )
    grave = case(
        {name: number for number, name in enumerate(SEVERITIES)}, value=INCIDENTS.c.severity
    )
    alone = case((INCIDENTS.c.key_space == CAMPAIGN_SPACE, 0), else_=1)
    order = (grave.desc(), alone, INCIDENTS.c.opened_ms, INCIDENTS.c.incident_id)
    chosen = (
        select(
            INCIDENTS,
            func.count().over().label("total"),
            func.row_number().over(order_by=order).label("place"),
        )
        .where(*wanted)
        .order_by(*order)
        .limit(limit)
        .subquery()
    )
    other = ALERTS.alias()
    newest_alert = (
        select(other.c.alert_id)
        .where(other.c.incident_id == chosen.c.incident_id)
        .order_by(other.c.time_ms.desc(), other.c.alert_id)
        .limit(1)
        .correlate(chosen)
        .scalar_subquery()
    )
    return (
        select(chosen, ALERTS.c.summary, ALERTS.c.record)
        .select_from(chosen.outerjoin(ALERTS, ALERTS.c.alert_id == newest_alert))
        .order_by(chosen.c.place)
    )


def _incident(row: Row[Any]) -> OpenIncident:
    return OpenIncident(
        row.incident_id,
        row.rule_id,
        row.title,
        row.severity,
        row.key_space,
        row.key,
        row.opened_ms,
        row.summary or row.title,
        row.record or {},
    )
