"""A pack: the declared features, rules and limits of a deployment, versioned by content hash.

These are plain descriptions. ``features``, ``rules`` and ``limits`` compile them; the shell reads
them from YAML (``monitor.packs``). Windows and periods are milliseconds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeAlias

__all__ = [
    "KEY_SPACES",
    "SEVERITIES",
    "Action",
    "ActionKind",
    "AnomalySpec",
    "DerivedSpec",
    "FeatureKind",
    "FeatureSpec",
    "LimitSpec",
    "LimitsSpec",
    "Mode",
    "Pack",
    "RuleCase",
    "RuleSpec",
    "Severity",
    "WindowSpec",
    "content_hash",
]

FeatureKind: TypeAlias = Literal["count", "sum", "distinct", "gap"]
Severity: TypeAlias = Literal["info", "low", "medium", "high", "critical"]
Mode: TypeAlias = Literal["live", "shadow"]
ActionKind: TypeAlias = Literal["warn", "throttle", "block"]

SEVERITIES: Final[tuple[Severity, ...]] = ("info", "low", "medium", "high", "critical")
KEY_SPACES: Final = ("user",)


def content_hash(content: object) -> str:
    """A short stable hash (16 hexadecimal digits) of anything JSON can hold."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """A sliding window of ``panes`` panes: values cover ``length_ms`` to within one pane."""

    name: str
    length_ms: int
    panes: int

    @property
    def pane_ms(self) -> int:
        return self.length_ms // self.panes


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """A number kept per key: ``kind`` of the events ``where`` (SQL), over ``windows``.

    ``of`` is what is summed (SQL number) or counted as distinct (an identifier column).
    ``capacity`` bounds a distinct sketch: counts up to it are exact.
    """

    name: str
    kind: FeatureKind
    windows: tuple[str, ...]
    where: str = "true"
    of: str = ""
    capacity: int = 16
    doc: str = ""


@dataclass(frozen=True, slots=True)
class DerivedSpec:
    """A column computed from other columns of the same row (SQL)."""

    name: str
    sql: str
    doc: str = ""


@dataclass(frozen=True, slots=True)
class AnomalySpec:
    """What an anomaly model looks at: ``features`` (columns), at the events ``where`` (SQL).

    Each key once in ``every_ms`` of event time.
    """

    features: tuple[str, ...]
    where: str
    every_ms: int


@dataclass(frozen=True, slots=True)
class Action:
    """What a decision does: how strongly, to which actions of the user, for how long."""

    kind: ActionKind
    scope: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class RuleCase:
    """A test of a rule: ``columns`` of one row, or ``events`` played through a stage."""

    name: str
    fires: bool
    columns: dict[str, Any] | None = None
    events: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A rule: a finding wherever ``when`` (SQL, boolean) holds at an event of its key."""

    id: str
    title: str
    when: str
    severity: Severity
    cooldown_ms: int
    runbook: str
    key: str = "user"
    mode: Mode = "live"
    action: Action | None = None
    tags: tuple[str, ...] = ()
    cases: tuple[RuleCase, ...] = ()

    @property
    def version(self) -> str:
        """Changes when what the rule detects or does changes; not with its title or tests."""
        action = asdict(self.action) if self.action else None
        return content_hash([self.id, self.key, self.when, self.cooldown_ms, self.mode, action])


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """At most ``allow[tier]`` of ``quantity`` per ``period_ms`` for one action; 0 forbids it.

    ``quantity`` is SQL: ``1`` counts actions, ``cost`` counts credits.
    """

    name: str
    action: str
    period_ms: int
    allow: dict[str, float]
    quantity: str = "1"


@dataclass(frozen=True, slots=True)
class LimitsSpec:
    """Rate limits by tier and action; an unknown tier is treated as ``default_tier``."""

    actions: dict[str, str] = field(default_factory=dict)
    limits: tuple[LimitSpec, ...] = ()
    default_tier: str = "free"
    tiers: tuple[str, ...] = ("free",)
    decision_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Pack:
    """Everything that decides what is detected."""

    name: str
    windows: tuple[WindowSpec, ...]
    features: tuple[FeatureSpec, ...]
    derived: tuple[DerivedSpec, ...]
    rules: tuple[RuleSpec, ...]
    limits: LimitsSpec
    anomaly: AnomalySpec | None = None

    @property
    def version(self) -> str:
        """Content hash of all that affects results.

        Documentation and cases do not, nor does ``anomaly``: it is for training, and what a model
        looks at is a part of the model.
        """
        return content_hash(
            {
                "windows": [asdict(window) for window in self.windows],
                "features": [
                    [f.name, f.kind, f.windows, f.where, f.of, f.capacity] for f in self.features
                ],
                "derived": [[d.name, d.sql] for d in self.derived],
                "rules": [[rule.version, rule.severity] for rule in self.rules],
                "limits": asdict(self.limits),
            }
        )
