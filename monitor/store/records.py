"""An alert as it was stored, whichever version of the program wrote it.

Shapes for reading: what a record lacks has a default, what it has beyond them is ignored.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

__all__ = [
    "StoredAction",
    "StoredAlert",
    "StoredAnomaly",
    "StoredCondition",
    "StoredContribution",
    "StoredGroup",
    "StoredKey",
    "StoredMember",
    "StoredTrait",
    "read_alert",
]

_Value: TypeAlias = float | str | bool | None


class StoredCondition(msgspec.Struct, frozen=True):
    """A comparison of the rule with the value it met."""

    column: str
    operator: str
    threshold: _Value = None
    value: _Value = None
    holds: bool = True


class StoredContribution(msgspec.Struct, frozen=True):
    """How far a feature moved the anomaly score."""

    feature: str
    value: float | None = None
    percentile: float = 0.0
    contribution: float = 0.0


class StoredAnomaly(msgspec.Struct, frozen=True):
    """An anomaly score taken apart."""

    score: float
    rank: float
    model_id: str = ""
    contributions: tuple[StoredContribution, ...] = ()
    degraded: tuple[str, ...] = ()


class StoredMember(msgspec.Struct, frozen=True):
    """A user of a group."""

    user_id: str
    keys: float = 0.0
    core: bool = False


class StoredKey(msgspec.Struct, frozen=True):
    """A key that members of a group share."""

    key_space: str
    key: str
    members: int = 0
    actions: int = 0
    users: int | None = None


class StoredTrait(msgspec.Struct, frozen=True):
    """What members of a group are: which part of them, and which part of others."""

    name: str
    doc: str = ""
    share: float | None = None
    usual: float | None = None


class StoredGroup(msgspec.Struct, frozen=True):
    """Users who act together."""

    statement: str = ""
    members: tuple[StoredMember, ...] = ()
    members_left_out: int = 0
    keys: tuple[StoredKey, ...] = ()
    keys_left_out: int = 0
    key_spaces: tuple[str, ...] = ()
    median_gap_s: float | None = None
    actions: int = 0
    first_ms: int = 0
    newest_ms: int = 0
    event_ids: tuple[str, ...] = ()
    timeline: tuple[tuple[int, int], ...] = ()
    traits: tuple[StoredTrait, ...] = ()


class StoredAction(msgspec.Struct, frozen=True):
    """What the rule does by itself."""

    kind: str
    scope: str
    duration_ms: int = 0


class StoredAlert(msgspec.Struct, frozen=True):
    """An alert."""

    alert_id: str
    title: str
    severity: str
    key_space: str
    key: str
    time_ms: int
    event_id: str
    summary: str
    suppressed: int = 0
    evidence: tuple[StoredCondition, ...] = ()
    context: dict[str, Any] = {}
    runbook: str = ""
    action: StoredAction | None = None
    anomaly: StoredAnomaly | None = None
    group: StoredGroup | None = None


def read_alert(record: object) -> StoredAlert | None:
    """The alert of a row's ``record``; None if it is too unlike what this program knows."""
    try:
        return msgspec.convert(record, StoredAlert)
    except msgspec.ValidationError:
        return None
