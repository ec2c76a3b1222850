"""Traces packed for the stage of shared keys: each to one target, and damaged messages refused."""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any, Final

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.batch import EventBatch
from detectors.compiled import compile_pack
from monitor.trace_messages import (
    Outgoing,
    TraceMessage,
    TraceMessageError,
    decode_traces,
    encode_traces,
)
from tests.support.events import random_events
from tests.support.shared import shared_pack, traces_of

SPACES: Final = ("asset", "device", "network")
EVENTS: Final = 300


@cache
def traces() -> pl.DataFrame:
    """Traces of every key space, and counts of segments."""
    events = random_events(1, EVENTS, 12, spacing_ms=4_000)
    return traces_of(compile_pack(shared_pack()), [EventBatch.of(events)])


def sent(
    frame: pl.DataFrame, targets: int, *, source: int = 3, spaces: tuple[str, ...] = SPACES
) -> list[TraceMessage]:
    """What each target is told of ``frame``."""
    outgoing = Outgoing(frame, spaces, 0, len(frame), 77)
    return [decode_traces(value) for value in encode_traces(outgoing, source, 11, "7-w", targets)]


def target_of(messages: list[TraceMessage]) -> dict[tuple[str, str], int]:
    """By key space and key, which target its traces were sent to."""
    found: dict[tuple[str, str], int] = {}
    for target, message in enumerate(messages):
        if message.frame is None:
            continue
        names = ("segment", *message.spaces)
        for space, key in message.frame.select("space", "key").unique().iter_rows():
            assert found.setdefault((names[space], key), target) == target
    return found


@given(targets=st.integers(1, 9), cuts=st.lists(st.integers(0, 400), max_size=6))
@settings(max_examples=40, deadline=None)
def test_each_trace_arrives_once_in_its_order(targets: int, cuts: list[int]) -> None:
    """However a partition's traces are cut into steps; each target is told of each step."""
    whole = traces()
    edges = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    arrived: list[list[pl.DataFrame]] = [[] for _ in range(targets)]
    for start, end in pairwise(edges):
        outgoing = Outgoing(whole[start:end], SPACES, start, end, 1_000 + end)
        values = list(encode_traces(outgoing, 5, 8, "12-w", targets))
        assert len(values) == targets
        for target, message in enumerate(map(decode_traces, values)):
            header = (message.source, message.sources, message.lineage)
            assert header == (5, 8, "12-w")
            assert (message.start, message.end) == (start, end)
            assert (message.newest_ms, message.idle) == (1_000 + end, False)
            assert message.spaces == SPACES
            if message.frame is not None:
                assert message.frame["ordinal"].is_sorted()
                arrived[target].append(message.frame)
    together = pl.concat([frame for frames in arrived for frame in frames])
    assert together.sort("ordinal").equals(whole)


@pytest.mark.parametrize("targets", [2, 4, 7])
def test_any_sender_sends_a_key_to_the_same_target(targets: int) -> None:
    """Also one whose pack numbers the key spaces in another way: what counts are their names."""
    frame = traces()
    order = ("network", "asset", "video", "device")
    numbers = [0, *(order.index(space) + 1 for space in SPACES)]
    renumbered = frame.with_columns(pl.Series("space", numbers, dtype=pl.UInt8)[frame["space"]])
    here = target_of(sent(frame, targets))
    there = target_of(sent(renumbered.reverse(), targets, source=9, spaces=order))
    assert here == there
    assert {space for space, _ in here} == {"segment", *SPACES}
    assert len(set(here.values())) == targets


def test_who_has_nothing_to_say_says_so_to_everyone() -> None:
    """An idle source sends no rows; how far it has come is news all the same."""
    outgoing = Outgoing(pl.DataFrame(), SPACES, 40, 40, 99, idle=True)
    messages = [decode_traces(value) for value in encode_traces(outgoing, 1, 4, "2-w", 3)]
    assert (
        messages
        == [TraceMessage(1, 4, "2-w", 40, 40, 99, idle=True, spaces=SPACES, frame=None)] * 3
    )


def test_no_damage_goes_unnoticed() -> None:
    """Any bit that flips, any end that is torn off: Arrow alone would take it for other traces."""
    value = next(encode_traces(Outgoing(traces()[:8], SPACES, 0, 8, 77), 3, 4, "7-w", 1))
    assert decode_traces(value).frame is not None
    for length in range(len(value)):
        with pytest.raises(TraceMessageError):
            decode_traces(value[:length])
    for bit in range(0, 8 * len(value), 3):
        damaged = bytearray(value)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TraceMessageError):
            decode_traces(bytes(damaged))


@pytest.mark.parametrize("value", [None, b"", b"\0\0\0\0", b"hello, world", b'{"format":1}'])
def test_what_is_none_of_ours_is_refused(value: bytes | None) -> None:
    """Tombstones, and what another program wrote to the topic."""
    with pytest.raises(TraceMessageError):
        decode_traces(value)


@pytest.mark.parametrize("header", [{"format": 2}, {"format": 3, "source": "renamed"}])
def test_a_newer_format_is_refused_by_its_number(header: dict[str, Any]) -> None:
    """Whatever else has changed in it."""
    with pytest.raises(TraceMessageError, match=r"format \d is newer than 1.*update this worker"):
        decode_traces(framed(msgspec.json.encode(header)))


def test_a_header_that_is_not_whole_is_refused() -> None:
    """With what is missing."""
    with pytest.raises(TraceMessageError, match="missing required field `source`"):
        decode_traces(framed(b'{"format":1}'))


def framed(header: bytes) -> bytes:
    """A message of ``header`` alone, as a sender frames it."""
    rest = len(header).to_bytes(4, "big") + header
    return zlib.crc32(rest).to_bytes(4, "big") + rest


def test_a_large_step_goes_in_pieces_that_say_no_more_than_they_hold() -> None:
    """Together they are the step; each says how far it came by its own last row."""
    rows = 4_500
    frame = pl.DataFrame(
        {
            "ordinal": range(100, 100 + rows),
            "order_ms": [at // 10 for at in range(rows)],
            "key": ["k" * 2_000] * rows,
        }
    )
    whole = Outgoing(frame, ("asset",), 100, 100 + rows, 9_999, idle=True)
    pieces = list(whole.pieces())
    assert len(pieces) == 3
    assert [piece.start for piece in pieces] == [100, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end == 100 + rows
    assert pl.concat([piece.frame for piece in pieces]).equals(frame)
    newest_ms = [int(piece.frame["order_ms"][-1]) for piece in pieces]
    assert [piece.newest_ms for piece in pieces] == [*newest_ms[:-1], 9_999]
    assert [piece.idle for piece in pieces] == [False, False, True]
    assert len(list(replace(whole, frame=frame[:900].rechunk()).pieces())) == 1
    empty = Outgoing(pl.DataFrame(), ("asset",), 7, 7, 5)
    (piece,) = empty.pieces()
    assert (piece.start, piece.end, piece.newest_ms, len(piece.frame)) == (7, 7, 5, 0)
