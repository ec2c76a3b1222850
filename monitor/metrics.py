"""What Floodwatch measures of itself, for Prometheus (every name: ``docs/metrics.md``).

One ``Metrics`` with a registry of its own is made in the composition root and passed down. Label
values are bounded: event types, reasons, rules, topics and partitions, never anything a user or
a producer can choose. The clocks are given, as everywhere.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)

from detectors.events import EVENT_TYPES
from detectors.group_stage import GroupStage
from detectors.incidents import Alert, IncidentUpdate, Output
from detectors.pack import RuleSpec
from detectors.pressure import BUILT_IN_RULES
from detectors.shared_stage import SharedStage
from detectors.stages import UserStage
from monitor.event_metrics import DelayHistogram, PartitionStalls
from monitor.wire import Reason

if TYPE_CHECKING:
    from detectors.pack import Pack
    from monitor.pipeline import PipelineResult

__all__ = ["AnyStage", "Metrics"]

AnyStage: TypeAlias = UserStage | SharedStage | GroupStage

_CHUNK_BUCKETS: Final = (1, 10, 50, 100, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000)
_PROCESSING_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_DELAY_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800)
_USER_KEYS: Final = "user"
_SHARED_KEYS: Final = "shared"
_PAIRS: Final = "pair"


class Metrics:
    """All metrics and the registry that holds them: the observer of a worker or a runner.

    ``delay_s`` says how long ago an event time (ms) was: by the wall clock, or by the schedule of
    a simulation. ``clock`` is any monotonic clock, in seconds. Methods return at once and may
    be called from one thread while others scrape.
    """

    def __init__(
        self,
        *,
        version: str,
        pack: Pack,
        clock: Callable[[], float],
        delay_s: Callable[[int], float],
    ) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._delay_s = delay_s
        self._last_event_s = clock()
        self._rules: dict[str, RuleSpec] = {rule.id: rule for rule in pack.rules}
        self._unsaved_s: dict[int | str, float] = {}
        self._stages: dict[int | str, weakref.ref[AnyStage]] = {}
        self._evicted: dict[int | str, tuple[int, int]] = {}
        ProcessCollector(namespace="floodwatch", registry=self.registry)
        Info("floodwatch_build", "What runs: version and pack.", registry=self.registry).info(
            {"version": version, "pack": pack.name, "pack_version": pack.version}
        )
        self._event_delay = DelayHistogram(self.registry)
        self._stalls = PartitionStalls(clock, self.registry)
        self._define_input()
        self._define_output()
        self._define_state()
        self._define_checkpoints()
        self._define_models()
        self._define_traces()
        # Series exist from the start, so that "nothing yet" is 0 and not absent.
        for event_type in EVENT_TYPES:
            self._events.labels(event_type)
        for rule in pack.rules:
            self._findings.labels(rule.id, rule.severity, rule.mode)
            self._alerts.labels(rule.id, rule.severity, rule.mode)
            self._rule_errors.labels(rule.id)
            self._shed.labels(rule.id)
            if rule.action is not None:
                self._decisions.labels(rule.action.kind, rule.action.scope, "rule", rule.id)
        for limit in pack.limits.limits:
            self._decisions.labels("throttle", limit.action, "limit", limit.name)
        for about in BUILT_IN_RULES:
            self._alerts.labels(about.id, about.severity, about.mode)
        for alone in ("champion", "challenger"):
            self._disagreements.labels(alone)
        for key_space in (_USER_KEYS, _SHARED_KEYS, _PAIRS):
            self._key_evictions.labels(key_space)
        for key in () if pack.shared is None else pack.shared.keys:
            self._traces.labels(key.name)
        for state in ("opened", "updated", "closed"):
            self._campaigns.labels(state)

    def reads(self, events: Sequence[str], rows: Sequence[str]) -> None:
        """Topics of events, and of rows between stages: have their series from the start."""
        for reason in Reason:
            for topic in rows if reason is Reason.NOT_TRACES else events:
                self._dead_letters.labels(topic, reason)

    def assigned(self, partitions: int) -> None:
        """This many partitions (of each input topic) are ours now; 0 while the group settles."""
        self._partitions.set(partitions)
        if not partitions:
            self._lag.clear()
            self._held_back.clear()
            self._unsaved_s.clear()
            self._stalls.forget()

    def chunk_received(self, topic: str, partition: int | str, records: int) -> None:
        """A chunk arrived."""
        self._chunk_records.observe(records)

    def acknowledged(self, received_ms: Sequence[int]) -> None:
        """What came of records is acknowledged; the log received them at ``received_ms``."""
        times_ms = np.asarray(received_ms, dtype=np.int64)
        times_ms = times_ms[times_ms >= 0]  # -1: the log did not say
        if len(times_ms):
            first_ms = int(times_ms[0])
            self._event_delay.observe(self._delay_s(first_ms) - (times_ms - first_ms) / 1_000)

    def chunk_processed(
        self, partition: int | str, result: PipelineResult, elapsed_s: float
    ) -> None:
        """A partition made ``result`` in ``elapsed_s``, and its outputs are safe."""
        counts = result.counts
        self._stalls.moved(str(partition))
        self._unsaved_s.setdefault(partition, self._clock())
        self._processing.observe(elapsed_s)
        self._late.inc(counts.late)
        self._skipped.inc(counts.skipped)
        for event_type, count in counts.events.items():
            self._events.labels(event_type).inc(count)
        for rule_id, count in counts.findings.items():
            rule = self._rules[rule_id]
            self._findings.labels(rule.id, rule.severity, rule.mode).inc(count)
        for rule_id, count in counts.shed.items():
            self._shed.labels(rule_id).inc(count)
        for rule_id, count in counts.rule_errors.items():
            self._rule_errors.labels(rule_id).inc(count)
        self._scored.inc(counts.scored)
        self._anomalous.inc(counts.anomalous)
        for alone, count in counts.disagreed.items():
            self._disagreements.labels(alone).inc(count)
        self._late_traces.inc(counts.late_traces)
        self._truncated.inc(counts.truncated)
        self._missing.inc(counts.missing)
        for state, count in counts.campaigns.items():
            self._campaigns.labels(state).inc(count)
        for space, count in counts.touched.items():
            self._traces.labels(space).inc(count)
        for feature, psi in counts.drift.items():
            self._drift.labels(feature, str(partition)).set(psi)
        self._count_outputs(result.outputs)
        self._count_evictions()
        if counts.events:
            self._last_event_s = self._clock()

    def dead_letter(self, topic: str, reason: str) -> None:
        """A record of ``topic`` was put aside for ``reason`` (a code)."""
        self._dead_letters.labels(topic, reason).inc()

    def published(self, topic: str, messages: int, elapsed_s: float) -> None:
        """The broker acknowledged ``messages`` after ``elapsed_s``."""
        self._published.labels(topic).inc(messages)
        self._publishing.observe(elapsed_s)

    def publish_failed(self, attempt: int, error: Exception) -> None:
        """An attempt to publish failed; it is repeated or the worker stops."""
        self._publish_failures.inc()

    def lag(self, topic: str, partition: int, records: int, *, stage: str = "") -> None:
        """Records of an input partition that are not applied yet; of a ``stage`` after users."""
        self._lag.labels(topic, str(partition)).set(records)
        self._stalls.waits(f"{stage}-{partition}" if stage else str(partition), topic, records)

    def held_back(self, topic: str, partition: int | str, events: int) -> None:
        """Events of an input partition that wait for other topics to catch up."""
        self._held_back.labels(topic, str(partition)).set(events)

    def checkpoint_written(
        self, partition: int | str, *, elapsed_s: float, blocks: int, stored_bytes: int
    ) -> None:
        """A checkpoint of a partition is valid, ``elapsed_s`` after its snapshot was taken."""
        self._checkpoints.inc()
        self._checkpoint_time.observe(elapsed_s)
        self._checkpoint_blocks.inc(blocks)
        self._checkpoint_bytes.inc(stored_bytes)
        self._unsaved_s.pop(partition, None)

    def restored(self, partition: int | str, *, elapsed_s: float, rows: int, replayed: int) -> None:
        """A partition's state was restored in ``elapsed_s``."""
        self._restoring.observe(elapsed_s)
        self._restored_rows.inc(rows)
        stage = self._stages[partition]() if partition in self._stages else None
        if stage is not None:  # what it evicted before was counted before
            self._evicted[partition] = (stage.keys.evicted, stage.incidents.evicted)

    def watch_stage(self, partition: int | str, stage: AnyStage) -> None:
        """Show the size of a partition's state from now on, until the stage is gone."""
        self._stalls.assigned(str(partition))
        self._stages[partition] = weakref.ref(stage)
        self._evicted[partition] = (0, 0)

    def _count_outputs(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            if isinstance(output, Alert):
                self._alerts.labels(output.rule_id, output.severity, output.mode).inc()
                self._alert_delay.observe(max(0.0, self._delay_s(output.time_ms)))
            elif isinstance(output, IncidentUpdate):
                self._incidents.labels(output.state).inc()
            else:
                made_by, _, reason = output.reason.partition(":")
                self._decisions.labels(output.kind, output.scope, made_by, reason).inc()

    def _count_evictions(self) -> None:
        for partition, reference in self._stages.items():
            stage = reference()
            if stage is not None:
                now = (stage.keys.evicted, stage.incidents.evicted)
                before = self._evicted[partition]
                self._evicted[partition] = now
                self._key_evictions.labels(_keys_of(stage)).inc(now[0] - before[0])
                self._incident_evictions.inc(now[1] - before[1])

    def _live_stages(self, keys: str | None = None) -> Iterator[AnyStage]:
        """The stages that are there; only those whose keys are called ``keys``, if given."""
        for reference in list(self._stages.values()):
            stage = reference()
            if stage is not None and keys in (None, _keys_of(stage)):
                yield stage

    def _rows(self, keys: str) -> int:
        return sum(len(stage.keys) for stage in self._live_stages(keys))

    def _capacity(self, keys: str) -> int:
        return sum(stage.keys.capacity for stage in self._live_stages(keys))

    def _define_traces(self) -> None:
        self._traces = Counter(
            "floodwatch_traces_total",
            "Traces processed: a user touched a shared key.",
            ["key_space"],
            registry=self.registry,
        )
        self._missing = Counter(
            "floodwatch_missing_traces_total",
            "Traces and meetings that a stage was never told of.",
            registry=self.registry,
        )
        self._truncated = Counter(
            "floodwatch_truncated_meetings_total",
            "Meetings left out, as there were too many at one trace.",
            registry=self.registry,
        )
        self._campaigns = Counter(
            "floodwatch_campaigns_total",
            "Campaigns opened, updated and closed.",
            ["state"],
            registry=self.registry,
        )
        self._late_traces = Counter(
            "floodwatch_late_traces_total",
            "Traces too old for every window of their key.",
            registry=self.registry,
        )

    def _define_input(self) -> None:
        registry, of_partition = self.registry, ["topic", "partition"]
        self._events = Counter(
            "floodwatch_events_total",
            "Events processed; late ones are not among them.",
            ["type"],
            registry=registry,
        )
        self._dead_letters = Counter(
            "floodwatch_dead_letters_total",
            "Records that could not be decoded or used, and were put aside.",
            ["source", "reason"],
            registry=registry,
        )
        self._late = Counter(
            "floodwatch_late_events_total",
            "Events too old for every window: they changed nothing.",
            registry=registry,
        )
        self._skipped = Counter(
            "floodwatch_skipped_counts_total",
            "Counts of a window that an event was too old for, while longer windows took it.",
            registry=registry,
        )
        self._chunk_records = Histogram(
            "floodwatch_chunk_records",
            "Records in a chunk of one partition.",
            buckets=_CHUNK_BUCKETS,
            registry=registry,
        )
        self._processing = Histogram(
            "floodwatch_processing_seconds",
            "Time to merge and detect once, for one partition.",
            buckets=_PROCESSING_BUCKETS,
            registry=registry,
        )
        self._lag = Gauge(
            "floodwatch_consumer_lag_records",
            "Records of an input partition that are not applied yet.",
            of_partition,
            registry=registry,
        )
        self._held_back = Gauge(
            "floodwatch_held_back_events",
            "Events of an input partition that wait for other topics to catch up.",
            of_partition,
            registry=registry,
        )
        self._partitions = Gauge(
            "floodwatch_assigned_partitions",
            "Partition numbers this process works on.",
            registry=registry,
        )
        Gauge(
            "floodwatch_last_event_age_seconds",
            "Seconds since the last event was processed (since the start, if none was).",
            registry=registry,
        ).set_function(lambda: max(0.0, self._clock() - self._last_event_s))

    def _define_output(self) -> None:
        registry, of_rule = self.registry, ["rule", "severity", "mode"]
        self._findings = Counter(
            "floodwatch_findings_total", "Events at which a rule held.", of_rule, registry=registry
        )
        self._alerts = Counter(
            "floodwatch_alerts_total", "Findings that passed cooldown.", of_rule, registry=registry
        )
        self._alert_delay = Histogram(
            "floodwatch_alert_delay_seconds",
            "From the time of the event to the alert about it, acknowledged.",
            buckets=_DELAY_BUCKETS,
            registry=registry,
        )
        self._incidents = Counter(
            "floodwatch_incident_updates_total",
            "Incidents opened, updated and closed.",
            ["state"],
            registry=registry,
        )
        self._decisions = Counter(
            "floodwatch_decisions_total",
            "Decisions about users; made_by is rule or limit, reason its id or name.",
            ["kind", "scope", "made_by", "reason"],
            registry=registry,
        )
        self._rule_errors = Counter(
            "floodwatch_rule_errors_total",
            "Evaluations of a rule on a batch that failed.",
            ["rule"],
            registry=registry,
        )
        self._shed = Counter(
            "floodwatch_shed_findings_total",
            "Findings beyond a rule's bound on alerts: neither alert nor incident.",
            ["rule"],
            registry=registry,
        )
        self._published = Counter(
            "floodwatch_published_messages_total",
            "Messages that the broker acknowledged.",
            ["topic"],
            registry=registry,
        )
        self._publish_failures = Counter(
            "floodwatch_publish_failures_total",
            "Attempts to publish that failed.",
            registry=registry,
        )
        self._publishing = Histogram(
            "floodwatch_publish_seconds",
            "Time until the broker acknowledged a batch of messages.",
            buckets=_DELAY_BUCKETS,
            registry=registry,
        )

    def _define_models(self) -> None:
        registry = self.registry
        self._scored = Counter(
            "floodwatch_scored_events_total",
            "Events at which a user was due and given an anomaly score.",
            registry=registry,
        )
        self._anomalous = Counter(
            "floodwatch_anomalous_events_total",
            "Scored events at or above the rank at which the champion was calibrated to alert.",
            registry=registry,
        )
        self._disagreements = Counter(
            "floodwatch_model_disagreements_total",
            "Scored events at which the champion or the challenger alone would alert.",
            ["alone"],
            registry=registry,
        )
        self._drift = Gauge(
            "floodwatch_model_drift_psi",
            "Population stability index of a feature in the last full hour; above 0.25 it drifted.",
            ["feature", "partition"],
            registry=registry,
        )

    def _define_state(self) -> None:
        registry, of_key_space = self.registry, ["key_space"]
        rows = Gauge("floodwatch_key_rows", "Keys kept in memory.", of_key_space, registry=registry)
        capacity = Gauge(
            "floodwatch_key_rows_capacity",
            "Most keys kept in memory; beyond it keys are evicted.",
            of_key_space,
            registry=registry,
        )
        for keys in (_USER_KEYS, _SHARED_KEYS, _PAIRS):
            rows.labels(keys).set_function(partial(self._rows, keys))
            capacity.labels(keys).set_function(partial(self._capacity, keys))
        Gauge(
            "floodwatch_open_incidents", "Incidents that are open.", registry=registry
        ).set_function(lambda: sum(len(stage.incidents) for stage in self._live_stages()))
        self._key_evictions = Counter(
            "floodwatch_key_evictions_total",
            "Keys evicted for lack of room.",
            of_key_space,
            registry=registry,
        )
        self._incident_evictions = Counter(
            "floodwatch_incident_evictions_total",
            "Incidents closed early for lack of room.",
            registry=registry,
        )

    def _define_checkpoints(self) -> None:
        registry = self.registry
        self._checkpoints = Counter(
            "floodwatch_checkpoints_total",
            "Checkpoints of partitions that became valid.",
            registry=registry,
        )
        self._checkpoint_time = Histogram(
            "floodwatch_checkpoint_seconds",
            "From the snapshot of a partition's state until its checkpoint was valid.",
            buckets=_DELAY_BUCKETS,
            registry=registry,
        )
        self._checkpoint_blocks = Counter(
            "floodwatch_checkpoint_blocks_total",
            "Blocks of rows written for checkpoints.",
            registry=registry,
        )
        self._checkpoint_bytes = Counter(
            "floodwatch_checkpoint_bytes_total",
            "Compressed bytes written for checkpoints.",
            registry=registry,
        )
        self._restoring = Histogram(
            "floodwatch_restore_seconds",
            "Time to restore the state of a partition, after Faust has read the changelog.",
            buckets=_DELAY_BUCKETS,
            registry=registry,
        )
        self._restored_rows = Counter(
            "floodwatch_restored_rows_total",
            "Keys whose state was restored from a checkpoint.",
            registry=registry,
        )
        Gauge(
            "floodwatch_oldest_unsaved_seconds",
            "Age of the oldest work that no checkpoint covers; 0 if there is none.",
            registry=registry,
        ).set_function(self._oldest_unsaved_s)

    def _oldest_unsaved_s(self) -> float:
        times_s = list(self._unsaved_s.values())
        return max(0.0, self._clock() - min(times_s)) if times_s else 0.0


def _keys_of(stage: AnyStage) -> str:
    """What a stage keeps rows for, as the label of metrics."""
    if isinstance(stage, GroupStage):
        return _PAIRS
    return _SHARED_KEYS if isinstance(stage, SharedStage) else _USER_KEYS
