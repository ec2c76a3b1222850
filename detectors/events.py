"""The vocabulary of events: their types, and the columns they become.

Events arrive as nested JSON (``docs/schema/event.schema.json``) or as flat Parquet. Either way
they become the same flat columns once, at the edge; everything after that reads columns by the
names listed here. Times are milliseconds since the Unix epoch, durations seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

__all__ = [
    "COLUMNS",
    "COLUMNS_BY_NAME",
    "EVENT_TYPES",
    "FEEDBACK_TYPES",
    "GENERATION_TYPES",
    "IDENTIFIER_COLUMNS",
    "MAX_TIME_MS",
    "MIN_TIME_MS",
    "SCHEMA_VERSION",
    "SHARE_TYPES",
    "Column",
    "event_schema",
]

SCHEMA_VERSION: Final = 1
"""The newest version of the wire schema that this code reads."""

GENERATION_TYPES: Final = (
    "generation.requested",
    "generation.completed",
    "generation.blocked",
    "generation.failed",
)
SHARE_TYPES: Final = ("share.created", "share.removed", "share.viewed_burst")
FEEDBACK_TYPES: Final = (
    "report.filed",
    "verdict.given",
    "appeal.filed",
    "appeal.decided",
)
EVENT_TYPES: Final = GENERATION_TYPES + SHARE_TYPES + FEEDBACK_TYPES

MIN_TIME_MS: Final = 946_684_800_000
"""2000-01-01: anything earlier is a mistake, most often seconds sent for milliseconds."""
MAX_TIME_MS: Final = 4_102_444_800_000
"""2100-01-01: anything later is a mistake, most often microseconds sent for milliseconds."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an event batch.

    ``path`` is where the value lies in the wire JSON, ``doc`` what it means. ``identifier``
    marks strings that name a thing (a user, an address, an asset): these are hashed where they
    are used as keys or counted as distinct. ``max_bytes`` bounds strings (UTF-8).
    """

    name: str
    dtype: pl.DataType
    path: str
    doc: str
    identifier: bool = False
    max_bytes: int = 64


_STRING = pl.String()
_INT = pl.Int64()
_FLOAT = pl.Float64()
_BOOL = pl.Boolean()


def _identifier(name: str, path: str, doc: str, max_bytes: int = 128) -> Column:
    return Column(name, _STRING, path, doc, identifier=True, max_bytes=max_bytes)


COLUMNS: Final[tuple[Column, ...]] = (
    _identifier("event_id", "event_id", "Unique id of the event, given by its producer."),
    Column("type", pl.Enum(EVENT_TYPES), "type", "What happened."),
    Column("time_ms", _INT, "time", "When it happened, milliseconds since the Unix epoch."),
    _identifier("user_id", "user_id", "The actor: the account that did it."),
    Column("account_created_ms", _INT, "account.created_at", "When the account was created, ms."),
    Column(
        "account_last_active_ms",
        _INT,
        "account.last_active_at",
        "The account's last activity before this session, ms; null where unknown.",
    ),
    Column("tier", _STRING, "account.tier", "Plan: free, plus, pro, enterprise, unverified."),
    Column("verified", _BOOL, "account.verified", "The account proved an identity or a phone."),
    Column("country", _STRING, "account.country", "ISO 3166-1 alpha-2 country of the account."),
    _identifier("ip", "client.ip", "Address of the client (IPv4 or IPv6).", 64),
    _identifier("device_id", "client.device_id", "Device identifier."),
    _identifier("session_id", "client.session_id", "Session identifier."),
    Column("app_version", _STRING, "client.app_version", "Version of the client application."),
    _identifier("request_id", "generation.request_id", "The generation request."),
    Column("model", _STRING, "generation.model", "The video model asked for."),
    _identifier(
        "prompt_fingerprint",
        "generation.prompt_fingerprint",
        "Exact fingerprint of the normalised prompt.",
    ),
    _identifier(
        "prompt_signature",
        "generation.prompt_signature",
        "MinHash signature of the prompt, for near-duplicates.",
    ),
    Column("duration_s", _FLOAT, "generation.duration_s", "Length of the video asked for, s."),
    Column("resolution", _STRING, "generation.resolution", "480p, 720p, 1080p, 2160p."),
    Column("cost", _FLOAT, "generation.cost", "What the generation costs, in credits."),
    Column("guard_decision", _STRING, "generation.guard.decision", "allow, flag or block."),
    Column(
        "guard_category",
        _STRING,
        "generation.guard.categories[0]",
        "First category the prompt guard named; null where it named none.",
    ),
    Column("guard_score", _FLOAT, "generation.guard.score", "Guard's certainty, 0 to 1."),
    _identifier(
        "likeness_of",
        "generation.likeness_of",
        "The real person whose likeness was asked for; null for none.",
    ),
    _identifier("asset_id", "share.asset_id", "The video shared (or reported)."),
    _identifier("asset_fingerprint", "share.asset_fingerprint", "Perceptual hash of the video."),
    Column("channel", _STRING, "share.channel", "feed, message, group, link, external."),
    _identifier("target_id", "share.target_id", "Whom or where it was shared to."),
    _identifier("url", "share.url", "Link that the share carries.", 2048),
    Column("visibility", _STRING, "share.visibility", "private, unlisted or public."),
    Column("view_count", _INT, "share.view_count", "Views or downloads in a share.viewed_burst."),
    Column("c2pa_present", _BOOL, "share.provenance.c2pa_present", "A C2PA manifest is present."),
    Column(
        "c2pa_state",
        _STRING,
        "share.provenance.c2pa_state",
        "C2PA validation state: trusted, valid, invalid, missing or stripped.",
    ),
    Column(
        "digital_source_type",
        _STRING,
        "share.provenance.digital_source_type",
        "IPTC digital source type, such as trainedAlgorithmicMedia.",
    ),
    Column("watermark", _STRING, "share.provenance.watermark", "present, missing or damaged."),
    Column("feedback_kind", _STRING, "feedback.kind", "report, verdict, appeal or decision."),
    _identifier(
        "subject_user_id",
        "feedback.subject_user_id",
        "The user whom the feedback is about: the key of feedback events.",
    ),
    Column("reason", _STRING, "feedback.reason", "Reason given with the feedback."),
    Column("verdict", _STRING, "feedback.verdict", "abuse, benign or unclear; upheld, overturned."),
)

COLUMNS_BY_NAME: Final = {column.name: column for column in COLUMNS}
IDENTIFIER_COLUMNS: Final = tuple(column.name for column in COLUMNS if column.identifier)


def event_schema() -> dict[str, pl.DataType]:
    """The Polars schema of a table of events, in column order (also the Parquet schema)."""
    return {column.name: column.dtype for column in COLUMNS}
