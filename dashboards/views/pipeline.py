"""Pipeline: rate, lag, delays, checkpoints, losses, memory, stages, and the store service."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards import objectives as limit
from dashboards.frame import View
from dashboards.look import BAD, GOOD, WORSE
from dashboards.panels import (
    Query,
    bars,
    coarse,
    columns,
    delays,
    lines,
    number,
    too_little,
    too_much,
)
from dashboards.query import by_range, of, prom, recorded, share
from dashboards.rules.recording import (
    DEAD_LETTERS,
    LATE,
    PARTITIONS,
    event_delay_misses,
)

__all__ = ["pipeline"]

_DELAY = "floodwatch_event_delay_seconds"
_RATE = "[$__rate_interval]"


def pipeline() -> View:
    """For whoever keeps Floodwatch running."""
    return View(
        uid="floodwatch-pipeline",
        title="Floodwatch / Pipeline",
        says="How fast events go through, what waits, what is lost, and what it takes.",
        sections=(
            ("At a glance", _glance()),
            ("Throughput and delay", (*_flow(), *_steps())),
            ("Nothing is lost", (*_losses(), *_left_out())),
            ("State", _state()),
            ("Process", _process()),
            ("Store", _store()),
        ),
    )


def _sum_rate(label: str, metric: str, *matchers: str) -> str:
    by = f" by ({label})" if label else ""
    return f"sum{by} (rate({of(metric, *matchers)}{_RATE}))"


def _quantiles(histogram: str) -> list[Query]:
    return [prom(share(q, histogram), f"{q:.0%} within") for q in (0.5, 0.99)]


def _glance() -> tuple[Panel, ...]:
    return (
        number(
            "Events a second",
            "What is processed. 0: see lag; with lag workers hang, without it producers stopped.",
            prom(_sum_rate("", "floodwatch_events_total")),
            unit="cps",
            decimals=1,
        ),
        number(
            "Records that wait",
            "Consumer lag, all inputs and stages. Growing: add workers, up to the number of "
            "partitions; then find the slow stage below.",
            prom(f"sum({of('floodwatch_consumer_lag_records')})"),
            unit="short",
        ),
        number(
            "99 % of events within",
            f"From the log to the acknowledged result. Above {limit.EVENT_DELAY_MAX_S:g} s the "
            "error budget burns: the heatmap says for how many.",
            prom(share(0.99, _DELAY)),
            unit="s",
            steps=too_much(limit.EVENT_DELAY_MAX_S / 2, limit.EVENT_DELAY_MAX_S),
        ),
        number(
            "Partitions read",
            "Of all topics. Fewer than an hour ago: some are read by nobody; are as many workers "
            "up, and does the group settle?",
            prom(f"min({recorded(PARTITIONS)})"),
            unit="none",
        ),
        number(
            "Longest standstill",
            "The partition that has not moved for longest while records wait. Above "
            f"{limit.STALLED_MAX_S:g} s: the worker's log names what it waits for.",
            prom(f"max({of('floodwatch_partition_stalled_seconds')})"),
            unit="s",
            decimals=1,
            steps=too_much(limit.STALLED_MAX_S / 2, limit.STALLED_MAX_S),
        ),
        number(
            "Oldest unsaved work",
            "What a crash would have to read again. Above "
            f"{limit.CHECKPOINT_AGE_MAX_S:g} s: checkpoints fail; is the changelog topic there?",
            prom(f"max({of('floodwatch_oldest_unsaved_seconds')})"),
            unit="s",
            decimals=0,
            steps=too_much(limit.CHECKPOINT_AGE_MAX_S / 2, limit.CHECKPOINT_AGE_MAX_S),
        ),
    )


def _flow() -> tuple[Panel, ...]:
    burns = [
        prom(
            f"max({recorded(event_delay_misses(window))}) / {1 - limit.EVENT_DELAY_OBJECTIVE:g}",
            window,
        )
        for window in ("5m", "1h", "6h")
    ]
    return (
        lines(
            "Events a second, by type",
            "One type that stops: its producer. One that doubles: look at Detection, volumes.",
            [prom(_sum_rate("type", "floodwatch_events_total") + " > 0", "{{type}}")],
            unit="cps",
            stacked=True,
        ),
        lines(
            "Records that wait, by topic",
            "An input that grows: too few workers. traces or meetings that grow: the second or "
            "third stage is behind, users who act together are found late.",
            [prom(f"sum by (topic) ({of('floodwatch_consumer_lag_records')})", "{{topic}}")],
            unit="short",
        ),
        delays(
            "Delay of events",
            "From the log to the acknowledged result. A dark band that moves up: something slows "
            "all of them; single dark cells: a rebalance or a restart.",
            prom(f"sum by (le) (increase({of(f'{_DELAY}_bucket')}{_RATE}))"),
            unit="s",
        ),
        lines(
            "How fast the delay budget burns",
            f"1 uses up exactly what {limit.EVENT_DELAY_OBJECTIVE:.1%} on time allows. Above a "
            "line over both windows somebody is told; both high and rising: act now.",
            burns,
            unit="none",
            steps=[
                (None, GOOD),
                (limit.BURN_RATES[1].factor, WORSE),
                (limit.BURN_RATES[0].factor, BAD),
            ],
        ),
    )


def _steps() -> tuple[Panel, ...]:
    return (
        coarse(
            lines(
                "From event to alert",
                "Counts from the event's own time, so producers that send late are in it. Far "
                "above the delay of events: producers, not us.",
                _quantiles("floodwatch_alert_delay_seconds"),
                unit="s",
            ),
            "2m",
        ),
        lines(
            "Time of one step of a partition",
            "Merging and detecting once. Rising with the same rate of events: a rule or feature "
            "that costs too much was added; look at the newest pack.",
            _quantiles("floodwatch_processing_seconds"),
            unit="s",
        ),
        lines(
            "Standstill, by partition",
            "How long a partition with records waiting has not moved. One alone, again and "
            "again: poison in it; all: the broker.",
            [
                prom(
                    f"max by (partition) ({of('floodwatch_partition_stalled_seconds')})",
                    "{{partition}}",
                )
            ],
            unit="s",
            steps=too_much(bad=limit.STALLED_MAX_S),
        ),
        lines(
            "Events held back by the merge",
            "Events that wait for another topic of their partition. Thousands for minutes: one "
            "topic's events lie far behind in time; which producer is it?",
            [prom(f"sum by (topic) ({of('floodwatch_held_back_events')})", "{{topic}}")],
            unit="short",
        ),
        lines(
            "Traces a second, by shared key",
            "What the second stage is given. 0 while events arrive: the first stage cannot "
            "publish, or the pack has no shared keys.",
            [prom(_sum_rate("key_space", "floodwatch_traces_total"), "{{key_space}}")],
            unit="cps",
        ),
    )


def _losses() -> tuple[Panel, ...]:
    return (
        bars(
            "Dead letters, by topic and reason",
            "Records of the time range that could not be used. Any: floodwatch dlq list says "
            "what was wrong and where; mend the producer, then floodwatch dlq redrive.",
            [
                prom(
                    f"topk(10, {by_range('source, reason', 'floodwatch_dead_letters_total')} > 0)",
                    "{{source}}: {{reason}}",
                    instant=True,
                )
            ],
            unit="none",
            decimals=0,
            steps=too_much(worse=1),
            size=(6, 8),
            nothing="None in the time range",
        ),
        lines(
            "Share of dead letters",
            f"Above {limit.DEAD_LETTER_SHARE_TICKET:.1%} a ticket, above "
            f"{limit.DEAD_LETTER_SHARE_PAGE:.0%} a page: that much is not watched.",
            [prom(f"max({recorded(DEAD_LETTERS)})", "of all records")],
            unit="percentunit",
            steps=too_much(limit.DEAD_LETTER_SHARE_TICKET, limit.DEAD_LETTER_SHARE_PAGE),
            size=(6, 8),
        ),
        lines(
            "Too late to count",
            "Events and traces older than every window: they changed nothing. Above the line: "
            "a producer buffers for hours, or an old log is read into a live topic.",
            [
                prom(f"max({recorded(LATE)})", "events"),
                prom(
                    _sum_rate("", "floodwatch_late_traces_total")
                    + " / "
                    + _sum_rate("", "floodwatch_traces_total"),
                    "traces",
                ),
            ],
            unit="percentunit",
            steps=too_much(bad=limit.LATE_SHARE_MAX),
            size=(6, 8),
        ),
    )


def _left_out() -> tuple[Panel, ...]:
    return (
        columns(
            "Left out, a minute",
            "Keys and incidents evicted for lack of room, counts of short windows that came too "
            "late, meetings beyond the cap. Steady growth of evictions: raise runner.max_users.",
            [
                prom(
                    "60 * " + _sum_rate("key_space", "floodwatch_key_evictions_total"),
                    "keys: {{key_space}}",
                ),
                prom("60 * " + _sum_rate("", "floodwatch_incident_evictions_total"), "incidents"),
                prom("60 * " + _sum_rate("", "floodwatch_skipped_counts_total"), "counts"),
                prom("60 * " + _sum_rate("", "floodwatch_truncated_meetings_total"), "meetings"),
            ],
            unit="cpm",
            size=(6, 8),
        ),
    )


def _state() -> tuple[Panel, ...]:
    return (
        bars(
            "Room for keys",
            "How full each table is. Full is no failure, but then it forgets: raise "
            "runner.max_users before long windows lie.",
            [
                prom(
                    f"sum by (key_space) ({of('floodwatch_key_rows')}) / "
                    f"sum by (key_space) ({of('floodwatch_key_rows_capacity')})",
                    "{{key_space}}",
                    instant=True,
                )
            ],
            unit="percentunit",
            decimals=1,
            steps=too_much(limit.KEYS_SHARE_NEARLY_FULL, 1.0),
            size=(6, 8),
        ),
        lines(
            "Checkpoints: time until valid",
            "From the snapshot to the commit. Rising towards the interval: the state is large or "
            "the broker slow; recovery will take as long.",
            _quantiles("floodwatch_checkpoint_seconds"),
            unit="s",
            size=(6, 8),
        ),
        lines(
            "Checkpoints: bytes a second",
            "Compressed state written. A step up with the same traffic: a feature with large "
            "state was added.",
            [prom(_sum_rate("", "floodwatch_checkpoint_bytes_total"), "written")],
            unit="Bps",
            size=(6, 8),
        ),
        lines(
            "Unsaved work, by worker",
            "Saws between 0 and the interval. Above the line: runbook "
            "monitor/FloodwatchCheckpointsStale.",
            [
                prom(
                    f"max by (instance) ({of('floodwatch_oldest_unsaved_seconds')})",
                    "{{instance}}",
                )
            ],
            unit="s",
            steps=too_much(bad=limit.CHECKPOINT_AGE_MAX_S),
            size=(6, 8),
        ),
    )


def _process() -> tuple[Panel, ...]:
    return (
        lines(
            "Memory",
            "Beyond the line the container is about to be killed: lower runner.max_users or give "
            "it more.",
            [prom(of("floodwatch_process_resident_memory_bytes"), "{{job}} {{instance}}")],
            unit="bytes",
            steps=too_much(bad=limit.MEMORY_BYTES_MAX),
            size=(6, 8),
        ),
        lines(
            "Processor",
            "Cores in use. Near 1 with lag: that worker is the bottleneck, add one.",
            [
                prom(
                    f"rate({of('floodwatch_process_cpu_seconds_total')}{_RATE})",
                    "{{job}} {{instance}}",
                )
            ],
            unit="none",
            steps=too_much(bad=1.0),
            size=(6, 8),
        ),
        lines(
            "Time to publish",
            "Until the broker acknowledged a batch. Seconds: the broker is slow, and so are we: "
            "reading waits for it.",
            _quantiles("floodwatch_publish_seconds"),
            unit="s",
            size=(6, 8),
        ),
        columns(
            "Failed attempts to publish, a minute",
            "Single ones are repeated and go well. For minutes: the broker is away, or a message "
            "is larger than it takes; the worker's log says which.",
            [prom("60 * " + _sum_rate("", "floodwatch_publish_failures_total"), "failures")],
            unit="cpm",
            size=(6, 8),
        ),
    )


def _store() -> tuple[Panel, ...]:
    return (
        number(
            "The store writes",
            "No: the database did not take the last write, or there was none yet. Alerts wait in "
            "Kafka and in the spool; runbook monitor/FloodwatchStoreNotWriting.",
            prom(f"min({of('floodwatch_store_up')})"),
            unit="none",
            steps=too_little(1, 1),
            texts={"0": ("no", BAD), "1": ("yes", GOOD)},
            size=(4, 8),
        ),
        lines(
            "Rows a second, by table",
            "New or changed rows. 0 while alerts are found: look at what waits, beside.",
            [prom(_sum_rate("table", "floodwatch_store_rows_total"), "{{table}}")],
            unit="cps",
            stacked=True,
            size=(7, 8),
        ),
        lines(
            "Waits for the database",
            "In Kafka, in memory and on disk. Growing: the database is slow or away. When the "
            "spool is full, outputs are dropped (and somebody paged).",
            [
                prom(f"sum({of('floodwatch_store_lag_records')})", "in Kafka"),
                prom(f"sum({of('floodwatch_store_queued_outputs')})", "in memory"),
                prom(f"sum({of('floodwatch_store_spooled_outputs')})", "on disk"),
                prom(f"sum(increase({of('floodwatch_store_dropped_total')}[$__range]))", "dropped"),
            ],
            unit="short",
            size=(7, 8),
        ),
        lines(
            "Time of one write",
            "A transaction of a batch. Seconds: the database is overloaded; is its vacuum stuck?",
            _quantiles("floodwatch_store_write_seconds"),
            unit="s",
            size=(6, 8),
        ),
    )
