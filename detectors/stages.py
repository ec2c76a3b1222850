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

    from detectors.compiled import CompiledPack
    from detectors.rules import Held, Rule

__all__ = ["Stage", "StageOutputs", "UserStage"]

_NEVER_MS: Final = -(2**62)
_MAX_SUMMARY_CHARACTERS: Final = 240
_MAX_THROTTLED_USERS: Final = 100_000


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
        # By action, then user: until when a throttle decision for an exceeded limit stands.
        self._throttled_until_ms: dict[str, dict[str, int]] = {
            action: {} for action in pack.limits.spec.actions
        }

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
        frame, limits, eligible = self._columns(batch, result)
        held = self.pack.rules.held(frame, eligible)
        result.rule_errors = held.errors
        watermarks = np.maximum.accumulate(np.maximum(batch.times_ms, self.watermark_ms))
        throttles = self._throttles(batch, limits, eligible)
        if throttles or len(held.positions):
            self._findings(batch, frame, held, watermarks, throttles, result)
        self.watermark_ms = int(watermarks[-1])
        result.outputs.extend(self.incidents.close_due(self.watermark_ms))
        return result

    def _findings(
        self,
        batch: EventBatch,
        frame: pl.DataFrame,
        held: Held,
        watermarks: npt.NDArray[np.int64],
        throttles: dict[int, list[Decision]],
        result: StageOutputs,
    ) -> None:
        """Go through throttles and findings in log order."""
        rules = self.pack.rules.rules
        by_position: dict[int, list[Rule]] = {position: [] for position in throttles}
        for position, index in zip(held.positions.tolist(), held.rules.tolist(), strict=True):
            by_position.setdefault(position, []).append(rules[index])
        positions = sorted(by_position)
        keys = batch.keys.gather(positions).to_list()
        times_ms = batch.times_ms[positions].tolist()
        for position, key, time_ms, watermark_ms in zip(
            positions, keys, times_ms, watermarks[positions].tolist(), strict=True
        ):
            result.outputs.extend(self.incidents.close_due(watermark_ms))
            result.outputs.extend(throttles.get(position, ()))
            for rule in by_position[position]:
                result.findings[rule.spec.id] += 1
                if not self.incidents.suppress(rule, key, time_ms):
                    result.outputs.extend(self._alert(rule, frame, position, key, time_ms))

    def advance(self, watermark_ms: int) -> StageOutputs:
        """Let event time pass: closes the incidents whose time has come."""
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        return StageOutputs(outputs=list(self.incidents.close_due(self.watermark_ms)))

    def _columns(
        self, batch: EventBatch, result: StageOutputs
    ) -> tuple[pl.DataFrame, LimitColumns, npt.NDArray[np.bool_]]:
        """All columns that rules read (events, limits, derived, features); who is not late."""
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
        result.late = int(features.late.sum())
        result.events.update(batch.count_by_type(~features.late))
        result.skipped = features.skipped
        return frame, limits, ~features.late

    def _alert(
        self, rule: Rule, frame: pl.DataFrame, position: int, key: str, time_ms: int
    ) -> Iterator[Output]:
        """An alert with its incident and, if the rule acts, its decision."""
        event_id = frame["event_id"][position]
        incident = self.incidents.alert(rule, key, time_ms, event_id)
        alert = self._explained(rule, incident, frame, position, time_ms, event_id)
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

    def _explained(
        self,
        rule: Rule,
        incident: Incident,
        frame: pl.DataFrame,
        position: int,
        time_ms: int,
        event_id: str,
    ) -> Alert:
        spec = rule.spec
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
            key=incident.key,
            time_ms=time_ms,
            event_id=event_id,
            sequence=incident.alerts,
            suppressed=incident.suppressed,
            summary=f"{spec.title}: {held}"[:_MAX_SUMMARY_CHARACTERS],
            evidence=evidence,
            context={name: value for name, value in context.items() if value is not None},
            runbook=spec.runbook,
            tags=spec.tags,
            action=spec.action,
        )

    def _throttles(
        self, batch: EventBatch, limits: LimitColumns, eligible: npt.NDArray[np.bool_]
    ) -> dict[int, list[Decision]]:
        """By position, decisions to throttle an action whose limit was exceeded.

        None while the action is throttled already.
        """
        spec = self.pack.limits.spec
        made: dict[int, list[Decision]] = {}
        for action in spec.actions:
            of_action = [i for i, limit in enumerate(spec.limits) if limit.action == action]
            over = limits.over[of_action] & eligible
            positions = np.flatnonzero(over.any(axis=0)).tolist()
            if not positions:
                continue
            first = over[:, positions].argmax(axis=0).tolist()
            users = batch.keys.gather(positions).to_list()
            times_ms = batch.times_ms[positions].tolist()
            for position, user_id, time_ms, limit in zip(
                positions, users, times_ms, first, strict=True
            ):
                if self._throttled_until_ms[action].get(user_id, _NEVER_MS) <= time_ms:
                    name = spec.limits[of_action[limit]].name
                    retry_ms = int(limits.retry_ms[position])
                    event_id = batch.frame["event_id"][position]
                    decision = self._throttle(user_id, action, name, time_ms, retry_ms, event_id)
                    made.setdefault(position, []).append(decision)
        return made

    def _throttle(
        self, user_id: str, action: str, limit: str, time_ms: int, retry_ms: int, event_id: str
    ) -> Decision:
        expires_ms = max(retry_ms, time_ms + self.pack.limits.spec.decision_ms)
        until_ms = self._throttled_until_ms[action]
        until_ms.pop(user_id, None)
        until_ms[user_id] = expires_ms
        if len(until_ms) > _MAX_THROTTLED_USERS:  # the longest standing one is forgotten
            del until_ms[next(iter(until_ms))]
        return Decision(
            decision_id=stable_id("dec", user_id, limit, event_id),
            user_id=user_id,
            kind="throttle",
            scope=action,
            reason=f"limit:{limit}",
            time_ms=time_ms,
            expires_ms=expires_ms,
        )
