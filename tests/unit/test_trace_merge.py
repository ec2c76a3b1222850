"""Traces of several sources: one order, each once, and what never came is noticed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Final, TypeAlias

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.trace_merge import HOLD_MS, TraceMerge
from monitor.trace_messages import TraceMessage

SPACES: Final = ("asset", "device")
SCHEMA: Final = {
    "ordinal": pl.Int64(),
    "order_ms": pl.Int64(),
    "space": pl.UInt8(),
    "key": pl.String(),
    "count": pl.Int64(),
    "cost": pl.Float64(),
}
LINEAGE: Final = "3-w"
END_MS: Final = 10**6

Log: TypeAlias = list[int]
"""The ``order_ms`` of each trace of a source, ascending."""

logs_of_sources = st.lists(
    st.lists(st.integers(0, 6), max_size=25).map(lambda steps: list(accumulate(steps))),
    min_size=1,
    max_size=4,
)


def message(source: int, log: Log, start: int, end: int, sources: int = 1) -> TraceMessage:
    """What ``source``, one of ``sources``, says of its traces ``start`` to ``end``."""
    rows = [(at, log[at], at % 2 + 1, f"{source}:{at}", 1, at / 2) for at in range(start, end)]
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return TraceMessage(
        source=source,
        sources=sources,
        lineage=LINEAGE,
        start=start,
        end=end,
        newest_ms=log[end - 1] if end else -1,
        idle=False,
        spaces=SPACES,
        frame=frame if len(frame) else None,
    )


def closing(logs: Sequence[Log]) -> list[TraceMessage]:
    """Each source has come far beyond its last trace."""
    n = len(logs)
    last = [message(source, log, len(log), len(log), n) for source, log in enumerate(logs)]
    return [replace(one, newest_ms=END_MS) for one in last]


def cut(logs: Sequence[Log], source: int, rng: random.Random, runs: int = 1) -> list[TraceMessage]:
    """All of a log, in steps of any size; after a crash from somewhere before, cut anew."""
    log = logs[source]
    said: list[TraceMessage] = []
    reached = 0
    for run in range(runs):
        start = rng.randint(0, reached)
        last = len(log) if run == runs - 1 else rng.randint(start, len(log))
        edges = sorted({start, last, *(rng.randint(start, last) for _ in range(3))})
        said += [message(source, log, first, end, len(logs)) for first, end in pairwise(edges)]
        reached = max(reached, last)
    return said


def interleaved(said: Sequence[Iterable[TraceMessage]], rng: random.Random) -> list[TraceMessage]:
    """What sources say, each in its order and all of them mixed."""
    waiting = [list(messages)[::-1] for messages in said]
    mixed = []
    while any(waiting):
        mixed.append(rng.choice([messages for messages in waiting if messages]).pop())
    return mixed


def merged(merge: TraceMerge, messages: Iterable[TraceMessage], received_ms: int = 0) -> list[str]:
    """The keys of what ``merge`` gives out for messages that the log received then."""
    keys: list[str] = []
    for one in messages:
        merge.add(one, received_ms)
        taken = merge.take()
        if taken is not None:
            assert taken.schema == SCHEMA
            keys += taken["key"].to_list()
    return keys


def in_order(logs: Sequence[Log]) -> list[str]:
    """What should come out: by time, then by source, then as each source had it."""
    every = [(ms, source, at) for source, log in enumerate(logs) for at, ms in enumerate(log)]
    return [f"{source}:{at}" for _, source, at in sorted(every)]


@given(logs=logs_of_sources, rng=st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_does_not_depend_on_who_was_faster(logs: list[Log], rng: random.Random) -> None:
    """Any cuts, any interleaving: the same order, at the latest when all have come further."""
    merge = TraceMerge(SCHEMA, SPACES)
    said = interleaved([cut(logs, source, rng) for source in range(len(logs))], rng)
    given_out = merged(merge, said)
    assert given_out == in_order(logs)[: len(given_out)], "nothing that another may precede"
    assert merge.waiting == sum(map(len, logs)) - len(given_out)
    assert given_out + merged(merge, closing(logs)) == in_order(logs)
    assert (merge.waiting, merge.repeated, merge.missing, merge.forced) == (0, 0, 0, 0)


@given(logs=logs_of_sources, rng=st.randoms(use_true_random=False), runs=st.integers(2, 4))
@settings(max_examples=100, deadline=None)
def test_what_is_said_again_is_dropped_trace_by_trace(
    logs: list[Log], rng: random.Random, runs: int
) -> None:
    """A crashed source goes back and cuts its traces otherwise; each comes out once."""
    merge = TraceMerge(SCHEMA, SPACES)
    said = interleaved([cut(logs, n, rng, runs) for n in range(len(logs))], rng)
    assert merged(merge, said + closing(logs)) == in_order(logs)
    told = sum(one.end - one.start for one in said)
    assert merge.repeated == told - sum(map(len, logs))
    assert merge.missing == 0


@given(
    logs=logs_of_sources,
    rng=st.randoms(use_true_random=False),
    share=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_a_state_goes_on_where_the_other_stopped(
    logs: list[Log], rng: random.Random, share: float
) -> None:
    """Taken between any two messages: sources, what waits, and the counts."""
    once = TraceMerge(SCHEMA, SPACES)
    cuts = [cut(logs, n, rng, 2) for n in range(len(logs))]
    said = interleaved(cuts, rng) + closing(logs)
    at = int(share * len(said))
    before = merged(once, said[:at])
    again = TraceMerge(SCHEMA, SPACES)
    again.restore(once.block())
    assert again.waiting == once.waiting
    assert again.block().arrays["json"].tobytes() == once.block().arrays["json"].tobytes()
    assert before + merged(again, said[at:]) == in_order(logs)
    merged(once, said[at:])
    assert (again.repeated, again.missing) == (once.repeated, once.missing)


def test_a_hole_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    """What comes after it is processed all the same, and no repeat of it is taken for news."""
    log = [1, 2, 3, 4, 5, 6]
    merge = TraceMerge(SCHEMA, SPACES)
    said = [message(0, log, 0, 2), message(0, log, 5, 6), message(0, log, 4, 6)]
    assert merged(merge, [*said, *closing([log])]) == ["0:0", "0:1", "0:5"]
    assert (merge.missing, merge.repeated) == (3, 2)
    assert "source partition 0: traces 2 to 5 never came" in caplog.text


def test_a_stage_that_comes_late_begins_with_what_it_finds() -> None:
    """Its topic was cleaned up to somewhere: that is no hole."""
    log = [1, 2, 3, 4]
    merge = TraceMerge(SCHEMA, SPACES)
    assert merged(merge, [message(0, log, 2, 4), *closing([log])]) == ["0:2", "0:3"]
    assert (merge.missing, merge.repeated) == (0, 0)


def test_a_source_without_state_starts_anew(caplog: pytest.LogCaptureFixture) -> None:
    """Its traces are counted from 0 again and are others; what its former self says is dropped."""
    log = [1, 2, 3, 4]
    merge = TraceMerge(SCHEMA, SPACES)
    assert merged(merge, [message(0, log, 0, 3)]) == ["0:0", "0:1"]
    former = message(0, log, 3, 4)
    first, second = (message(0, [5, 6, 7], *part) for part in ((0, 2), (2, 3)))
    said = [replace(first, lineage="12-w"), former, replace(second, lineage="12-w")]
    assert merged(merge, said) == ["0:2", "0:0", "0:1"]
    assert (merge.repeated, merge.missing) == (1, 0)
    assert "source partition 0 starts anew, without state" in caplog.text


def test_a_source_that_is_idle_is_waited_for_so_long_and_no_longer() -> None:
    """By the clock of the log: when all wake up after a pause, one is the first."""
    merge = TraceMerge(SCHEMA, SPACES)
    first, second, third = (message(0, [2, 5, 8], at, at + 1, 2) for at in range(3))
    assert merged(merge, [idle(1, [], 2), first, second], 0) == []
    assert merged(merge, [message(1, [1], 0, 1, 2)], HOLD_MS - 1) == []
    assert merged(merge, [idle(1, [1], 2)], HOLD_MS - 1) == []
    assert merged(merge, [third], HOLD_MS) == ["0:0", "0:1"]
    assert merged(merge, [idle(0, [2, 5, 8], 2)], HOLD_MS) == ["1:0", "0:2"]


def test_a_source_of_which_nothing_was_heard_is_waited_for_as_well() -> None:
    """It may be the slowest to start."""
    merge = TraceMerge(SCHEMA, SPACES)
    assert merged(merge, [message(0, [3, 9], 0, 2, 2)]) == []
    assert merged(merge, [message(1, [2, 9], 0, 2, 2)]) == ["1:0", "0:0"]
    alone = TraceMerge(SCHEMA, SPACES)
    assert merged(alone, [message(0, [3, 9], 0, 2, 2)]) == []
    assert merged(alone, [message(0, [3, 9], 2, 2, 2)], HOLD_MS) == ["0:0"]


def test_all_idle_leaves_nothing_waiting() -> None:
    """Else the last traces before a quiet night would wait for the morning."""
    merge = TraceMerge(SCHEMA, SPACES)
    logs = [[1, 2], [2]]
    said = [message(n, log, 0, len(log), 2) for n, log in enumerate(logs)]
    assert merged(merge, said) == ["0:0"]
    assert not merge.idle
    assert merged(merge, [idle(n, log, 2) for n, log in enumerate(logs)]) == ["0:1", "1:0"]
    assert merge.idle


def test_a_backlog_waits_for_the_part_of_a_source_that_is_still_idle() -> None:
    """After an outage one partition may be through with its hour before the other begins."""
    merge = TraceMerge(SCHEMA, SPACES)
    now_ms = 1_000 + HOLD_MS
    assert merged(merge, [idle(n, [], 2) for n in range(2)], now_ms) == []
    assert merged(merge, [message(0, [2, 5], 0, 2, 2), idle(0, [2, 5], 2)], now_ms) == []
    assert merged(merge, [message(1, [3, 9], 0, 2, 2)], now_ms + HOLD_MS - 1) == []
    assert not merge.idle
    assert merged(merge, [idle(1, [3, 9], 2)], now_ms + HOLD_MS) == ["0:0", "0:1"]
    assert merged(merge, [idle(0, [2, 5], 2)], now_ms + 2 * HOLD_MS) == ["1:0", "1:1"]


def test_a_source_alone_waits_for_nobody() -> None:
    """However old what it says is."""
    merge = TraceMerge(SCHEMA, SPACES)
    assert merged(merge, [message(0, [2, 5], 0, 2, 1)], 2 * HOLD_MS) == ["0:0"]
    assert merged(merge, [idle(0, [2, 5], 1)], 2 * HOLD_MS) == ["0:1"]


def test_nothing_from_before_how_far_it_has_come_is_given_out_later() -> None:
    """What it says of itself to the next stage, which merges as it does."""
    merge = TraceMerge(SCHEMA, SPACES)
    merged(merge, [message(0, [2, 7], 0, 2, 2), message(1, [4], 0, 1, 2)])
    assert merge.newest_ms == 4
    assert merged(merge, [message(1, [4, 9], 1, 2, 2)]) == ["1:0"]
    assert merge.newest_ms == 7
    merged(merge, [idle(0, [2, 7], 2)])
    assert merge.newest_ms == 7, "of what still waits"


def idle(source: int, log: Log, sources: int) -> TraceMessage:
    """It has nothing more to say for the moment."""
    return replace(message(source, log, len(log), len(log), sources), idle=True)


def test_a_sender_with_another_pack_is_understood() -> None:
    """While packs roll over: other columns, other numbers of key spaces, other types."""
    merge = TraceMerge(SCHEMA, SPACES)
    sent = message(0, [1, 2, 3], 0, 3)
    assert sent.frame is not None
    frame = sent.frame.select(
        pl.lit("new").alias("unknown_here"),
        pl.col("cost").cast(pl.Int32),
        "key",
        pl.Series("space", [3, 2, 1], dtype=pl.UInt8),
        pl.exclude("cost", "key", "space", "count"),
    )
    merge.add(replace(sent, frame=frame, spaces=("device", "video", "asset")), 0)
    merge.add(idle(0, [1, 2, 3], 1), 0)
    taken = merge.take()
    assert taken is not None
    assert taken.schema == SCHEMA
    assert taken.select("key", "space", "count", "cost").rows() == [
        ("0:0", 1, None, 0.0),
        ("0:2", 2, None, 1.0),
    ]


def test_a_column_of_another_type_is_null() -> None:
    """A derived column that became a text is not worth stopping for."""
    merge = TraceMerge(SCHEMA, SPACES)
    sent = message(0, [1], 0, 1)
    assert sent.frame is not None
    frame = sent.frame.with_columns(cost=pl.lit("a lot"))
    merge.add(replace(sent, frame=frame, idle=True), 0)
    taken = merge.take()
    assert taken is not None
    assert taken["cost"].to_list() == [None]


def test_what_waits_is_understood_by_a_stage_with_another_pack() -> None:
    """Its key spaces have other numbers than when the state was taken."""
    before = TraceMerge(SCHEMA, SPACES)
    assert merged(before, [message(0, [1, 2], 0, 2, 2)]) == []
    after = TraceMerge({**SCHEMA, "tier": pl.String()}, ("network", "device"))
    after.restore(before.block())
    after.add(idle(1, [], 2), 0)
    after.add(idle(0, [1, 2], 2), 0)
    taken = after.take()
    assert taken is not None
    assert taken.select("key", "space", "tier").rows() == [("0:1", 2, None)]


def test_no_more_than_so_many_wait() -> None:
    """For a source that fell silent without a word: then all that wait are given out, counted."""
    merge = TraceMerge(SCHEMA, SPACES)
    many = 150_000
    merge.add(message(0, list(range(many)), 0, many, 2), 0)
    assert merge.take() is None
    merge.add(message(0, list(range(2 * many)), many, 2 * many, 2), 0)
    taken = merge.take()
    assert taken is not None
    assert taken["ordinal"].to_list() == list(range(2 * many))
    assert (merge.waiting, merge.forced) == (0, 2 * many)
