"""Arbitrary bytes never get an exception out of the decoder, and spoil only themselves."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.events import COLUMNS_BY_NAME, event_schema
from monitor.simulator.wire_json import to_wire_json
from monitor.wire import Decoder
from tests.support.events import random_events

NAMES = frozenset(COLUMNS_BY_NAME)
RECEIVED_MS = 1_790_000_000_000
GOOD = [text.encode() for text in to_wire_json(random_events(1, 40, 5, late_share=0)).to_list()]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["user_id", "time", "type", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def decode(values: list[bytes | None]) -> tuple[list[int], dict[int, str]]:
    """Positions of the good records, and the reason of each bad one."""
    count = len(values)
    decoded = Decoder(NAMES).decode("topic", values, range(count), [RECEIVED_MS] * count)
    return decoded.positions.tolist(), {letter.position: letter.reason for letter in decoded.dead}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good record with one field replaced by anything, or with bytes changed, cut, repeated."""
    record: bytes = draw(st.sampled_from(GOOD))
    how = draw(st.sampled_from(["field", "bytes", "cut", "insert"]))
    if how == "field":
        event: dict[str, Any] = json.loads(record)
        owner = draw(st.sampled_from([event, *(v for v in event.values() if isinstance(v, dict))]))
        name = draw(st.sampled_from(sorted(owner)))
        owner[name] = draw(JSON)
        return json.dumps(event).encode()
    start = draw(st.integers(0, len(record)))
    end = draw(st.integers(start, min(len(record), start + 12)))
    noise = b"" if how == "cut" else draw(st.binary(max_size=12))
    return record[:start] + noise + record[end if how != "insert" else start :]


@given(st.lists(st.one_of(st.binary(), st.none(), damaged(), st.sampled_from(GOOD)), max_size=30))
@settings(max_examples=300, deadline=None)
def test_every_record_is_an_event_or_a_dead_letter(values: list[bytes | None]) -> None:
    """No exception, nothing lost, nothing twice; and a record's fate is its own."""
    good, dead = decode(values)
    assert sorted([*good, *dead]) == list(range(len(values)))
    assert good == sorted(good)
    alone = [bool(decode([value])[0]) for value in values]
    assert [position in set(good) for position in range(len(values))] == alone


@given(seed=st.integers(0, 1_000))
@settings(max_examples=20, deadline=None)
def test_columns_survive_the_wire(seed: int) -> None:
    """Columns to JSON to columns gives the columns that belong to each type's body."""
    events = random_events(seed, 60, 5, late_share=0)
    values: list[bytes | None] = [text.encode() for text in to_wire_json(events).to_list()]
    decoded = Decoder(NAMES).decode("topic", values, range(60), [RECEIVED_MS] * 60)
    assert not decoded.dead
    assert decoded.frame.schema == event_schema()
    again = [text.encode() for text in to_wire_json(decoded.frame).to_list()]
    assert again == values
