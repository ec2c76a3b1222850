"""Stages: the steps of the topology, each a function of its state and the batch it is given.

A stage keeps the state of one partition. However the partition's log is cut into batches, the
concatenated outputs are the same: every value at an event depends on the events before it and on
nothing else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import polars as pl

from detectors.alerting import Alerting, Finding, Moment, Notice, Sheet
from detectors.anomaly import ANOMALY_COLUMNS, AnomalyColumns, AnomalyScorer, FixedModels, Models
from detectors.batch import EventBatch
from detectors.drift import worst_drift
from detectors.expressions import extend
from detectors.features import Features
from detectors.incidents import Decision, IncidentTracker, Output, stable_id
from detectors.keys import KeyTable, hash_strings
from detectors.limits import Limiter
from detectors.pressure import EvictionWindow
from detectors.state.blocks import DEFAULT_BLOCK_ROWS, Stateful, entry
from detectors.state.rows import RowState
from detectors.state.stage import StageState
from detectors.traces import Tracer
from detectors.volume import VolumeSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from detectors.anomaly import Explanation
    from detectors.compiled import CompiledPack
    from detectors.limits import Throttle
    from detectors.rules import Held, Rule
    from detectors.state.blocks import Layout, Restored, Snapshot, StateBlock
    from detectors.state.fields import RowPart

__all__ = ["Stage", "StageOutputs", "UserStage"]

_NEVER_MS: Final = -(2**62)


@dataclass(slots=True)
class StageOutputs:
    """What a stage made of a batch, in log order, and what it counted.

    ``events`` counts by type what was processed. ``late`` events were too old for every window of
    their key: they changed nothing and are not among ``events``. ``skipped`` counts of shorter
    windows did not take an event. ``findings`` counts by id of the pack's rules; those of them that
    the bound on alerts held back are ``shed``. ``rule_errors`` maps rule ids to the reason they
    could not be evaluated. ``scored`` events were given an anomaly score, ``anomalous`` of them one
    at which the model was calibrated to alert; ``disagreed`` counts where the champion or the
    challenger alone would. ``drift`` is the newest PSI by feature, if an hour ended. ``traces``
    are for the stage of shared keys (see ``detectors.traces``), None where the pack has none;
    that stage counts those it processed as ``touched`` by key space, and those too old for every
    window of their key as ``late_traces``. ``meetings`` are for the stage of groups (see
    ``detectors.meetings``); ``truncated`` were left out, as there were too many at one trace.
    ``campaigns`` counts those opened, updated and closed.
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
    traces: pl.DataFrame | None = None
    touched: Counter[str] = field(default_factory=Counter)
    late_traces: int = 0
    truncated: int = 0
    meetings: pl.DataFrame | None = None
    campaigns: Counter[str] = field(default_factory=Counter)


class Stage(Stateful, Protocol):
    """A step of the topology over one partition."""

    def process(self, batch: Any) -> StageOutputs:  # noqa: ANN401 - events, or rows of a frame
        """Apply a batch, of events or of what the stage before made, in order."""
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
        self.alerting = Alerting(
            pack.version, pack.rules.rules, pack.alert_storm, len(pack.all_rules)
        )
        self.evictions = EvictionWindow(max_users)
        self.watermark_ms = _NEVER_MS
        self.tracer = None if pack.shared is None else Tracer(pack.shared, VolumeSettings())
        definitions = {derived.name: derived.sql for derived in pack.pack.derived}
        parts: dict[str, RowPart] = {
            "features": self.features,
            "limits": self.limiter,
            "anomalies": self.anomalies,
        }
        rows = RowState(self.keys, parts, definitions)
        self._state = StageState("user", rows, self.alerting.incidents)

    @property
    def incidents(self) -> IncidentTracker:
        """The open incidents."""
        return self.alerting.incidents

    @property
    def bytes_per_user(self) -> int:
        """State kept for one user in the dense tables, bytes (open incidents come on top)."""
        parts = (self.keys, self.features, self.limiter, self.anomalies)
        return sum(part.bytes_per_row for part in parts)

    def snapshot(self, *, full: bool = False) -> Snapshot:
        """See ``Stateful``."""
        rest = {
            "watermark_ms": self.watermark_ms,
            "alert_budget": self.alerting.budget.state(),
            "evictions": self.evictions.state(),
            "anomalies": self.anomalies.state(),
            "traces": None if self.tracer is None else self.tracer.state(),
        }
        return self._state.snapshot(rest, full=full)

    def restore(self, layout: Layout, blocks: Iterable[StateBlock]) -> Restored:
        """See ``Stateful``."""
        restored, rest = self._state.restore(layout, blocks, self.pack.all_rules)
        self.watermark_ms = entry(rest, "watermark_ms", "stage")
        self.alerting.budget.restore(entry(rest, "alert_budget", "stage"))
        self.evictions.restore(entry(rest, "evictions", "stage"))
        if "anomalies" in rest:  # since there are models
            self.anomalies.restore(rest["anomalies"], self._models)
        if self.tracer is not None and rest.get("traces"):  # since there are shared keys
            self.tracer.restore(rest["traces"])
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
        moments = self._moments(batch, columns, held, watermarks)
        result.outputs.extend(self.alerting.outputs(moments, result.findings, result.shed))
        if self.tracer is not None:
            result.traces = self.tracer.traces(
                columns.frame, columns.eligible, watermarks, self.watermark_ms
            )
        self.watermark_ms = int(watermarks[-1])
        result.outputs.extend(self.alerting.close_due(self.watermark_ms))
        return result

    def _moments(
        self,
        batch: EventBatch,
        columns: _Columns,
        held: Held,
        watermarks: npt.NDArray[np.int64],
    ) -> Iterator[Moment]:
        """The events at which there is something to say, in log order."""
        throttles = self._throttles(batch, columns.throttled)
        notices = self._notices(columns, watermarks)
        by_position: dict[int, list[Rule]] = {at: [] for at in (*throttles, *notices)}
        for position, index in zip(held.positions.tolist(), held.rules.tolist(), strict=True):
            by_position.setdefault(position, []).append(self.pack.rules.rules[index])
        positions = sorted(by_position)
        sheet = Sheet(columns.frame, partial(self._explain, columns), frozenset(ANOMALY_COLUMNS))
        keys = batch.keys.gather(positions).to_list()
        times_ms = batch.times_ms[positions].tolist()
        for position, key, time_ms, now_ms in zip(
            positions, keys, times_ms, watermarks[positions].tolist(), strict=True
        ):
            yield Moment(
                time_ms,
                now_ms,
                sheet,
                position,
                decisions=throttles.get(position, []),
                notices=notices.get(position, []),
                findings=[Finding(rule, key, sheet, position) for rule in by_position[position]],
            )

    def _explain(self, columns: _Columns, position: int, time_ms: int) -> Explanation | None:
        return self.anomalies.explain(columns.frame, columns.anomalies, position, time_ms)

    def _notices(
        self, columns: _Columns, watermarks: npt.NDArray[np.int64]
    ) -> dict[int, list[Notice]]:
        """By position: too many users were evicted lately, the model's features have drifted."""
        made: dict[int, list[Notice]] = {}
        evicting = columns.evicting
        for index, count in self.evictions.add(watermarks[evicting]):
            about = Notice(self.pack.table_pressure, "users", self.evictions.pressure(count))
            made.setdefault(int(evicting[index]), []).append(about)
        for position, drift in columns.anomalies.drifts.items():
            measurements = worst_drift(drift)
            if measurements:
                about = Notice(self.pack.model_drift, "model", measurements)
                made.setdefault(position, []).append(about)
        return made

    def advance(self, watermark_ms: int) -> StageOutputs:
        """Let event time pass: closes the incidents whose time has come."""
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        return StageOutputs(outputs=list(self.alerting.close_due(self.watermark_ms)))

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
            frame = extend(frame, level)
        features = self.features.apply(frame, batch.times_ms, rows, fresh)
        frame = frame.hstack(features.frame)
        for level in self.pack.feature_derived:
            frame = extend(frame, level)
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
