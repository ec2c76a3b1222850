"""Pressure on the monitor itself, and the built-in rules that tell of it.

A rule that fires for everyone must not drown the alerts of the others, and a flood of users must
not make the monitor forget in silence. So alerts of a rule are bounded and what is shed is alerted
on (``floodwatch.alert-storm``); so is a user table that forgets too fast
(``floodwatch.user-table-pressure``), and a model whose features are no longer spread as when it
was trained (``floodwatch.model-drift``). All are functions of the events in order: time is the
newest event time so far, which never goes back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from detectors.drift import MAX_PSI
from detectors.errors import PackError
from detectors.pack import RuleSpec
from detectors.rules import Condition, Rule, compile_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from detectors._windows import Int64s

__all__ = [
    "ALERT_STORM",
    "BUILT_IN_RULES",
    "MODEL_DRIFT",
    "USER_TABLE_PRESSURE",
    "AlertBound",
    "AlertBudget",
    "EvictionWindow",
    "compile_built_in",
    "measured",
]

ALERT_STORM: Final = "floodwatch.alert-storm"
USER_TABLE_PRESSURE: Final = "floodwatch.user-table-pressure"
MODEL_DRIFT: Final = "floodwatch.model-drift"

_MAX_EVICTED_PERCENT: Final = 5
"""Of the rows, in ten minutes. A table that holds a day's users loses 0.7 % in ten minutes if they
are spread evenly, 2 % at a busy hour. At 5 % all of it is replaced in less than four hours, and
what the windows of a day say is no longer true for whoever pauses."""

_PANE_MS: Final = 60_000
_PANES: Final = 10
_MINUTE_MS: Final = 60_000

BUILT_IN_RULES: Final = (
    RuleSpec(
        id=ALERT_STORM,
        title="A rule floods the alerts",
        when="findings_shed > 0",
        severity="high",
        cooldown_ms=600_000,
        runbook=f"docs/runbooks/{ALERT_STORM}.md",
        key="rule",
        tags=("monitor",),
    ),
    RuleSpec(
        id=USER_TABLE_PRESSURE,
        title="Users are forgotten for lack of room",
        when=f"evicted_percent_10m > {_MAX_EVICTED_PERCENT}",
        severity="high",
        cooldown_ms=3_600_000,
        runbook=f"docs/runbooks/{USER_TABLE_PRESSURE}.md",
        key="table",
        tags=("monitor",),
    ),
    RuleSpec(
        id=MODEL_DRIFT,
        title="The anomaly model no longer fits what people do",
        when=f"drift_psi > {MAX_PSI}",
        severity="medium",
        cooldown_ms=86_400_000,
        runbook=f"docs/runbooks/{MODEL_DRIFT}.md",
        key="model",
        tags=("monitor",),
    ),
)
"""Rules about the monitor: no pack needs to hold them, none can leave them out."""

_SCHEMA: Final = {
    "findings_shed": pl.Int64(),
    "evicted_percent_10m": pl.Float64(),
    "drift_psi": pl.Float64(),
}


def compile_built_in(others: Sequence[RuleSpec]) -> tuple[Rule, Rule, Rule]:
    """The rules about an alert storm, a user table and a model's drift, beside those of a pack.

    Raises:
        PackError: one of ``others`` has the id of a built-in rule.
    """
    alert_storm, table_pressure, model_drift = compile_rules(BUILT_IN_RULES, _SCHEMA).rules
    built_in = {spec.id for spec in BUILT_IN_RULES}
    for rule_id in (rule.id for rule in others):
        if rule_id in built_in:
            raise PackError(f"id {rule_id!r} is built in", where=f"rule {rule_id}")
    return alert_storm, table_pressure, model_drift


def measured(rule: Rule, values: Mapping[str, float]) -> tuple[Condition, ...]:
    """The evidence of a built-in rule: its comparison, and all else that was measured."""
    facts = (
        Condition(name, "=", value, value, holds=True)
        for name, value in values.items()
        if name not in rule.when.columns
    )
    return (*rule.evidence(values), *facts)


@dataclass(frozen=True, slots=True)
class AlertBound:
    """How many alerts a rule may make in one partition, in event time.

    Nobody reads 300 alerts of one rule a minute, and a store takes those of dozens of partitions.
    The burst is for real raids: a thousand accounts that strike at once are a thousand alerts,
    with a decision each; those beyond it follow at 300 a minute, as long as they go on.
    """

    per_minute: int = 300
    burst: int = 1_000

    def __post_init__(self) -> None:
        assert 1 <= self.per_minute <= _MINUTE_MS, "an alert costs at least a millisecond"
        assert self.burst >= 1, "a rule may alert once"

    @property
    def interval_ms(self) -> int:
        """Event time that one alert costs."""
        return _MINUTE_MS // self.per_minute


@dataclass(slots=True)
class _Flow:
    """Alerts of a rule. ``full_ms`` is when it has its whole burst again (see ``limits``: GCRA).

    Since ``since_ms``, when it last had, there were ``alerts``, and ``shed`` findings that were
    not in cooldown and still made none.
    """

    full_ms: int = 0
    since_ms: int = 0
    alerts: int = 0
    shed: int = 0


@dataclass(slots=True)
class AlertBudget:
    """What each of some rules may still alert."""

    bound: AlertBound
    _flows: dict[str, _Flow] = field(default_factory=dict)

    @staticmethod
    def of(rules: Iterable[str], bound: AlertBound) -> AlertBudget:
        """The full budget of rules, given by their ids."""
        return AlertBudget(bound, {rule_id: _Flow() for rule_id in rules})

    def take(self, rule_id: str, now_ms: int) -> bool:
        """Whether a rule may make another alert; ``now_ms`` never goes back."""
        flow = self._flows[rule_id]
        if flow.full_ms <= now_ms:
            flow.full_ms = flow.since_ms = now_ms
            flow.alerts = flow.shed = 0
        if flow.full_ms - now_ms > (self.bound.burst - 1) * self.bound.interval_ms:
            flow.shed += 1
            return False
        flow.full_ms += self.bound.interval_ms
        flow.alerts += 1
        return True

    def storm(self, rule_id: str, now_ms: int) -> dict[str, float]:
        """What the alert about a rule that sheds has to say."""
        flow = self._flows[rule_id]
        return {
            "findings_shed": flow.shed,
            "alerts_made": flow.alerts,
            "alerts_within_s": (now_ms - flow.since_ms) / 1_000,
            "alerts_per_minute_bound": self.bound.per_minute,
            "alerts_burst_bound": self.bound.burst,
        }

    def state(self) -> dict[str, Any]:
        """All of it but the bound, as JSON can hold it."""
        return {rule_id: asdict(flow) for rule_id, flow in self._flows.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; rules that are no longer there are left out."""
        for rule_id in self._flows.keys() & state.keys():
            self._flows[rule_id] = _Flow(**state[rule_id])


@dataclass(slots=True)
class EvictionWindow:
    """Evictions of the last ten minutes, in panes of one, against the room of the table.

    ``told_pane`` is the newest pane for which too many were told.
    """

    capacity: int
    _evictions: list[int] = field(default_factory=lambda: [0] * _PANES)
    _newest_pane: int = 0
    _told_pane: int = 0

    def add(self, times_ms: Int64s) -> list[tuple[int, int]]:
        """Count evictions at ascending times (n,); where there are too many.

        Returns indices into ``times_ms`` and how many evictions the window held with that one: the
        first of each minute at which it held too many.
        """
        told = []
        panes, starts, counts = np.unique(
            times_ms // _PANE_MS, return_index=True, return_counts=True
        )
        for pane, start, count in zip(
            panes.tolist(), starts.tolist(), counts.tolist(), strict=True
        ):
            for stale in range(max(self._newest_pane + 1, pane - _PANES + 1), pane + 1):
                self._evictions[stale % _PANES] = 0
            self._newest_pane = pane
            before = sum(self._evictions)
            most = self.capacity * _MAX_EVICTED_PERCENT // 100
            self._evictions[pane % _PANES] += count
            if before + count > most and pane > self._told_pane:
                self._told_pane = pane
                needed = max(1, most + 1 - before)
                told.append((start + needed - 1, before + needed))
        return told

    def pressure(self, evictions: int) -> dict[str, float]:
        """What the alert about ``evictions`` in ten minutes has to say."""
        return {
            "evicted_percent_10m": 100 * evictions / self.capacity,
            "evictions_10m": evictions,
            "table_capacity_rows": self.capacity,
        }

    def state(self) -> dict[str, Any]:
        """All of it but the capacity, as JSON can hold it."""
        return {
            "evictions": list(self._evictions),
            "newest_pane": self._newest_pane,
            "told_pane": self._told_pane,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._evictions = list(state["evictions"])
        self._newest_pane = state["newest_pane"]
        self._told_pane = state["told_pane"]
