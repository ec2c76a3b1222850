"""A pack: the declared features, rules and limits of a deployment, versioned by content hash.

These are plain descriptions. ``features``, ``rules`` and ``limits`` compile them; the shell reads
them from YAML (``monitor.packs``). Windows and periods are milliseconds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CAMPAIGN_SPACE",
    "RESERVED_SPACES",
    "SEGMENT_SPACE",
    "SEVERITIES",
    "USER_SPACE",
    "Action",
    "ActionKind",
    "AnomalySpec",
    "DerivedSpec",
    "FeatureKind",
    "FeatureSpec",
    "KeyForm",
    "LimitSpec",
    "LimitsSpec",
    "Mode",
    "Pack",
    "RuleCase",
    "RuleSpec",
    "SegmentSpec",
    "Severity",
    "SharedKeySpec",
    "SharedSpec",
    "TraitSpec",
    "WindowSpec",
    "content_hash",
]

FeatureKind: TypeAlias = Literal["count", "sum", "distinct", "gap"]
Severity: TypeAlias = Literal["info", "low", "medium", "high", "critical"]
Mode: TypeAlias = Literal["live", "shadow"]
ActionKind: TypeAlias = Literal["warn", "throttle", "block"]
KeyForm: TypeAlias = Literal["text", "network", "bands"]

SEVERITIES: Final[tuple[Severity, ...]] = ("info", "low", "medium", "high", "critical")
USER_SPACE: Final = "user"
SEGMENT_SPACE: Final = "segment"
CAMPAIGN_SPACE: Final = "campaign"
RESERVED_SPACES: Final = (USER_SPACE, SEGMENT_SPACE, CAMPAIGN_SPACE, "rule", "table", "model")
"""Key spaces that a pack cannot name a shared key after; the last three: of built-in rules."""


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
class SharedKeySpec:
    """A key that several users touch: an asset, a link, a network.

    ``column`` of the events ``where`` (SQL), as it is (``text``), its /24 or /48 (``network``), or
    each of some bands of a prompt's signature, so that near-duplicates share one (``bands``).
    Whoever is tied to a ``lasting`` key meets others on it all the time (a device, a network).
    """

    name: str
    column: str
    where: str = "true"
    form: KeyForm = "text"
    lasting: bool = False
    doc: str = ""


@dataclass(frozen=True, slots=True)
class SegmentSpec:
    """Parts of the traffic whose volume is watched: ``NAME=VALUE`` for each value of a column.

    Without a ``column`` it is one part, called ``NAME``.
    """

    name: str
    column: str = ""
    where: str = "true"
    doc: str = ""


@dataclass(frozen=True, slots=True)
class TraitSpec:
    """What a user may be at an event ``where`` it holds (SQL): blocked lately, of a new account.

    How many members of a campaign are, beside how usual it is, is told; ``doc`` says it of users.
    """

    name: str
    where: str
    doc: str


@dataclass(frozen=True, slots=True)
class SharedSpec:
    """What is kept of shared keys: the same features for the keys of every space; and segments."""

    keys: tuple[SharedKeySpec, ...]
    windows: tuple[WindowSpec, ...]
    features: tuple[FeatureSpec, ...]
    derived: tuple[DerivedSpec, ...] = ()
    segments: tuple[SegmentSpec, ...] = ()
    traits: tuple[TraitSpec, ...] = ()


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
    shared: SharedSpec | None = None

    @property
    def version(self) -> str:
        """Content hash of all that affects results.

        Documentation and cases do not, nor does ``anomaly``: it is for training, and what a model
        looks at is a part of the model.
        """
        content: dict[str, object] = {
            "windows": [asdict(window) for window in self.windows],
            "features": _contents(self.features),
            "derived": [[d.name, d.sql] for d in self.derived],
            "rules": [[rule.version, rule.severity] for rule in self.rules],
            "limits": asdict(self.limits),
        }
        if self.shared is not None:
            shared = self.shared
            content["shared"] = {
                "keys": [
                    [key.name, key.column, key.where, key.form, key.lasting] for key in shared.keys
                ],
                "windows": [asdict(window) for window in shared.windows],
                "features": _contents(shared.features),
                "derived": [[d.name, d.sql] for d in shared.derived],
                "segments": [[part.name, part.column, part.where] for part in shared.segments],
            }
        return content_hash(content)


def _contents(features: Iterable[FeatureSpec]) -> list[list[object]]:
    return [[f.name, f.kind, f.windows, f.where, f.of, f.capacity] for f in features]
