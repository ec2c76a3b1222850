"""Events to columns: done once, for the columns that the pack reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from detectors.events import COLUMNS_BY_NAME, EVENT_TYPES
from monitor.wire.schema import Feedback, Generation, Guard, Provenance, Share

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from monitor.wire.schema import Event

__all__ = ["beyond_64_bits", "event_frame"]

_EVENT_CODES: Final = {name: code for code, name in enumerate(EVENT_TYPES)}

_INT64: Final = 2**63

# Stand-ins for absent parts, whose every column is null (the decoder never makes such a thing).
_NONE: Final = (None,)
_NO_GUARD: Final = Guard(decision=None)  # type: ignore[arg-type]
_NO_PROVENANCE: Final = Provenance()
_NO_GENERATION: Final = Generation(request_id=None)  # type: ignore[arg-type]
_NO_SHARE: Final = Share(asset_id=None)  # type: ignore[arg-type]
_NO_FEEDBACK: Final = Feedback(subject_user_id=None)  # type: ignore[arg-type]

_NULLS: Final = {c.name: pl.Series(c.name, [None], c.dtype) for c in COLUMNS_BY_NAME.values()}

# For each column the part of the event it lies in, and how to read it from all of them. Written
# out because this is the hot path: attribute access in a comprehension costs half a getattr().
_READERS: Final[dict[str, tuple[str, Callable[[Sequence[Any]], list[Any]]]]] = {
    "event_id": ("event", lambda parts: [part.event_id for part in parts]),
    "time_ms": ("event", lambda parts: [part.time for part in parts]),
    "user_id": ("event", lambda parts: [part.user_id for part in parts]),
    "account_created_ms": ("account", lambda parts: [part.created_at for part in parts]),
    "account_last_active_ms": ("account", lambda parts: [part.last_active_at for part in parts]),
    "tier": ("account", lambda parts: [part.tier for part in parts]),
    "verified": ("account", lambda parts: [part.verified for part in parts]),
    "country": ("account", lambda parts: [part.country for part in parts]),
    "ip": ("client", lambda parts: [part.ip for part in parts]),
    "device_id": ("client", lambda parts: [part.device_id for part in parts]),
    "session_id": ("client", lambda parts: [part.session_id for part in parts]),
    "app_version": ("client", lambda parts: [part.app_version for part in parts]),
    "request_id": ("generation", lambda parts: [part.request_id for part in parts]),
    "model": ("generation", lambda parts: [part.model for part in parts]),
    "prompt_fingerprint": ("generation", lambda parts: [p.prompt_fingerprint for p in parts]),
    "prompt_signature": ("generation", lambda parts: [part.prompt_signature for part in parts]),
    "duration_s": ("generation", lambda parts: [part.duration_s for part in parts]),
    "resolution": ("generation", lambda parts: [part.resolution for part in parts]),
    "cost": ("generation", lambda parts: [part.cost for part in parts]),
    "likeness_of": ("generation", lambda parts: [part.likeness_of for part in parts]),
    "guard_decision": ("guard", lambda parts: [part.decision for part in parts]),
    "guard_category": ("guard", lambda parts: [(part.categories or _NONE)[0] for part in parts]),
    "guard_score": ("guard", lambda parts: [part.score for part in parts]),
    "asset_id": ("asset", lambda parts: [part.asset_id for part in parts]),
    "asset_fingerprint": ("share", lambda parts: [part.asset_fingerprint for part in parts]),
    "channel": ("share", lambda parts: [part.channel for part in parts]),
    "target_id": ("share", lambda parts: [part.target_id for part in parts]),
    "url": ("share", lambda parts: [part.url for part in parts]),
    "visibility": ("share", lambda parts: [part.visibility for part in parts]),
    "view_count": ("share", lambda parts: [part.view_count for part in parts]),
    "c2pa_present": ("provenance", lambda parts: [part.c2pa_present for part in parts]),
    "c2pa_state": ("provenance", lambda parts: [part.c2pa_state for part in parts]),
    "digital_source_type": ("provenance", lambda parts: [p.digital_source_type for p in parts]),
    "watermark": ("provenance", lambda parts: [part.watermark for part in parts]),
    "feedback_kind": ("feedback", lambda parts: [part.kind for part in parts]),
    "subject_user_id": ("feedback", lambda parts: [part.subject_user_id for part in parts]),
    "reason": ("feedback", lambda parts: [part.reason for part in parts]),
    "verdict": ("feedback", lambda parts: [part.verdict for part in parts]),
}


def event_frame(events: Sequence[Event], names: Collection[str]) -> pl.DataFrame:
    """The named columns of n valid events, as a frame of n rows.

    Raises:
        OverflowError, TypeError, PolarsError: an integer beyond 64 bits (``beyond_64_bits``).
    """
    parts = _Parts(events)
    columns: list[pl.Series] = []
    for name, column in COLUMNS_BY_NAME.items():
        if name not in names:
            continue
        if name == "type":
            codes = [_EVENT_CODES.get(event.type) for event in events]
            columns.append(pl.Series(name, codes, dtype=pl.UInt8).cat.to(column.dtype))
            continue
        part, read = _READERS[name]
        if parts[part]:
            columns.append(pl.Series(name, read(parts[part]), dtype=column.dtype))
        else:
            columns.append(_NULLS[name].new_from_index(0, len(events)))
    return pl.DataFrame(columns)


def beyond_64_bits(events: Sequence[Event], names: Collection[str]) -> set[int]:
    """Which of n valid events have an integer in the named columns that those cannot hold."""
    parts = _Parts(events)
    found: set[int] = set()
    for name in names:
        if COLUMNS_BY_NAME[name].dtype == pl.Int64:
            part, read = _READERS[name]
            values = read(parts[part]) if parts[part] else []
            found |= {
                row
                for row, value in enumerate(values)
                if value is not None and not -_INT64 <= value < _INT64
            }
    return found


class _Parts(dict[str, "Sequence[Any]"]):
    """The parts of n events that columns are read from, found once each.

    Nothing for a body that none of the events has, as when a topic carries one kind.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__(event=events)

    def __missing__(self, part: str) -> Sequence[Any]:
        self[part] = found = self._find(part)
        return found

    def _find(self, part: str) -> Sequence[Any]:
        events: Sequence[Event] = self["event"]
        match part:
            case "account":
                return [event.account for event in events]
            case "client":
                return [event.client for event in events]
            case "generation":
                bodies: list[Any] = [event.generation or _NO_GENERATION for event in events]
                return _unless_all(bodies, _NO_GENERATION)
            case "share":
                return _unless_all([event.share or _NO_SHARE for event in events], _NO_SHARE)
            case "feedback":
                bodies = [event.feedback or _NO_FEEDBACK for event in events]
                return _unless_all(bodies, _NO_FEEDBACK)
            case "asset":  # shares and feedback name one
                bodies = [event.share or event.feedback or _NO_SHARE for event in events]
                return _unless_all(bodies, _NO_SHARE)
            case "guard":
                return [body.guard or _NO_GUARD for body in self["generation"]]
            case "provenance":
                return [body.provenance or _NO_PROVENANCE for body in self["share"]]
        raise KeyError(part)


def _unless_all(bodies: list[Any], absent: object) -> list[Any]:
    return [] if bodies.count(absent) == len(bodies) else bodies
