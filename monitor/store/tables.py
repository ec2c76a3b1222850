"""The tables. What is searched for is a column; the whole record is kept beside it as JSON.

Times are milliseconds since the Unix epoch (event time), as everywhere.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, MetaData, String, Table, Text

__all__ = ["ALERTS", "DECISIONS", "INCIDENTS", "METADATA"]

METADATA: Final = MetaData()

ALERTS: Final = Table(
    "alerts",
    METADATA,
    Column("alert_id", String(40), primary_key=True),
    Column("incident_id", String(40), nullable=False),
    Column("rule_id", String(128), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("key_space", String(32), nullable=False),
    Column("key", String(256), nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("summary", Text, nullable=False),
    Column("record", JSON, nullable=False),
    Index("alerts_by_time", "time_ms"),
    Index("alerts_by_incident", "incident_id"),
    Index("alerts_by_key", "key_space", "key"),
)

INCIDENTS: Final = Table(
    "incidents",
    METADATA,
    Column("incident_id", String(40), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("rule_id", String(128), nullable=False),
    Column("title", Text, nullable=False),
    Column("severity", String(16), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("key_space", String(32), nullable=False),
    Column("key", String(256), nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    Column("last_finding_ms", BigInteger, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("alerts", Integer, nullable=False),
    Column("findings", Integer, nullable=False),
    Index("incidents_by_state", "state", "last_finding_ms"),
    Index("incidents_by_key", "key_space", "key"),
)

DECISIONS: Final = Table(
    "decisions",
    METADATA,
    Column("decision_id", String(40), primary_key=True),
    Column("user_id", String(256), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("scope", String(64), nullable=False),
    Column("reason", String(160), nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("alert_id", String(40)),
    Index("decisions_by_user", "user_id", "expires_ms"),
)
