"""The tables. What is searched for is a column; an alert is kept whole beside it as JSON.

The migrations in ``migrations/`` make them; a test compares the two. All times are milliseconds
since the Unix epoch: of the event in what detection says, of the wall clock in ``stored_ms`` (when
a row came here; retention goes by it) and in what people do. Text has no length: what a platform
takes for a user id must not stop the store.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

__all__ = [
    "ACKNOWLEDGEMENTS",
    "ALERTS",
    "AUDIT",
    "DECISIONS",
    "INCIDENTS",
    "INCIDENT_UPDATES",
    "METADATA",
    "NOTES",
    "OUTPUT_TABLES",
    "SNOOZES",
    "VERDICTS",
]

METADATA: Final = MetaData()

_RECORD: Final = JSON().with_variant(JSONB(), "postgresql")

ALERTS: Final = Table(
    "alerts",
    METADATA,
    Column("alert_id", Text, primary_key=True),
    Column("incident_id", Text, nullable=False),
    Column("rule_id", Text, nullable=False),
    Column("rule_version", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("key_space", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("anomaly_rank", Float(53)),  # null where the rule does not look at a score
    Column("members", Integer),  # null where it is not about a group
    Column("stored_ms", BigInteger, nullable=False),
    Column("record", _RECORD, nullable=False),
    Index("alerts_by_time", "time_ms"),
    Index("alerts_by_incident", "incident_id", "time_ms"),
    Index("alerts_by_key", "key_space", "key", "time_ms"),
    Index("alerts_by_stored", "stored_ms", postgresql_using="brin"),
)
"""One row an alert."""

INCIDENTS: Final = Table(
    "incidents",
    METADATA,
    Column("incident_id", Text, primary_key=True),
    Column("state", Text, nullable=False),  # opened, updated or closed
    Column("rule_id", Text, nullable=False),
    Column("rule_version", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("key_space", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    Column("last_finding_ms", BigInteger, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("alerts", Integer, nullable=False),
    Column("findings", BigInteger, nullable=False),
    Column("stored_ms", BigInteger, nullable=False),
    Index("incidents_by_state", "state", "last_finding_ms"),
    Index("incidents_by_time", "last_finding_ms"),
    Index("incidents_by_key", "key_space", "key"),
    Index("incidents_by_stored", "stored_ms"),
)
"""One row an incident: as its newest update says."""

INCIDENT_UPDATES: Final = Table(
    "incident_updates",
    METADATA,
    Column("incident_id", Text, primary_key=True),
    Column("findings", BigInteger, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("time_ms", BigInteger, nullable=False),
    Column("last_finding_ms", BigInteger, nullable=False),
    Column("alerts", Integer, nullable=False),
    Column("severity", Text, nullable=False),
    Column("stored_ms", BigInteger, nullable=False),
    Index("incident_updates_by_stored", "stored_ms", postgresql_using="brin"),
)
"""One row a change of an incident: its history."""

DECISIONS: Final = Table(
    "decisions",
    METADATA,
    Column("decision_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("kind", Text, nullable=False),  # warn, throttle or block
    Column("scope", Text, nullable=False),
    Column("reason", Text, nullable=False),  # rule:ID or limit:NAME
    Column("time_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("alert_id", Text),
    Column("stored_ms", BigInteger, nullable=False),
    Index("decisions_by_user", "user_id", "expires_ms"),
    Index("decisions_by_time", "time_ms"),
    Index("decisions_by_alert", "alert_id"),
    Index("decisions_by_stored", "stored_ms", postgresql_using="brin"),
)
"""One row a decision."""

VERDICTS: Final = Table(
    "verdicts",
    METADATA,
    Column("verdict_id", Text, primary_key=True),
    Column("incident_id", Text, nullable=False),
    Column("rule_id", Text, nullable=False),
    Column("verdict", Text, nullable=False),  # abuse, benign or unclear
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("published_ms", BigInteger),  # null until the detection was told
    Index("verdicts_by_incident", "incident_id", "time_ms"),
    Index("verdicts_by_time", "time_ms"),
)
"""One row a verdict; the newest of an incident counts. Kept for as long as the database."""

ACKNOWLEDGEMENTS: Final = Table(
    "acknowledgements",
    METADATA,
    Column("incident_id", Text, primary_key=True),
    Column("author", Text, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
)
"""Who is on it: the first to say so."""

SNOOZES: Final = Table(
    "snoozes",
    METADATA,
    Column("rule_id", Text, primary_key=True),
    Column("key_space", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("until_ms", BigInteger, nullable=False),
    Column("incident_id", Text, nullable=False),  # at which it was asked for
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Index("snoozes_by_until", "until_ms"),
)
"""Until when a rule's incidents about a key wake nobody: this one, and the next one too."""

NOTES: Final = Table(
    "notes",
    METADATA,
    Column("note_id", Text, primary_key=True),
    Column("incident_id", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Index("notes_by_incident", "incident_id", "time_ms"),
)
"""What people wrote at an incident."""

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # 1, 2, 3, ...
    Column("time_ms", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("action", Text, nullable=False),  # ack, verdict, snooze or note
    Column("incident_id", Text, nullable=False),
    Column("content", Text, nullable=False),  # JSON, as it was hashed
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index("audit_by_incident", "incident_id"),
)
"""Everything people did, each row with a hash over itself and the row before it."""

OUTPUT_TABLES: Final = (ALERTS, INCIDENTS, INCIDENT_UPDATES, DECISIONS)
"""What detection writes."""
