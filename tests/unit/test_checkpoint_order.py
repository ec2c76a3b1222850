"""The order taken: what is committed says exactly how the sources were merged."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.checkpoint.contract import CommittedOffset
from monitor.checkpoint.errors import CheckpointError
from monitor.checkpoint.order import METADATA_BYTES, Progress, TakenOrder, parse_committed
from monitor.merge import Merger

_SOURCES = ("a", "b", "c")


def test_one_merge_is_one_cut() -> None:
    order = TakenOrder(Progress({"a": 10, "b": 5}))
    order.took({"a": 12, "b": 5}, in_order=True)
    order.took({"a": 15, "b": 9}, in_order=True)
    progress = parse_committed(order.committed())
    assert progress.position == {"a": 10, "b": 5}
    assert progress.cuts == ({"a": 15, "b": 9},)
    assert progress.checkpoint is None


def test_an_event_out_of_order_begins_a_new_cut() -> None:
    order = TakenOrder(Progress({"a": 0, "b": 0}))
    order.took({"a": 3, "b": 0}, in_order=True)
    order.took({"a": 3, "b": 200}, in_order=False)
    order.publish()
    order.took({"a": 3, "b": 201}, in_order=True)
    progress = parse_committed(order.committed())
    assert progress.cuts == ({"a": 3, "b": 0}, {"a": 3, "b": 201})
    assert progress.published == {"a": 3, "b": 200}


def test_a_checkpoint_takes_the_place_of_the_cuts_before_it() -> None:
    order = TakenOrder(Progress({"a": 0}))
    order.took({"a": 3}, in_order=True)
    cuts = order.close()
    order.took({"a": 7}, in_order=True)
    order.rebase("4-1", cuts)
    progress = parse_committed(order.committed())
    assert progress == Progress({"a": 3}, "4-1", {"a": 3}, ({"a": 7},))


def test_a_source_that_begins_later_has_no_share_in_earlier_cuts() -> None:
    order = TakenOrder(Progress({"a": 0}))
    order.took({"a": 3}, in_order=True)
    order.begins("b", 40)
    order.took({"a": 3, "b": 44}, in_order=False)
    progress = parse_committed(order.committed())
    assert progress.position == {"a": 0, "b": 40}
    assert progress.cuts == ({"a": 3, "b": 40}, {"a": 3, "b": 44})


def test_room_for_a_thousand_cuts() -> None:
    order = TakenOrder(Progress({"a": 0, "b": 0}))
    for step in range(1, 1_001):
        order.took({"a": 100 * step, "b": step}, in_order=False)
    assert order.fill < 1.0
    committed = order.committed()
    assert all(len(entry.metadata) <= METADATA_BYTES for entry in committed.values())
    assert len(parse_committed(committed).cuts) == 1_000


def test_offsets_that_nobody_described_start_without_a_checkpoint() -> None:
    progress = parse_committed({"a": CommittedOffset(7, "")})
    assert progress == Progress({"a": 7})


def test_offsets_that_do_not_belong_together_are_refused() -> None:
    order = TakenOrder(Progress({"a": 0, "b": 0}, checkpoint="1-1"))
    committed = order.committed()
    with pytest.raises(CheckpointError, match=r"do not belong together.*move those of all input"):
        parse_committed({**committed, "b": CommittedOffset(3, "")})
    other = TakenOrder(Progress({"b": 0}, checkpoint="2-1")).committed()
    with pytest.raises(CheckpointError, match="do not belong together"):
        parse_committed({**committed, **other})


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("hello", "not ours"),
        ('{"format":4,"checkpoint":null,"published":0,"cuts":""}', "format 4.*newer"),
        ('{"format":2,"checkpoint":null,"published":0,"cuts":"gA=="}', "break off"),
        ('{"format":2,"checkpoint":null,"published":0,"cuts":"!"}', "cuts"),
    ],
)
def test_metadata_that_cannot_be_read_is_refused(metadata: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        parse_committed({"a": CommittedOffset(0, metadata)})


@pytest.mark.parametrize("written", [1, 2])
def test_what_older_versions_committed_can_be_read(written: int) -> None:
    """Before there were models to switch between, and before runs had names."""
    switches = ',"switches":[[0,"m+"]]' if written == 2 else ""
    metadata = f'{{"format":{written},"checkpoint":"1-1","published":2,"cuts":"Aw=="{switches}}}'
    progress = parse_committed({"a": CommittedOffset(10, metadata)})
    assert progress == Progress(
        {"a": 10},
        "1-1",
        {"a": 12},
        ({"a": 13},),
        switches=((0, "m+"),) if switches else (),
        lineage=None,
    )


def test_a_run_keeps_the_name_that_it_was_given_first() -> None:
    """Through commits, checkpoints and whoever goes on: a receiver knows it by that name."""
    order = TakenOrder(Progress({"a": 0, "b": 0}), "3-first")
    order.took({"a": 3, "b": 1}, in_order=True)
    assert parse_committed(order.committed()).lineage == "3-first"
    order.rebase("3-first-1", order.close())
    progress = parse_committed(order.committed())
    assert progress.lineage == "3-first"
    successor = TakenOrder(progress, "8-second")
    assert successor.lineage == "3-first"
    assert parse_committed(successor.committed()).lineage == "3-first"


def test_a_run_without_state_has_a_name_of_its_own() -> None:
    """So has one that goes on from what was committed before runs had names."""
    moved = parse_committed({"a": CommittedOffset(7, "")})
    assert TakenOrder(moved, "9-new").lineage == "9-new"
    unnamed = '{"format":2,"checkpoint":"1-1","published":0,"cuts":""}'
    order = TakenOrder(parse_committed({"a": CommittedOffset(7, unnamed)}), "9-new")
    assert parse_committed(order.committed()).lineage == "9-new"


def test_offsets_of_two_runs_do_not_belong_together() -> None:
    """As when those of one topic are set back to what they were before a reset."""
    one, other = (TakenOrder(Progress({name: 0}), f"{name}-run").committed() for name in "ab")
    with pytest.raises(CheckpointError, match="do not belong together"):
        parse_committed({**one, **other})


_EVENTS = st.lists(
    st.tuples(st.sampled_from(_SOURCES), st.integers(0, 20), st.booleans()), max_size=60
)


@settings(max_examples=200, deadline=None)
@given(_EVENTS, st.lists(st.tuples(st.integers(1, 9), st.sets(st.sampled_from(_SOURCES)))))
def test_the_cuts_give_the_same_order_however_the_sources_arrive(
    events: list[tuple[str, int, bool]], steps: list[tuple[int, set[str]]]
) -> None:
    """Arrivals and forced merges are drawn; a second merger gets all at once, and the cuts."""
    logs: dict[str, list[int]] = {name: [] for name in _SOURCES}
    for name, time, _ in events:
        logs[name].append(time)
    first, order = Merger(_SOURCES), TakenOrder(Progress(dict.fromkeys(_SOURCES, 0)))
    first.start(dict.fromkeys(_SOURCES, 0), {})
    taken: list[str] = []
    pushed = dict.fromkeys(_SOURCES, 0)
    pace = [*steps, *[(99, set(_SOURCES))] * 3]
    for size, idle in pace:
        for name, times in logs.items():
            end = min(len(times), pushed[name] + size)
            _push(first, name, times, pushed[name], end)
            pushed[name] = end
        merged = first.take(idle, size)
        taken += _ids(merged.frame)
        order.took(merged.applied, in_order=merged.in_order)
    assert len(taken) == len(events)
    progress = parse_committed(order.committed())
    second = Merger(_SOURCES)
    second.start(progress.position, {})
    again: list[str] = []
    for name, times in logs.items():
        _push(second, name, times, 0, len(times))
    for cut in progress.cuts:
        while (merged := second.take((), 7, cut)).frame is not None:
            again += _ids(merged.frame)
    assert again == taken


def _push(merger: Merger, name: str, times: list[int], start: int, end: int) -> None:
    frame = pl.DataFrame(
        {"time_ms": times[start:end], "id": [f"{name}{at}" for at in range(start, end)]},
        schema={"time_ms": pl.Int64, "id": pl.String},
    )
    merger.push(name, frame, np.arange(start, end, dtype=np.int64), end)


def _ids(frame: pl.DataFrame | None) -> list[str]:
    return [] if frame is None else frame["id"].to_list()
