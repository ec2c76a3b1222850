"""The merge of sources gives one order, whenever and however the sources arrive."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.merge import Merger

SOURCES = ("generation", "sharing", "feedback")
TIMES = st.lists(st.integers(0, 40), max_size=25)


def reference(times: dict[str, list[int]]) -> list[tuple[str, int]]:
    """By running maximum of the source, then order of sources, then position."""
    keyed = []
    for order, (source, values) in enumerate(times.items()):
        for position, key in enumerate(np.maximum.accumulate(np.array(values, dtype=np.int64))):
            keyed.append((int(key), order, position, source))
    return [(source, position) for _, _, position, source in sorted(keyed)]


@given(
    lists=st.tuples(TIMES, TIMES, TIMES),
    steps=st.lists(st.tuples(st.sampled_from(SOURCES), st.integers(1, 9)), max_size=40),
    limit=st.integers(1, 12),
)
@settings(max_examples=300, deadline=None)
def test_the_order_does_not_depend_on_arrival(
    lists: tuple[list[int], list[int], list[int]], steps: list[tuple[str, int]], limit: int
) -> None:
    """Pieces pushed in any interleaving, taken with any limit: the reference order."""
    times = dict(zip(SOURCES, lists, strict=True))
    merger = Merger(SOURCES)
    pushed = dict.fromkeys(SOURCES, 0)
    got: list[tuple[str, int]] = []

    def push(source: str, count: int) -> None:
        start = pushed[source]
        part = times[source][start : start + count]
        pushed[source] = start + len(part)
        rows = list(range(start, pushed[source]))
        columns = {"time_ms": part, "source": [source] * len(part), "row": rows}
        schema = {"time_ms": pl.Int64, "source": pl.String, "row": pl.Int64}
        frame = pl.DataFrame(columns, schema=schema)
        merger.push(source, frame, np.array(rows, dtype=np.int64) * 10, pushed[source] * 10)

    def take() -> int:
        done = [source for source in SOURCES if pushed[source] == len(times[source])]
        merged = merger.take(done, limit)
        taken = [] if merged.frame is None else merged.frame.select("source", "row").rows()
        assert len(taken) <= limit
        got.extend(taken)
        for source, applied in merged.applied.items():
            # Everything below the offset was given out, nothing at or above it was.
            given_out = [row * 10 for name, row in got if name == source]
            assert all(offset < applied for offset in given_out)
            assert len(given_out) == min(applied // 10, pushed[source])
        return len(taken)

    for source, count in steps:
        push(source, count)
        take()
    for source in SOURCES:
        push(source, len(times[source]))
    while take():
        pass
    assert got == reference(times)


def test_a_silent_source_holds_the_others_back_until_it_is_idle() -> None:
    """Its events may come first; when it is called idle, they are not waited for."""
    merger = Merger(("a", "b"))
    frame = pl.DataFrame({"time_ms": [5, 6]})
    merger.push("a", frame, np.array([0, 1]), 2)
    assert merger.take((), 10).frame is None
    assert merger.waiting("a") == 2
    released = merger.take(("b",), 10)
    assert released.frame is not None
    assert released.frame["time_ms"].to_list() == [5, 6]
    assert released.applied == {"a": 2}
