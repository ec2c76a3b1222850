"""The in-process runner: sources merged, partitions alike, absurd rows refused."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import zstandard

from detectors.batch import EventBatch
from detectors.compiled import compile_pack
from detectors.events import GENERATION_TYPES, SHARE_TYPES
from detectors.topology import Topology
from monitor.logs import LogError, open_log, replay_logs
from monitor.pipeline import PartitionPipeline, PipelineResult, RecordChunk
from monitor.runner import Runner
from monitor.simulator.wire_json import to_wire_json
from tests.support.events import START_MS, random_events, small_pack

PACK = compile_pack(small_pack())
NOW_MS = START_MS + 10**9
EVENTS = random_events(7, 3_000, 12)


def replay(paths: list[Path], partitions: int = 1) -> PipelineResult:
    """All outputs of a replay in one result."""
    runner = Runner(Topology(PACK, 1_000), [str(path) for path in paths], partitions)
    whole = PipelineResult()
    for result in replay_logs(runner, [open_log(path, NOW_MS) for path in paths]):
        whole.outputs += result.outputs
        whole.dead_letters += result.dead_letters
        whole.counts.events.update(result.counts.events)
        whole.counts.late += result.counts.late
    return whole


def write_ndjson(path: Path, events: pl.DataFrame) -> Path:
    """Events as NDJSON."""
    path.write_text("\n".join(to_wire_json(events).to_list()) + "\n", encoding="utf-8")
    return path


def test_every_format_gives_the_same_alerts(tmp_path: Path) -> None:
    """NDJSON, zstd and Parquet of the same events: the same outputs, and there are some."""
    lines = write_ndjson(tmp_path / "log.ndjson", EVENTS)
    packed = tmp_path / "log.ndjson.zst"
    packed.write_bytes(zstandard.compress(lines.read_bytes()))
    table = tmp_path / "log.parquet"
    EVENTS.write_parquet(table)
    expected = replay([lines])
    assert expected.alerts
    assert expected.counts.events.total() + expected.counts.late == len(EVENTS)
    assert expected.counts.late
    assert replay([packed]).outputs == expected.outputs
    assert replay([table]).outputs == expected.outputs


def test_partitions_do_not_change_what_is_found(tmp_path: Path) -> None:
    """One partition or five: the same alerts, decisions and incident updates."""
    log = write_ndjson(tmp_path / "log.ndjson", EVENTS)
    one, five = replay([log]), replay([log], partitions=5)
    assert {alert.alert_id: alert for alert in one.alerts} == {
        alert.alert_id: alert for alert in five.alerts
    }
    assert sorted(d.decision_id for d in one.decisions) == sorted(
        d.decision_id for d in five.decisions
    )


def test_topics_in_separate_files_are_merged_by_event_time(tmp_path: Path) -> None:
    """A log split by topic gives what the whole log gives, as long as no event is late."""
    events = random_events(3, 2_000, 9, late_share=0).sort("time_ms", maintain_order=True)
    events = events.unique("time_ms", keep="first", maintain_order=True)
    whole = write_ndjson(tmp_path / "all.ndjson", events)
    kind = pl.col("type").cast(pl.String)
    parts = {
        "g.ndjson": kind.is_in(GENERATION_TYPES),
        "s.ndjson": kind.is_in(SHARE_TYPES),
        "f.ndjson": ~kind.is_in(GENERATION_TYPES + SHARE_TYPES),
    }
    paths = [write_ndjson(tmp_path / name, events.filter(keep)) for name, keep in parts.items()]
    assert replay(paths).outputs == replay([whole]).outputs


def test_absurd_rows_of_parquet_are_dead_letters(tmp_path: Path) -> None:
    """A null id, an unknown type and a time in the future are refused; the rest is processed."""
    table = tmp_path / "log.parquet"
    row = pl.int_range(pl.len())
    EVENTS.with_columns(
        pl.when(row == 1).then(None).otherwise("user_id").alias("user_id"),
        pl.when(row == 2)
        .then(pl.lit("video.liked"))
        .otherwise(pl.col("type").cast(pl.String))
        .alias("type"),
        pl.when(row == 3).then(NOW_MS + 10**9).otherwise("time_ms").alias("time_ms"),
    ).write_parquet(table)
    result = replay([table])
    assert [(d.offset, d.reason.value) for d in result.dead_letters] == [
        (1, "missing_id"),
        (2, "unknown_type"),
        (3, "time_in_future"),
    ]
    assert result.counts.events.total() + result.counts.late == len(EVENTS) - 3


def test_what_is_not_a_log_is_refused_with_advice(tmp_path: Path) -> None:
    """Missing file, wrong ending, not Parquet, Parquet of something else, damaged zstd."""
    with pytest.raises(LogError, match="no such file"):
        open_log(tmp_path / "absent.ndjson", NOW_MS)
    for name, content, message in (
        ("log.csv", b"a,b", "unknown ending"),
        ("log.parquet", b"PAR0", "not a Parquet file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LogError, match=message):
            open_log(tmp_path / name, NOW_MS)
    other = tmp_path / "other.parquet"
    pl.DataFrame({"x": [1]}).write_parquet(other)
    with pytest.raises(LogError, match="no column 'event_id'"):
        open_log(other, NOW_MS)
    damaged = tmp_path / "log.ndjson.zst"
    damaged.write_bytes(b"not zstd at all")
    with pytest.raises(LogError, match="damaged zstd"):
        replay([damaged])


def test_the_pipeline_of_a_partition_accounts_for_every_record() -> None:
    """Good and bad records of three sources: events + dead letters = records, offsets add up."""
    pipeline = PartitionPipeline(Topology(PACK, 100), ("g", "s", "f"))
    good = [text.encode() for text in to_wire_json(EVENTS[:100]).to_list()]
    bad = [b"{", None, b"", json.dumps({"event_id": 1}).encode()]
    records: list[bytes | None] = [*good[:50], *bad, *good[50:]]
    offsets = list(range(1_000, 1_000 + len(records)))
    pipeline.push(RecordChunk("g", 0, records, offsets, [NOW_MS] * len(records)))
    held = pipeline.process((), 1_000)
    assert not held.counts.events
    assert held.applied == {"g": 1_000}
    assert not held.dead_letters, "a dead letter counts as done when its place in the log is"
    first = pipeline.process(("s", "f"), 50)
    assert first.applied == {"g": 1_054}
    assert [(d.offset, d.raw) for d in first.dead_letters] == [
        (1_050 + index, raw) for index, raw in enumerate(bad)
    ]
    rest = pipeline.process(("s", "f"), 1_000)
    assert rest.applied == {"g": offsets[-1] + 1}
    counts = (first.counts, rest.counts)
    assert sum(count.events.total() + count.late for count in counts) == 100
    assert not rest.dead_letters
    assert pipeline.buffered("g") == 0


def test_a_batch_from_rows_names_an_unknown_column() -> None:
    """Cases of rules are written by hand: a typo is an error, not a null."""
    with pytest.raises(KeyError, match="user_idd"):
        EventBatch.from_rows([{"user_idd": "x"}])
