"""Stages: the steps of the topology, each a function of its state and the batch it is given.

A stage keeps the state of one partition. However the partition's log is cut into batches, the
concatenated outputs are the same: every value at an event depends on the events before it and on
nothing else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import polars as pl

from detectors.anomaly import ANOMALY_COLUMNS, AnomalyColumns, AnomalyScorer, FixedModels, Models
from detectors.batch import CONTEXT_COLUMNS, EventBatch
from detectors.drift import worst_drift
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
from detectors.limits import Limiter
from detectors.pressure import AlertBound, AlertBudget, EvictionWindow, measured
from detectors.state.blocks import DEFAULT_BLOCK_ROWS, Stateful, entry
from detectors.state.rows import RowState
from detectors.state.stage import StageState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from detectors.compiled import CompiledPack
    from detectors.limits import Throttle
    from detectors.rules import Condition, Held, Rule
    from detectors.state.blocks import Layout, Restored, Snapshot, StateBlock
    from detectors.state.fields import RowPart

__all__ = ["Stage", "StageOutputs", "UserStage"]

_NEVER_MS: Final = -(2**62)
_MAX_SUMMARY_CHARACTERS: Final = 240
_MIN_INCIDENTS_OF_A_RULE: Final = 1_000


@dataclass(slots=True)
class StageOutputs:
    """What a stage made of a batch, in log order, and what it counted.

    ``events`` counts by type what was processed. ``late`` events were too old for every window of
    their key: they changed nothing and are not among ``events``. ``skipped`` counts of shorter
    windows did not take an event. ``findings`` counts by id of the pack's rules; those of them that
    the bound on alerts held back are ``shed``. ``rule_errors`` maps rule ids to the reason they
    could not be evaluated. ``scored`` events were given an anomaly score, ``anomalous`` of them one
    at which the model was calibrated to alert; ``disagreed`` counts where the champion or the
    challenger alone would. ``drift`` is the newest PSI by feature, if an hour ended.
    """

    outputs: list[Output] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    shed: Counter[str] = field(default_factory=Counter)
    late: int = 0
    skipped: int = 0
    rule_errors: dict[str, str] = field(default_factory=dict)
    scored: int = 0
    anomalous: int = 0
    disagreed: Counter[str] = field(default_factory=Counter)
    drift: dict[str, float] = field(default_factory=dict)


class Stage(Stateful, Protocol):
    """A step of the topology over one partition."""

    def process(self, batch: EventBatch) -> StageOutputs:
        """Apply a batch in order."""
        ...

    def advance(self, watermark_ms: int) -> StageOutputs:
        """Let event time pass without events."""
        ...


@dataclass(frozen=True, slots=True)
class _Columns:
    """The events of a batch with all columns, who is ``eligible`` for a finding (not late; n,).

    Also what limits throttle, and the positions where a new user took the row of another.
    """

    frame: pl.DataFrame
    throttled: list[Throttle]
    eligible: npt.NDArray[np.bool_]
    evicting: npt.NDArray[np.int64]
    anomalies: AnomalyColumns


@dataclass(frozen=True, slots=True)
class _Notice:
    """Something to say about the monitor itself: a built-in rule, its key, what was measured."""

    rule: Rule
    key: str
    measurements: dict[str, float]


class UserStage:
    """Limits, features, anomaly scores, rules and incidents of the users of one partition."""

    def __init__(
        self,
        pack: CompiledPack,
        max_users: int,
        block_rows: int = DEFAULT_BLOCK_ROWS,
        models: Models | None = None,
    ) -> None:
        self.pack = pack
        self.keys = KeyTable(max_users, block_rows)
        self.features = Features(pack.features, max_users)
        self.limiter = Limiter(pack.limits, max_users)
        self.anomalies = AnomalyScorer(max_users, pack.scored_schema)
        self._models = models or FixedModels()
        self.incidents = IncidentTracker()
        self.incidents.rule_capacity = max(
            _MIN_INCIDENTS_OF_A_RULE, self.incidents.capacity // len(pack.all_rules)
        )
        rule_ids = [rule.spec.id for rule in pack.rules.rules]
        self.alert_budget = AlertBudget.of(rule_ids, AlertBound())
        self.evictions = EvictionWindow(max_users)
        self.watermark_ms = _NEVER_MS
        definitions = {derived.name: derived.sql for derived in pack.pack.derived}
        parts: dict[str, RowPart] = {
            "features": self.features,
            "limits": self.limiter,
            "anomalies": self.anomalies,
        }
        rows = RowState(self.keys, parts, definitions)
        self._state = StageState("user", rows, self.incidents)

    @property
    def bytes_per_user(self) -> int:
        """State kept for one user in the dense tables, bytes (open incidents come on top)."""
        parts = (self.keys, self.features, self.limiter, self.anomalies)
        return sum(part.bytes_per_row for part in parts)

    def snapshot(self, *, full: bool = False) -> Snapshot:
        """See ``Stateful``."""
        rest = {
            "watermark_ms": self.watermark_ms,
            "alert_budget": self.alert_budget.state(),
            "evictions": self.evictions.state(),
            "anomalies": self.anomalies.state(),
        }
        return self._state.snapshot(rest, full=full)

    def restore(self, layout: Layout, blocks: Iterable[StateBlock]) -> Restored:
        """See ``Stateful``."""
        restored, rest = self._state.restore(layout, blocks, self.pack.all_rules)
        self.watermark_ms = entry(rest, "watermark_ms", "stage")
        self.alert_budget.restore(entry(rest, "alert_budget", "stage"))
        self.evictions.restore(entry(rest, "evictions", "stage"))
        if "anomalies" in rest:  # since there are models
            self.anomalies.restore(rest["anomalies"], self._models)
        return restored

    @property
    def models(self) -> str:
        """The name of the models that score."""
        return self.anomalies.models.name

    def use_models(self, name: str) -> None:
        """Score with the models of this name from the next event on.

        Raises:
            StateError: they are not to be had.
        """
        self.anomalies.use(self._models.named(name))

    def process(self, batch: EventBatch) -> StageOutputs:
        """Apply a batch of events in order; see ``StageOutputs``."""
        result = StageOutputs()
        if not len(batch):
            return result
        watermarks = np.maximum.accumulate(np.maximum(batch.times_ms, self.watermark_ms))
        columns = self._columns(batch, watermarks, result)
        held = self.pack.rules.held(columns.frame, columns.eligible)
        result.rule_errors = held.errors
        throttles = self._throttles(batch, columns.throttled)
        notices = self._notices(columns, watermarks)
        if throttles or notices or len(held.positions):
            self._findings(batch, columns, held, watermarks, throttles, notices, result)
        self.watermark_ms = int(watermarks[-1])
        result.outputs.extend(self.incidents.close_due(self.watermark_ms))
        return result

    def _findings(
        self,
        batch: EventBatch,
        columns: _Columns,
        held: Held,
        watermarks: npt.NDArray[np.int64],
        throttles: dict[int, list[Decision]],
        notices: dict[int, list[_Notice]],
        result: StageOutputs,
    ) -> None:
        """Go through throttles, what is to say about the monitor, and findings, in log order."""
        rules = self.pack.rules.rules
        by_position: dict[int, list[Rule]] = {at: [] for at in (*throttles, *notices)}
        for position, index in zip(held.positions.tolist(), held.rules.tolist(), strict=True):
            by_position.setdefault(position, []).append(rules[index])
        positions = sorted(by_position)
        keys = batch.keys.gather(positions).to_list()
        times_ms = batch.times_ms[positions].tolist()
        outputs = result.outputs
        for position, key, time_ms, now_ms in zip(
            positions, keys, times_ms, watermarks[positions].tolist(), strict=True
        ):
            outputs.extend(self.incidents.close_due(now_ms))
            outputs.extend(throttles.get(position, ()))
            for notice in notices.get(position, ()):
                outputs.extend(self._notify(notice, columns, position, now_ms))
            for rule in by_position[position]:
                rule_id = rule.spec.id
                result.findings[rule_id] += 1
                if self.incidents.suppress(rule, key, time_ms):
                    continue
                if self.alert_budget.take(rule_id, now_ms):
                    evidence = rule.evidence(_cells(columns.frame, position, rule.when.columns))
                    outputs.extend(self._alert(rule, evidence, columns, position, key, time_ms))
                else:
                    result.shed[rule_id] += 1
                    self.incidents.shed(rule, key, time_ms)
                    storm = self.alert_budget.storm(rule_id, now_ms)
                    about = _Notice(self.pack.alert_storm, rule_id, storm)
                    outputs.extend(self._notify(about, columns, position, now_ms))

    def _notices(
        self, columns: _Columns, watermarks: npt.NDArray[np.int64]
    ) -> dict[int, list[_Notice]]:
        """By position: too many users were evicted lately, the model's features have drifted."""
        made: dict[int, list[_Notice]] = {}
        evicting = columns.evicting
        for index, count in self.evictions.add(watermarks[evicting]):
            about = _Notice(self.pack.table_pressure, "users", self.evictions.pressure(count))
            made.setdefault(int(evicting[index]), []).append(about)
        for position, drift in columns.anomalies.drifts.items():
            measurements = worst_drift(drift)
            if measurements:
                about = _Notice(self.pack.model_drift, "model", measurements)
                made.setdefault(position, []).append(about)
        return made

    def _notify(
        self, notice: _Notice, columns: _Columns, position: int, now_ms: int
    ) -> Iterator[Output]:
        """Alert on the monitor itself, unless that is in cooldown."""
        if not self.incidents.suppress(notice.rule, notice.key, now_ms):
            evidence = measured(notice.rule, notice.measurements)
            yield from self._alert(notice.rule, evidence, columns, position, notice.key, now_ms)

    def advance(self, watermark_ms: int) -> StageOutputs:
        """Let event time pass: closes the incidents whose time has come."""
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        return StageOutputs(outputs=list(self.incidents.close_due(self.watermark_ms)))

    def _columns(
        self, batch: EventBatch, watermarks: npt.NDArray[np.int64], result: StageOutputs
    ) -> _Columns:
        """Everything that rules read: events, limits, derived, features, anomaly scores."""
        room = self.keys.capacity - len(self.keys)
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
        eligible = ~features.late
        anomalies = self.anomalies.apply(frame, batch.times_ms, rows, fresh, eligible, watermarks)
        frame = frame.hstack(anomalies.frame)
        result.late = int(features.late.sum())
        result.events.update(batch.count_by_type(eligible))
        result.skipped = features.skipped
        result.scored, result.anomalous = anomalies.scored, anomalies.alerting
        result.disagreed = anomalies.disagreed
        for drift in anomalies.drifts.values():
            result.drift = drift
        throttled = self.limiter.throttle(limits, batch.times_ms, rows, fresh, eligible)
        return _Columns(frame, throttled, eligible, np.flatnonzero(fresh)[room:], anomalies)

    def _alert(
        self,
        rule: Rule,
        evidence: tuple[Condition, ...],
        columns: _Columns,
        position: int,
        key: str,
        time_ms: int,
    ) -> Iterator[Output]:
        """An alert with its incident and, if the rule acts, its decision."""
        event_id = columns.frame["event_id"][position]
        incident = self.incidents.alert(rule, key, time_ms, event_id)
        alert = self._explained(rule, incident, evidence, columns, position, time_ms, event_id)
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
        yield from self.incidents.evict_over_rule_capacity(rule)
        yield from self.incidents.evict_over_capacity()

    def _explained(
        self,
        rule: Rule,
        incident: Incident,
        evidence: tuple[Condition, ...],
        columns: _Columns,
        position: int,
        time_ms: int,
        event_id: str,
    ) -> Alert:
        spec = rule.spec
        context = _cells(columns.frame, position, CONTEXT_COLUMNS)
        anomaly = None
        if rule.when.columns & ANOMALY_COLUMNS.keys():
            anomaly = self.anomalies.explain(columns.frame, columns.anomalies, position, time_ms)
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
            summary=f"{spec.title}: {anomaly.main if anomaly else held}"[:_MAX_SUMMARY_CHARACTERS],
            evidence=evidence,
            context={name: value for name, value in context.items() if value is not None},
            runbook=spec.runbook,
            tags=spec.tags,
            action=spec.action,
            anomaly=anomaly,
        )

    def _throttles(self, batch: EventBatch, throttled: list[Throttle]) -> dict[int, list[Decision]]:
        """By position, the decisions to throttle an action whose limit was exceeded."""
        made: dict[int, list[Decision]] = {}
        positions = [throttle.position for throttle in throttled]
        users = batch.keys.gather(positions).to_list()
        events = batch.frame["event_id"].gather(positions).to_list()
        for throttle, user_id, event_id in zip(throttled, users, events, strict=True):
            decision = Decision(
                decision_id=stable_id("dec", user_id, throttle.limit, event_id),
                user_id=user_id,
                kind="throttle",
                scope=throttle.action,
                reason=f"limit:{throttle.limit}",
                time_ms=int(batch.times_ms[throttle.position]),
                expires_ms=throttle.expires_ms,
            )
            made.setdefault(throttle.position, []).append(decision)
        return made


def _cells(frame: pl.DataFrame, position: int, columns: Iterable[str]) -> dict[str, Any]:
    """Some cells of one row: ten times faster than to select the columns."""
    return {name: frame.item(position, name) for name in columns}
