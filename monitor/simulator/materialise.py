"""Planned rows become the columns of ``detectors.events``."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detectors.events import (
    EVENT_TYPES,
    FEEDBACK_TYPES,
    GENERATION_TYPES,
    SHARE_TYPES,
    event_schema,
)
from monitor.simulator.generation import costs
from monitor.simulator.identifiers import Identifiers
from monitor.simulator.rows import Fields, Integers, Rows, fields_of
from monitor.simulator.vocabulary import (
    APP_VERSIONS,
    C2PA_STATES,
    CHANNELS,
    COUNTRIES,
    DIGITAL_SOURCE_TYPES,
    FEEDBACK_KINDS,
    GUARD_CATEGORIES,
    GUARD_DECISIONS,
    MODELS,
    REASONS,
    RESOLUTIONS,
    TIERS,
    TYPE_CODES,
    VERDICTS,
    VISIBILITIES,
    WATERMARKS,
)

__all__ = ["materialise", "topic_order"]

_REQUESTED: Final = TYPE_CODES["generation.requested"]
_BLOCKED: Final = TYPE_CODES["generation.blocked"]
_FEEDBACK_KIND_BY_TYPE: Final = np.array(
    [-1] * (len(EVENT_TYPES) - len(FEEDBACK_TYPES)) + list(range(len(FEEDBACK_KINDS))),
    dtype=np.int8,
)


def topic_order(types: NDArray[np.int8]) -> NDArray[np.int8]:
    """0 for generations, 1 for shares, 2 for feedback: the order of events of the same ms."""
    after_generation = types >= len(GENERATION_TYPES)
    after_share = types >= len(GENERATION_TYPES) + len(SHARE_TYPES)
    return after_generation.astype(np.int8) + after_share.astype(np.int8)


def materialise(rows: Rows, first_event: int, identifiers: Identifiers) -> pl.DataFrame:
    """The event table (``event_schema()``) of ``rows``, which are in their final order.

    ``first_event`` is the number of events before these in the simulation: event ids count on.
    """
    fields = fields_of(rows)
    columns = _envelope(fields, first_event, identifiers)
    columns |= _generation(fields, identifiers)
    columns |= _share(fields, identifiers)
    columns |= _feedback(fields, identifiers)
    return pl.DataFrame([columns[name].alias(name) for name in event_schema()])


def _words(codes: NDArray[np.integer], words: tuple[str, ...]) -> pl.Series:
    """Words for codes; null for -1."""
    table = pl.Series([None, *words], dtype=pl.String)
    return table.gather(pl.Series((codes + 1).astype(np.uint32)))


def _numbers(
    values: NDArray[np.generic], present: NDArray[np.bool_], dtype: pl.DataType
) -> pl.Series:
    """Numbers, null where not present."""
    column = pl.Series(values).cast(dtype)
    return column.zip_with(pl.Series(present), pl.Series([None], dtype=dtype))


def _spread(texts: pl.Series, present: NDArray[np.bool_]) -> pl.Series:
    """Put one text for each True in ``present`` where it belongs; the others are null."""
    padded = pl.concat([pl.Series([None], dtype=pl.String), texts])
    places = np.where(present, np.cumsum(present), 0).astype(np.uint32)
    return padded.gather(pl.Series(places))


def _names(identifiers: Identifiers, prefix: str, numbers: Integers) -> pl.Series:
    """Identifiers for numbers; null for -1."""
    present = numbers >= 0
    return _spread(identifiers.named(prefix, numbers[present]), present)


def _envelope(fields: Fields, first_event: int, identifiers: Identifiers) -> dict[str, pl.Series]:
    event_types = pl.Series(EVENT_TYPES, dtype=pl.Enum(EVENT_TYPES))
    numbers = first_event + np.arange(len(fields["type"]), dtype=np.int64)
    return {
        "event_id": identifiers.named("evt_", numbers),
        "type": event_types.gather(pl.Series(fields["type"].astype(np.uint32))),
        "time_ms": pl.Series(fields["time_ms"]),
        "user_id": identifiers.named("usr_", fields["user"]),
        "account_created_ms": pl.Series(fields["created_ms"]),
        "account_last_active_ms": _numbers(
            fields["last_active_ms"], fields["last_active_ms"] >= 0, pl.Int64()
        ),
        "tier": _words(fields["tier"], TIERS),
        "verified": pl.Series(fields["verified"]),
        "country": _words(fields["country"], COUNTRIES),
        "ip": identifiers.addresses(fields["address"]),
        "device_id": identifiers.named("dev_", fields["device"]),
        "session_id": identifiers.named("ses_", fields["session"]),
        "app_version": _words(fields["app_version"], APP_VERSIONS),
    }


def _generation(fields: Fields, identifiers: Identifiers) -> dict[str, pl.Series]:
    applies = fields["request"] >= 0
    credits = costs(fields["model"], fields["resolution"], fields["duration_s"])
    # A signature tells near-duplicates of what was asked for: the answer need not repeat it.
    signed = (fields["type"] == _REQUESTED) | (fields["type"] == _BLOCKED)
    prompts, edits = fields["prompt"], fields["edit"]
    guard_score = np.round(fields["guard_score"].astype(np.float64), 3)
    likeness = fields["likeness"].astype(np.int64)
    return {
        "request_id": _names(identifiers, "req_", fields["request"]),
        "model": _words(fields["model"], tuple(model.name for model in MODELS)),
        "prompt_fingerprint": _spread(
            identifiers.prompt_fingerprints(prompts[applies], edits[applies]), applies
        ),
        "prompt_signature": _spread(
            identifiers.prompt_signatures(
                prompts[signed], edits[signed], fields["drift_percent"][signed]
            ),
            signed,
        ),
        "duration_s": _numbers(fields["duration_s"], applies, pl.Float64()),
        "resolution": _words(fields["resolution"], tuple(size.name for size in RESOLUTIONS)),
        "cost": _numbers(credits, applies, pl.Float64()),
        "guard_decision": _words(fields["guard_decision"], GUARD_DECISIONS),
        "guard_category": _words(fields["guard_category"], GUARD_CATEGORIES),
        "guard_score": _numbers(guard_score, fields["guard_decision"] >= 0, pl.Float64()),
        "likeness_of": _names(identifiers, "per_", likeness),
    }


def _share(fields: Fields, identifiers: Identifiers) -> dict[str, pl.Series]:
    assets = fields["asset"]
    # Feedback names the video that it is about, and nothing more of it.
    hashed = (topic_order(fields["type"]) == 1) & (assets >= 0)
    is_present = fields["c2pa_present"]
    return {
        "asset_id": _names(identifiers, "vid_", assets),
        "asset_fingerprint": _spread(identifiers.hashes("asset", assets[hashed]), hashed),
        "channel": _words(fields["channel"], CHANNELS),
        "target_id": _names(identifiers, "tgt_", fields["target"]),
        "url": _names(identifiers, "https://video.example/v/", fields["link"]),
        "visibility": _words(fields["visibility"], VISIBILITIES),
        "view_count": _numbers(fields["view_count"], fields["view_count"] >= 0, pl.Int64()),
        "c2pa_present": _numbers(is_present == 1, is_present >= 0, pl.Boolean()),
        "c2pa_state": _words(fields["c2pa_state"], C2PA_STATES),
        "digital_source_type": _words(fields["source_type"], DIGITAL_SOURCE_TYPES),
        "watermark": _words(fields["watermark"], WATERMARKS),
    }


def _feedback(fields: Fields, identifiers: Identifiers) -> dict[str, pl.Series]:
    return {
        "feedback_kind": _words(_FEEDBACK_KIND_BY_TYPE[fields["type"]], FEEDBACK_KINDS),
        "subject_user_id": _names(identifiers, "usr_", fields["subject"]),
        "reason": _words(fields["reason"], REASONS),
        "verdict": _words(fields["verdict"], VERDICTS),
    }
