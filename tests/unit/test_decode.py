"""What bad input gets: a dead letter with the right reason, while its neighbours live."""

from __future__ import annotations

import json

import pytest

from detectors.events import COLUMNS_BY_NAME
from monitor.simulator.wire_json import to_wire_json
from monitor.wire import Decoder
from tests.support.events import random_events
from tests.support.malformed import KINDS

RECEIVED_MS = 1_790_000_000_000
GOOD = [text.encode() for text in to_wire_json(random_events(1, 6, 5, late_share=0)).to_list()]
DECODER = Decoder(frozenset(COLUMNS_BY_NAME))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_record_is_refused_for_its_reason(kind: str) -> None:
    """Between good neighbours, with its offset and its bytes; the neighbours are processed."""
    reason, record = KINDS[kind]
    values = [*GOOD[:3], record, *GOOD[3:]]
    decoded = DECODER.decode("topic", values, range(100, 107), [RECEIVED_MS] * 7)
    [letter] = decoded.dead
    assert (letter.reason, letter.offset, letter.raw) == (reason, 103, record)
    assert letter.message
    assert decoded.positions.tolist() == [0, 1, 2, 4, 5, 6]
    assert decoded.frame["event_id"].to_list() == [f"evt-1-{number}" for number in range(6)]


def test_every_kind_at_once() -> None:
    """However bad records mix in a chunk, each gets its own reason."""
    values = [record for _, record in KINDS.values()]
    decoded = DECODER.decode("topic", values, range(len(values)), [RECEIVED_MS] * len(values))
    expected = {position: reason for position, (reason, _) in enumerate(KINDS.values())}
    assert {letter.position: letter.reason for letter in decoded.dead} == expected
    assert len(decoded.frame) == 0


def test_a_reason_names_the_path_and_what_to_do() -> None:
    """The person who reads a dead letter is the one who can mend the producer."""
    records = [KINDS["seconds"][1], KINDS["text for time"][1], KINDS["negative cost"][1]]
    decoded = DECODER.decode("topic", records, range(3), [RECEIVED_MS] * 3)
    paths = [letter.path for letter in decoded.dead]
    assert paths == ["$.time", "$.time", "$.generation.cost"]
    assert "looks like seconds, milliseconds are wanted" in decoded.dead[0].message
    assert "Expected `int`, got `str`" in decoded.dead[1].message


def test_unknown_fields_are_ignored() -> None:
    """A producer may be ahead of us: more fields, also nested, are no reason to refuse."""
    text = GOOD[0].replace(b'{"event_id"', b'{"more":{"a":[1,{"b":null}]},"event_id"', 1)
    decoded = DECODER.decode("topic", [text], [0], [RECEIVED_MS])
    assert len(decoded.frame) == 1


def test_key_names_may_repeat_in_different_objects() -> None:
    """Only a key twice in one object is a duplicate."""
    text = GOOD[0].replace(b'{"event_id"', b'{"more":{"user_id":1},"event_id"', 1)
    assert len(DECODER.decode("topic", [text], [0], [RECEIVED_MS]).frame) == 1


def test_escapes_that_are_harmless_are_accepted() -> None:
    """A slash or a letter may be escaped; only what it stands for counts."""
    text = GOOD[0].replace(b"evt-1-0", b"evt\\/1\\u0030")
    decoded = DECODER.decode("topic", [text], [0], [RECEIVED_MS])
    assert decoded.frame["event_id"].to_list() == ["evt/10"]


def test_an_event_may_be_a_little_ahead_of_its_record_and_not_more() -> None:
    """Five minutes for clocks that differ; where the log has no time there is no bound."""
    time_ms = 1_780_000_000_000
    text = KINDS["half a millisecond"][1] or b""
    record = text.replace(b"%d.5" % time_ms, b"%d" % time_ms)
    received = [time_ms, time_ms - 300_000, time_ms - 300_001, -1]
    decoded = DECODER.decode("topic", [record] * 4, range(4), received)
    assert [(d.position, d.reason) for d in decoded.dead] == [(2, "time_in_future")]


def test_an_empty_chunk_is_nothing() -> None:
    """No records, no rows, no letters."""
    decoded = DECODER.decode("topic", [], [], [])
    assert (len(decoded.frame), decoded.dead) == (0, [])


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"generation": {"request_id": ""}}, "generation.requested"),
        ({"feedback": {"kind": "report"}}, "report.filed"),
        ({"share": {"asset_id": "a"}}, "generation.requested"),
    ],
    ids=["an empty id", "no subject", "the body of another type"],
)
def test_a_body_must_be_there_whatever_the_neighbours_are(
    changes: dict[str, object], kind: str
) -> None:
    """Also where another event has a body to spare, and where nothing else is wrong."""
    envelope = {
        "event_id": "evt",
        "time": 1_780_000_000_000,
        "user_id": "user",
        "account": {"created_at": 0, "tier": "free"},
        "client": {},
    }
    bodies = {"generation": {"request_id": "r"}, "share": {"asset_id": "a"}}
    bad = json.dumps(envelope | {"type": kind} | changes).encode()
    spare = json.dumps(envelope | {"type": "share.created"} | bodies).encode()
    for values in ([bad], [bad, spare], [spare, bad, *GOOD], [bad, KINDS["seconds"][1], spare]):
        decoded = DECODER.decode("topic", values, range(9), [RECEIVED_MS] * len(values))
        letters = {letter.position: letter.reason for letter in decoded.dead}
        assert letters[values.index(bad)] == "missing_body"
        assert len(decoded.frame) + len(decoded.dead) == len(values)


def test_a_control_character_is_refused_however_it_is_written() -> None:
    """DEL is the one that JSON lets stand as it is."""
    records = [GOOD[0].replace(b"evt-1-0", b"evt" + delete) for delete in (b"\x7f", b"\\u007f")]
    decoded = DECODER.decode("topic", records, range(2), [RECEIVED_MS] * 2)
    assert [letter.reason for letter in decoded.dead] == ["control_character"] * 2
