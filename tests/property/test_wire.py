"""Arbitrary bytes never get an exception out of the decoder, and spoil only themselves.

The fast reader and the careful decoder agree on every record: the one takes no event that the
other refuses, and reads the same values.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from detectors.events import COLUMNS_BY_NAME, event_schema
from monitor.simulator.wire_json import to_wire_json
from monitor.wire import Decoded, Decoder
from monitor.wire.records import PackedRecords
from tests.support.events import random_events
from tests.support.malformed import KINDS

NAMES: Final = frozenset(COLUMNS_BY_NAME)
SOME: Final = frozenset({"cost", "guard_category", "verified", "url"})
RECEIVED_MS: Final = 1_790_000_000_000
GOOD: Final = [t.encode() for t in to_wire_json(random_events(1, 40, 5, late_share=0)).to_list()]
FULL: Final = [
    (
        b'{"event_id":"e-1","type":"generation.completed","time":1780000000000,"user_id":"user-one",'
        b'"account":{"created_at":1770000000000,"tier":"free","country":"DE","last_active_at":null},'
        b'"client":{"ip":"2001:db8::1","device_id":"d","session_id":null,"app_version":"1.2.3"},'
        b'"generation":{"request_id":"r-1","model":"m","prompt_fingerprint":"0123456789abcdef",'
        b'"prompt_signature":"signature-of-a-prompt","duration_s":5.25,"resolution":"720p",'
        b'"cost":0.30000000000000004,"guard":{"categories":["violence","nudity"],'
        b'"score":0.8437123456789012},"likeness_of":"Beyonc\xc3\xa9"},"schema_version":1,'
        b'"trace":{"id":"x","spans":[1,[],{"a":null}],"id2":{}},"more":-1e3}'
    ),
    (
        b'{"event_id":"e-2","type":"share.created","time":1780000000001,"user_id":"user-two",'
        b'"account":{"created_at":1770000000000,"tier":"pro","verified":true},"client":{},'
        b'"share":{"asset_id":"v-1","asset_fingerprint":"ff","channel":"link","target_id":"t",'
        b'"url":"https://x.example/a?b=c","visibility":"public","view_count":12,"provenance":'
        b'{"c2pa_present":false,"c2pa_state":"valid","digital_source_type":"trainedAlgorithmicMedia",'
        b'"watermark":"present"}},"feedback":{"asset_id":"v-2","subject_user_id":"user-three"}}'
    ),
    (
        b'{"event_id":"e-3","type":"report.filed","time":1780000000002,"user_id":"user-two",'
        b'"account":{"created_at":1770000000000,"tier":"pro","verified":false},"client":{},"feedback":'
        b'{"kind":"report","subject_user_id":"user-four","asset_id":"v-1","reason":"spam"}}'
    ),
]

TOKENS: Final = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\t", b"\r", b"\n", b"\0", b"\x1f"),
    *(b"\x7f", b"\x80", b"\xc3\xa9", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xe2\x82", b"\\u0041"),
    *(b"null", b"true", b"false", b"0", b"-", b"1.5", b"e5", b".", b'""', b"[]", b"{}", b'\\"'),
    *(b'"x":1,', b',"user_id":"q"', b'{"user_id":1}', b'"x":{"a":1,"a":2},', b'"w":[[],{}],'),
    *(b'"' + b"k" * 30 + b'":1,', b'"' + b"v" * 200 + b'"'),
]
NUMBERS: Final = [
    *(b"0", b"-1", b"-0", b"-0.0", b"00", b"01", b"12.", b".5", b"1e3", b"1.0", b"1E-3", b"1e999"),
    *(b"0.1234567890123456", b"123456789012.34567", b"9007199254740993", b"1e-70", b"1e64"),
    *(b"123456789012345678", b"1234567890123456789", b"9223372036854775808", b"1" * 40),
    *(b"1790000300000", b"1790000300001", b"946684799999", b"4102444800001", b"1000000000.1"),
    *(b"null", b"true", b'"x"', b"[]", b"{}", b"NaN"),
]
TEXTS: Final = [
    *(b"", b"a" * 12, b"a" * 13, b"x" * 64, b"x" * 65, b"y" * 128, b"y" * 129, b"\xff", b"a\x7f"),
    *("é".encode() * 30, "日本語の名前です".encode(), b"generation.failed", b"share.removed"),
]
NAME: Final = re.compile(rb'"([a-z_0-9]+)":')
NUMBER: Final = re.compile(rb":(-?[0-9][0-9.eE+-]*|true|false|null)")
TEXT: Final = re.compile(rb':"([^"]*)"')

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["user_id", "time", "type", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


class _ReadsNothing:
    """In the place of the fast reader, so that all records go to the careful decoder."""

    def __init__(self, names: frozenset[str]) -> None:
        self.nothing = Decoder(names).decode("topic", [], [], []).frame

    def read(self, records: PackedRecords) -> tuple[pl.DataFrame, npt.NDArray[np.int64]]:
        return self.nothing, np.zeros(0, dtype=np.int64)


def careful_decoder(names: frozenset[str]) -> Decoder:
    decoder = Decoder(names)
    decoder._reader = _ReadsNothing(names)  # type: ignore[assignment]
    return decoder


DECODERS: Final = {names: (Decoder(names), careful_decoder(names)) for names in (NAMES, SOME)}


def decode(decoder: Decoder, values: list[bytes | None]) -> Decoded:
    return decoder.decode("topic", values, range(len(values)), [RECEIVED_MS] * len(values))


def assert_both_agree(values: list[bytes | None], names: frozenset[str] = NAMES) -> Decoded:
    fast, careful = (decode(decoder, values) for decoder in DECODERS[names])
    assert_frame_equal(fast.frame, careful.frame, check_exact=True)
    assert fast.positions.tolist() == careful.positions.tolist()
    assert fast.dead == careful.dead
    return fast


def replaced(
    chance: random.Random, record: bytes, pattern: re.Pattern[bytes], by: list[bytes]
) -> bytes:
    """``record`` with one of the places that match (their first group) replaced."""
    places = [match.span(1) for match in pattern.finditer(record)]
    if not places:
        return record
    start, end = chance.choice(places)
    return record[:start] + chance.choice(by) + record[end:]


def mutated(chance: random.Random, record: bytes) -> bytes:
    """``record`` with a few bytes or JSON tokens changed, moved, left out or put in."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        start = chance.randrange(len(record) + 1)
        end = min(len(record), start + chance.randrange(8))
        match chance.randrange(8):
            case 0:
                record = replaced(chance, record, NUMBER, NUMBERS)
            case 1:
                record = replaced(chance, record, TEXT, TEXTS)
            case 2:
                record = replaced(chance, record, NAME, NAME.findall(record) or [b"x"])
            case 3:
                record = record[:start] + bytes([chance.randrange(256)]) + record[start + 1 :]
            case 4:
                record = record[:start] + record[end:]
            case 5:
                record = record[:start]
            case 6:
                record = record[:start] + record[end : end + 40] + record[start:]
            case _:
                record = record[:start] + chance.choice(TOKENS) + record[start:]
    return record


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
@settings(max_examples=200, deadline=None)
def test_every_record_is_an_event_or_a_dead_letter(values: list[bytes | None]) -> None:
    """No exception, nothing lost, nothing twice; and a record's fate is its own."""
    decoded = assert_both_agree(values)
    good, dead = decoded.positions.tolist(), [letter.position for letter in decoded.dead]
    assert sorted([*good, *dead]) == list(range(len(values)))
    assert good == sorted(good)
    fast, _ = DECODERS[NAMES]
    alone = [len(decode(fast, [value]).frame) == 1 for value in values]
    assert [position in set(good) for position in range(len(values))] == alone


@pytest.mark.parametrize("seed", range(20))
def test_the_reader_agrees_with_the_careful_decoder(seed: int) -> None:
    """On 40,000 records that are almost events, in chunks of a few and of many."""
    chance = random.Random(seed)
    sources = [*GOOD, *FULL * 15, *(r for _, r in KINDS.values() if r and len(r) < 5_000)]
    for count in (1, 2, 10, 987, 1_000):
        values: list[bytes | None] = [mutated(chance, chance.choice(sources)) for _ in range(count)]
        assert_both_agree(values, chance.choice((NAMES, NAMES, SOME)))


@pytest.mark.parametrize("names", [NAMES, SOME])
def test_they_agree_on_what_is_wrong(names: frozenset[str]) -> None:
    """Every kind of malformed record, alone and between good ones."""
    bad = [record for _, record in KINDS.values()]
    assert_both_agree([*GOOD, *bad, *FULL], names)
    for record in bad:
        assert_both_agree([record], names)


@given(seed=st.integers(0, 1_000))
@settings(max_examples=20, deadline=None)
def test_columns_survive_the_wire(seed: int) -> None:
    """Columns to JSON to columns gives the columns that belong to each type's body."""
    events = random_events(seed, 60, 5, late_share=0)
    decoded = assert_both_agree([text.encode() for text in to_wire_json(events).to_list()])
    assert not decoded.dead
    assert decoded.frame.schema == event_schema()
    again = [text.encode() for text in to_wire_json(decoded.frame).to_list()]
    assert again == [text.encode() for text in to_wire_json(events).to_list()]
