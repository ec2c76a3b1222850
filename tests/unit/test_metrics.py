"""Metrics: what is counted, what is served, and that all of it is documented."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families

from detectors.batch import EventBatch
from detectors.compiled import compile_pack
from detectors.stages import UserStage
from monitor.health import Health, PortTakenError, port_is_free, serve_metrics
from monitor.metrics import Metrics
from monitor.paging import PagerMetrics
from monitor.pipeline import PipelineResult
from monitor.store.store import Written
from monitor.store_metrics import StoreMetrics
from tests.support.events import random_events, small_pack
from tests.support.outputs import TIME_MS, a_decision, an_alert, an_incident

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
PACK = compile_pack(small_pack())


@dataclass
class Clock:
    """A clock that is set by hand."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


def some_metrics(clock: Clock | None = None) -> Metrics:
    return Metrics(
        version="1.2.3",
        pack=PACK.pack,
        clock=clock or Clock(),
        delay_s=lambda time_ms: (TIME_MS + 400 - time_ms) / 1_000,
    )


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def exercised() -> Metrics:
    """Metrics on which everything has happened once."""
    metrics = some_metrics()
    rule = PACK.pack.rules[0]
    result = PipelineResult(outputs=[an_incident(1), an_alert(1, rule_id=rule.id), a_decision(1)])
    result.counts.events.update({"share.created": 3, "generation.requested": 4})
    result.counts.findings.update({rule.id: 2})
    result.counts.rule_errors.update([rule.id])
    result.counts.late, result.counts.skipped = 5, 6
    result.counts.scored, result.counts.anomalous = 9, 2
    result.counts.disagreed["challenger"] = 1
    result.counts.drift = {"shares_1h": 0.3}
    result.counts.touched["asset"] = 7
    result.counts.late_traces, result.counts.truncated = 2, 8
    result.counts.campaigns["opened"] = 1
    metrics.assigned(2)
    metrics.chunk_received("generation-events", 0, 7)
    metrics.chunk_processed(0, result, 0.02)
    metrics.dead_letter("generation-events", "empty")
    metrics.published("alerts", 3, 0.01)
    metrics.publish_failed(1, OSError("no"))
    metrics.lag("generation-events", 1, 40)
    metrics.held_back("generation-events", 1, 4)
    metrics.acknowledged([TIME_MS, TIME_MS - 600, -1])
    return metrics


def test_a_processed_chunk_is_counted_by_type_rule_and_kind() -> None:
    metrics, rule = exercised(), PACK.pack.rules[0]
    labels = {"rule": rule.id, "severity": rule.severity, "mode": rule.mode}
    assert value(metrics, "floodwatch_events_total", type="share.created") == 3
    assert value(metrics, "floodwatch_events_total", type="share.removed") == 0
    assert value(metrics, "floodwatch_findings_total", **labels) == 2
    assert value(metrics, "floodwatch_rule_errors_total", rule=rule.id) == 1
    assert value(metrics, "floodwatch_late_events_total") == 5
    assert value(metrics, "floodwatch_skipped_counts_total") == 6
    assert value(metrics, "floodwatch_scored_events_total") == 9
    assert value(metrics, "floodwatch_anomalous_events_total") == 2
    assert value(metrics, "floodwatch_model_disagreements_total", alone="challenger") == 1
    assert value(metrics, "floodwatch_model_disagreements_total", alone="champion") == 0
    assert value(metrics, "floodwatch_model_drift_psi", feature="shares_1h", partition="0") == 0.3
    assert value(metrics, "floodwatch_traces_total", key_space="asset") == 7
    assert value(metrics, "floodwatch_late_traces_total") == 2
    assert value(metrics, "floodwatch_truncated_meetings_total") == 8
    assert value(metrics, "floodwatch_campaigns_total", state="opened") == 1
    assert value(metrics, "floodwatch_incident_updates_total", state="opened") == 1
    decided = {"kind": "throttle", "scope": "generation", "made_by": "rule", "reason": "burst"}
    assert value(metrics, "floodwatch_decisions_total", **decided) == 1
    assert value(metrics, "floodwatch_alert_delay_seconds_sum") == pytest.approx(0.4)
    assert value(metrics, "floodwatch_processing_seconds_count") == 1
    assert value(metrics, "floodwatch_chunk_records_sum") == 7
    topic = {"source": "generation-events", "reason": "empty"}
    assert value(metrics, "floodwatch_dead_letters_total", **topic) == 1
    build = {"version": "1.2.3", "pack": PACK.pack.name, "pack_version": PACK.version}
    assert value(metrics, "floodwatch_build_info", **build) == 1


def test_the_delay_of_events_counts_from_the_log_and_leaves_out_what_has_no_time() -> None:
    """0.4 and 1.0 s; the third record has no time."""
    metrics = exercised()
    name = "floodwatch_event_delay_seconds"
    assert value(metrics, f"{name}_count") == 2
    assert value(metrics, f"{name}_sum") == pytest.approx(1.4)
    assert [value(metrics, f"{name}_bucket", le=le) for le in ("0.25", "0.5", "1.0")] == [0, 1, 2]


def test_a_partition_stalls_while_records_wait_and_nothing_moves() -> None:
    clock = Clock()
    metrics = some_metrics(clock)

    def stalled(partition: str) -> float | None:
        return value(metrics, "floodwatch_partition_stalled_seconds", partition=partition)

    clock.now_s += 50
    metrics.lag("generation-events", 1, 40)
    metrics.lag("traces", 1, 0, stage="shared")
    clock.now_s += 7
    assert stalled("1") == 7, "from when records came to wait, not from the start"
    assert stalled("shared-1") == 0
    metrics.lag("generation-events", 1, 50)
    clock.now_s += 1
    assert stalled("1") == 8
    metrics.chunk_processed(1, PipelineResult(), 0.1)
    clock.now_s += 2
    assert stalled("1") == 2
    metrics.lag("generation-events", 1, 0)
    assert stalled("1") == 0
    metrics.assigned(0)
    assert stalled("1") is None


def test_work_is_unsaved_until_a_checkpoint_covers_it() -> None:
    clock = Clock()
    metrics = some_metrics(clock)
    name = "floodwatch_oldest_unsaved_seconds"
    clock.now_s += 9
    assert value(metrics, name) == 0, "nothing was done, so nothing is unsaved"
    for partition in (0, 1):
        metrics.chunk_processed(partition, PipelineResult(), 0.1)
        clock.now_s += 3
    assert value(metrics, name) == 6
    metrics.checkpoint_written(0, elapsed_s=0.1, blocks=1, stored_bytes=10)
    assert value(metrics, name) == 3
    metrics.checkpoint_written(1, elapsed_s=0.1, blocks=1, stored_bytes=10)
    assert value(metrics, name) == 0


def test_series_of_every_rule_and_type_exist_before_anything_happens() -> None:
    metrics = some_metrics()
    for rule in PACK.pack.rules:
        labels = {"rule": rule.id, "severity": rule.severity, "mode": rule.mode}
        assert value(metrics, "floodwatch_alerts_total", **labels) == 0


def test_the_first_dead_letter_is_an_increase() -> None:
    metrics = some_metrics()
    metrics.reads(["generation-events"], ["traces"])
    name = "floodwatch_dead_letters_total"
    assert value(metrics, name, source="generation-events", reason="empty") == 0
    assert value(metrics, name, source="generation-events", reason="not_traces") is None
    assert value(metrics, name, source="traces", reason="not_traces") == 0


def test_lag_of_partitions_that_went_elsewhere_is_forgotten() -> None:
    metrics = exercised()
    labels = {"topic": "generation-events", "partition": "1"}
    assert value(metrics, "floodwatch_consumer_lag_records", **labels) == 40
    assert value(metrics, "floodwatch_held_back_events", **labels) == 4
    metrics.assigned(0)
    assert value(metrics, "floodwatch_consumer_lag_records", **labels) is None
    assert value(metrics, "floodwatch_held_back_events", **labels) is None


def test_the_age_of_the_last_event_is_told_by_the_clock_at_the_scrape() -> None:
    clock = Clock()
    metrics = some_metrics(clock)
    clock.now_s += 7
    assert value(metrics, "floodwatch_last_event_age_seconds") == 7
    metrics.chunk_processed(0, PipelineResult(), 0.1)
    assert value(metrics, "floodwatch_last_event_age_seconds") == 7
    result = PipelineResult()
    result.counts.events.update({"share.created": 1})
    metrics.chunk_processed(0, result, 0.1)
    clock.now_s += 2
    assert value(metrics, "floodwatch_last_event_age_seconds") == 2


def test_state_is_shown_over_all_partitions_and_evictions_add_up_over_restarts() -> None:
    metrics = some_metrics()
    stages = [UserStage(PACK, 20), UserStage(PACK, 20)]
    for partition, stage in enumerate(stages):
        metrics.watch_stage(partition, stage)
        stage.process(EventBatch.of(random_events(partition, 900, 25)))
        metrics.chunk_processed(partition, PipelineResult(), 0.1)
    evicted = sum(stage.keys.evicted for stage in stages)
    assert evicted > 0
    user = {"key_space": "user"}
    assert value(metrics, "floodwatch_key_rows", **user) == 40
    assert value(metrics, "floodwatch_key_rows_capacity", **user) == 40
    assert value(metrics, "floodwatch_key_evictions_total", **user) == evicted
    incidents = sum(len(stage.incidents) for stage in stages)
    assert incidents > 0
    assert value(metrics, "floodwatch_open_incidents") == incidents
    # The partition starts again with an empty stage, as after a rebalance.
    stages[0] = UserStage(PACK, 20)
    metrics.watch_stage(0, stages[0])
    metrics.chunk_processed(0, PipelineResult(), 0.1)
    assert value(metrics, "floodwatch_key_rows", **user) == 20
    assert value(metrics, "floodwatch_key_evictions_total", **user) == evicted
    stages[0].process(EventBatch.of(random_events(5, 500, 25)))
    metrics.chunk_processed(0, PipelineResult(), 0.1)
    now = evicted + stages[0].keys.evicted
    assert value(metrics, "floodwatch_key_evictions_total", **user) == now
    stages.clear()
    del stage
    assert value(metrics, "floodwatch_key_rows", **user) == 0


def exercised_store() -> CollectorRegistry:
    """What the store measures, after everything has happened once."""
    registry = CollectorRegistry()
    metrics = StoreMetrics(registry, ("alerts",))
    metrics.lag("alerts", 0, 7)
    metrics.wrote(Written({"alerts": 3}), 3, 0.02)
    pager = PagerMetrics(registry)
    pager.pages(2, 0)
    pager.paged(2, 1)
    pager.paging_failed()
    return registry


def families() -> Iterator[Metric]:
    """Everything that any process serves."""
    for registry in (exercised().registry, exercised_store()):
        yield from registry.collect()


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    """The tables of docs/metrics.md and the registries agree, name by name."""
    found = {}
    for family in families():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        found[name] = (family.type, labels)
    pattern = r"^\| `(floodwatch_\w+)` \| (\w+) \| (.*?) \|"
    documented = {
        name: (kind, sorted(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(pattern, DOCUMENT.read_text("utf-8"), re.MULTILINE)
    }
    assert documented == found


def test_no_label_can_hold_what_a_user_or_a_producer_chooses() -> None:
    allowed = {
        *("type", "source", "reason", "rule", "severity", "mode", "state", "kind", "scope"),
        *("made_by", "topic", "partition", "key_space", "le", "version", "pack", "pack_version"),
        *("alone", "feature", "table"),
    }
    for family in families():
        for sample in family.samples:
            assert set(sample.labels) <= allowed, family.name
            assert "user-1" not in sample.labels.values()


@contextmanager
def served(registry: CollectorRegistry, health: Health) -> Iterator[http.client.HTTPConnection]:
    with serve_metrics(registry, health, host="127.0.0.1", port=0) as server:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
        try:
            yield connection
        finally:
            connection.close()


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, str]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_metrics_are_served_in_the_format_of_prometheus() -> None:
    with served(exercised().registry, Health(Clock(), str)) as connection:
        status, text = get(connection, "/metrics")
        assert status == 200
        families = {family.name for family in text_string_to_metric_families(text)}
        assert "floodwatch_events" in families
        assert get(connection, "/other")[0] == 404


def test_readiness_is_refused_with_the_reason_until_there_is_none() -> None:
    reason = ["partitions are not assigned yet"]
    with served(CollectorRegistry(), Health(Clock(), lambda: reason[0])) as connection:
        assert get(connection, "/readyz") == (503, "partitions are not assigned yet\n")
        assert get(connection, "/healthz") == (200, "ok\n")
        reason[0] = ""
        assert get(connection, "/readyz") == (200, "ok\n")


def test_a_loop_that_stands_still_is_neither_alive_nor_ready() -> None:
    clock = Clock()
    health = Health(clock, str, silence_s=30.0)
    with served(CollectorRegistry(), health) as connection:
        clock.now_s += 31
        assert get(connection, "/healthz") == (503, "no sign of life for 31 s\n")
        assert get(connection, "/readyz")[0] == 503
        health.beat()
        assert get(connection, "/healthz")[0] == 200


def test_a_taken_port_is_refused_by_name_and_is_free_again_after_use() -> None:
    health = Health(Clock(), str)
    with serve_metrics(CollectorRegistry(), health, host="127.0.0.1", port=0) as server:
        assert not port_is_free("127.0.0.1", server.port)
        with (
            pytest.raises(PortTakenError, match=rf"127.0.0.1:{server.port}.*--metrics-port"),
            serve_metrics(CollectorRegistry(), health, host="127.0.0.1", port=server.port),
        ):
            pass
    assert port_is_free("127.0.0.1", server.port)
