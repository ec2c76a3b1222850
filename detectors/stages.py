"""Stages: the steps of the topology, each a function of its state and the batch it is given.

A stage keeps the state of one partition. However the partition's log is cut into batches, the
concatenated outputs are the same: every value at an event depends on the events before it and on
nothing else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import polars as pl

from detectors.batch import CONTEXT_COLUMNS, EventBatch
from detectors.features import Features
from detectors.incidents import (
    Alert,
    Decision,
    Finding,
    Incident,
    IncidentTracker,
    Output,
    stable_id,
)
from detectors.keys import KeyTable, hash_strings
from detectors.limits import LimitColumns, Limiter

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from detectors.rules import Rule
    from detectors.topology import CompiledPack

__all__ = ["Stage", "StageOutputs", "UserStage"]

_NEVER_MS: Final = -(2**62)
_MAX_SUMMARY_CHARACTERS: Final = 240
_MAX_LIMIT_DECISIONS: Final = 100_000


@dataclass(slots=True)
class StageOutputs:
    """What a stage made of a batch, in log order, and what it counted.

    ``events`` counts by type what was processed. ``late`` events were too old for every window of
    their key: they changed nothing and are not among ``events``. ``skipped`` counts of shorter
    windows did not take an event. ``findings`` counts by rule id; ``rule_errors`` maps rule ids to
    the reason they could not be evaluated.
    """

    outputs: list[Output] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    late: int = 0
    skipped: int = 0
    rule_errors: dict[str, str] = field(default_factory=dict)


class Stage(Protocol):
    """A step of the topology over one partition."""

    def process(self, batch: EventBatch) -> StageOutputs:
        """Apply a batch in order."""
        ...

    def advance(self, watermark_ms: int) -> StageOutputs:
        """Let event time pass without events."""
        ...


class UserStage:
    """Limits, features, rules and incidents of the users of one partition."""

    def __init__(self, pack: CompiledPack, max_users: int) -> None:
        self.pack = pack
        self.keys = KeyTable(max_users)
        self.features = Features(pack.features, max_users)
        self.limiter = Limiter(pack.limits, max_users)
        self.incidents = IncidentTracker()
        self.watermark_ms = _NEVER_MS
        self._throttled_until_ms: dict[tuple[str, str], int] = {}

    @property
    def bytes_per_user(self) -> int:
        """State kept for one user in the dense tables, bytes (open incidents come on top)."""
        key_bytes = 24
        return key_bytes + self.features.bytes_per_row + self.limiter.arrival_ns[:1].nbytes

    def process(self, batch: EventBatch) -> StageOutputs:
        """Apply a batch of events in order; see ``StageOutputs``."""
        result = StageOutputs()
        if not len(batch):
            return result
        frame, limits = self._columns(batch, result)
        eligible = ~self._late
        held = self.pack.rules.held(frame, eligible)
        result.rule_errors = held.errors
        watermarks = np.maximum.accumulate(np.maximum(batch.times_ms, self.watermark_ms))
        limited = np.flatnonzero(limits.frame["limited"].to_numpy() & eligible)
        at = np.union1d(limited, held.positions)
        rules_at = np.searchsorted(held.positions, at)
        rules_until = np.searchsorted(held.positions, at, side="right")
        is_limited = np.isin(at, limited)
        for where, position in enumerate(at.tolist()):
            result.outputs.extend(self.incidents.close_due(int(watermarks[position])))
            if is_limited[where]:
                result.outputs.extend(self._limit_decisions(batch, limits, position))
            for index in held.rules[rules_at[where] : rules_until[where]].tolist():
                rule = self.pack.rules.rules[index]
                result.findings[rule.spec.id] += 1
                result.outputs.extend(self._finding(rule, frame, batch, position))
        self.watermark_ms = int(watermarks[-1])
        result.outputs.extend(self.incidents.close_due(self.watermark_ms))
        return result

    def advance(self, watermark_ms: int) -> StageOutputs:
        """Let event time pass: closes the incidents whose time has come."""
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        return StageOutputs(outputs=list(self.incidents.close_due(self.watermark_ms)))

    def _columns(
        self, batch: EventBatch, result: StageOutputs
    ) -> tuple[pl.DataFrame, LimitColumns]:
        """All columns that rules read: events, limits, derived, features."""
        rows, fresh = self.keys.rows(hash_strings(batch.keys))
        frame = batch.frame
        limits = self.limiter.apply(frame, batch.times_ms, rows, fresh)
        frame = frame.hstack(limits.frame)
        for level in self.pack.event_derived:
            frame = frame.with_columns(level)
        features = self.features.apply(frame, batch.times_ms, rows, fresh)
        frame = frame.hstack(features.frame)
        for level in self.pack.feature_derived:
            frame = frame.with_columns(level)
        self._late: npt.NDArray[np.bool_] = features.late
        result.late = int(features.late.sum())
        result.events.update(batch.count_by_type(~features.late))
        result.skipped = features.skipped
        return frame, limits

    def _finding(
        self, rule: Rule, frame: pl.DataFrame, batch: EventBatch, position: int
    ) -> Iterator[Output]:
        time_ms = int(batch.times_ms[position])
        key = batch.keys[position]
        event_id = frame["event_id"][position]
        finding = Finding(rule, key, time_ms, event_id)
        incident, is_alert = self.incidents.note(finding)
        if not is_alert:
            return
        alert = self._alert(finding, incident, frame, position)
        incident.suppressed = 0
        yield incident.update("opened" if incident.alerts == 1 else "updated", time_ms)
        yield alert
        action = rule.spec.action
        if action is not None and rule.spec.mode == "live":
            yield Decision(
                decision_id=stable_id("dec", alert.alert_id),
                user_id=key,
                kind=action.kind,
                scope=action.scope,
                reason=f"rule:{rule.spec.id}",
                time_ms=time_ms,
                expires_ms=time_ms + action.duration_ms,
                alert_id=alert.alert_id,
            )
        yield from self.incidents.evict_over_capacity()

    def _alert(
        self, finding: Finding, incident: Incident, frame: pl.DataFrame, position: int
    ) -> Alert:
        rule, spec = finding.rule, finding.rule.spec
        row = frame.select(sorted(rule.when.columns)).row(position, named=True)
        evidence = rule.evidence(row)
        context = frame.select(CONTEXT_COLUMNS).row(position, named=True)
        # What was measured comes first: the summary may be cut.
        held = "; ".join(
            str(condition)
            for condition in sorted(evidence, key=lambda condition: condition.operator == "=")
            if condition.holds
        )
        return Alert(
            alert_id=stable_id("alr", incident.incident_id, incident.alerts),
            incident_id=incident.incident_id,
            rule_id=spec.id,
            rule_version=rule.version,
            pack_version=self.pack.version,
            title=spec.title,
            severity=spec.severity,
            mode=spec.mode,
            key_space=spec.key,
            key=finding.key,
            time_ms=finding.time_ms,
            event_id=finding.event_id,
            sequence=incident.alerts,
            suppressed=incident.suppressed,
            summary=f"{spec.title}: {held}"[:_MAX_SUMMARY_CHARACTERS],
            evidence=evidence,
            context={name: value for name, value in context.items() if value is not None},
            runbook=spec.runbook,
            tags=spec.tags,
            action=spec.action,
        )

    def _limit_decisions(
        self, batch: EventBatch, limits: LimitColumns, position: int
    ) -> Iterator[Decision]:
        """Throttle the action whose limit was exceeded, unless it is throttled already."""
        time_ms = int(batch.times_ms[position])
        user_id = batch.keys[position]
        plan = self.pack.limits
        for index in np.flatnonzero(limits.over[:, position]).tolist():
            limit = plan.spec.limits[index]
            throttled = (user_id, limit.action)
            if self._throttled_until_ms.get(throttled, _NEVER_MS) > time_ms:
                continue
            expires_ms = max(int(limits.retry_ms[position]), time_ms + plan.spec.decision_ms)
            self._throttled_until_ms.pop(throttled, None)
            self._throttled_until_ms[throttled] = expires_ms
            while len(self._throttled_until_ms) > _MAX_LIMIT_DECISIONS:
                del self._throttled_until_ms[next(iter(self._throttled_until_ms))]
            yield Decision(
                decision_id=stable_id(
                    "dec", user_id, limit.name, batch.frame["event_id"][position]
                ),
                user_id=user_id,
                kind="throttle",
                scope=limit.action,
                reason=f"limit:{limit.name}",
                time_ms=time_ms,
                expires_ms=expires_ms,
            )
