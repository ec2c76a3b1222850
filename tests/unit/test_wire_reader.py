"""What the fast reader reads, and what it leaves to the careful decoder.

That both agree is a property (tests/property/test_wire.py); here is that the reader does the work.
"""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from detectors.events import COLUMNS_BY_NAME
from monitor.simulator.wire_json import to_wire_json
from monitor.wire import Decoder
from monitor.wire.reader import Reader
from monitor.wire.records import PackedRecords
from tests.support.events import random_events

TIME_MS: Final = 1_780_000_000_000
EVENTS: Final = random_events(1, 200, 5, late_share=0)
READER: Final = Reader(frozenset(COLUMNS_BY_NAME))


def event(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - anything that JSON has
    return {
        "event_id": "evt",
        "type": "generation.requested",
        "time": TIME_MS,
        "user_id": "user",
        "account": {"created_at": TIME_MS - 10**9, "tier": "free"},
        "client": {"ip": "192.0.2.1"},
        "generation": {"request_id": "request"},
    } | changes


def as_bytes(**changes: Any) -> bytes:  # noqa: ANN401
    return json.dumps(event(**changes), ensure_ascii=False).encode()


def read(*records: bytes) -> list[dict[str, Any]]:
    frame, _ = READER.read(PackedRecords.of(records))
    return frame.rows(named=True)


def test_events_as_they_usually_are_are_read() -> None:
    """All of them, of every type: or decoding would be many times slower, and nothing would say."""
    frame, positions = READER.read(
        PackedRecords.of([text.encode() for text in to_wire_json(EVENTS).to_list()])
    )
    assert positions.tolist() == list(range(200))
    assert frame["event_id"].to_list() == EVENTS["event_id"].to_list()


@pytest.mark.parametrize(
    ("column", "value", "changes"),
    [
        ("likeness_of", "Beyoncé 日本 😀", {"likeness_of": "Beyoncé 日本 😀"}),
        ("cost", 0.30000000000000004, {"cost": 0.1 + 0.2}),
        ("cost", 1e-7, {"cost": 1e-7}),
        ("cost", 0.0012345678901234567, {"cost": 0.0012345678901234567}),
        ("cost", 5.0, {"cost": 5}),
        ("guard_decision", "allow", {"guard": {}}),
        ("guard_category", "nudity", {"guard": {"categories": ["nudity", "violence"]}}),
        ("guard_category", None, {"guard": {"categories": []}}),
        ("model", "twelve bytes", {"model": "twelve bytes"}),
        ("model", "thirteen byte", {"model": "thirteen byte"}),
        ("model", None, {"model": None}),
    ],
)
def test_values_are_read_exactly(column: str, value: object, changes: dict[str, object]) -> None:
    """Long and short texts, any float that a producer writes, lists, defaults."""
    [row] = read(as_bytes(generation={"request_id": "request"} | changes))
    assert row[column] == value


@pytest.mark.parametrize(
    "record",
    [
        as_bytes(newer=1.5, trace={"id": "a", "spans": [{"id": "b"}, [], {}]}, user_id2=None),
        b'{"more":{"user_id":1},' + as_bytes()[1:],
        json.dumps(event(), indent=None, separators=(" ,\t", " : ")).encode(),
        b"  " + as_bytes() + b" \r\n",
        json.dumps(dict(reversed(event().items()))).encode(),
    ],
    ids=["unknown fields", "a known name elsewhere", "white space", "around it", "another order"],
)
def test_what_producers_may_do_is_no_reason_to_be_slow(record: bytes) -> None:
    """They may be ahead of us, and write JSON as they like."""
    assert len(read(record)) == 1


@pytest.mark.parametrize(
    "record",
    [
        as_bytes().replace(b"evt", b"e\\/vt"),
        as_bytes().replace(b"{", b"{\n"),
        as_bytes(generation={"request_id": "request", "cost": 0}).replace(b": 0}", b": -0.0}"),
        as_bytes(more=12345678901234567890),
    ],
    ids=["escape", "over several lines", "negative zero", "20 digits"],
)
def test_what_is_rare_is_left_and_still_an_event(record: bytes) -> None:
    """The careful decoder takes it."""
    assert not read(record)
    assert len(Decoder(()).decode("topic", [record], [0], [TIME_MS]).frame) == 1


def test_a_guess_of_the_next_field_is_only_a_guess() -> None:
    """The order of the record before says where to look first, and nothing more."""
    plain, turned = as_bytes(), json.dumps(dict(reversed(event().items()))).encode()
    rows = read(plain, turned, plain, b'{"event_id', plain, turned[:-1], turned)
    assert rows == [rows[0]] * 5


def test_neighbours_share_nothing() -> None:
    """A value that a record lacks is not that of the record before, nor of one that was left."""
    full = as_bytes(generation={"request_id": "r", "model": "m" * 20, "cost": 2.5, "guard": {}})
    rows = read(full, as_bytes(), full[:-2], as_bytes(), full)
    assert [row["cost"] for row in rows] == [2.5, None, None, 2.5]
    assert [row["model"] for row in rows] == ["m" * 20, None, None, "m" * 20]


def test_broken_records_leave_nothing_behind() -> None:
    """However many of them end within an object of names that we do not know."""
    rows = read(*[b'{"newer":{"newest":' + as_bytes()] * 200, as_bytes(newer={"newest": 1}))
    assert len(rows) == 1


def test_feedback_names_its_video_unless_a_share_does() -> None:
    """Both bodies have an ``asset_id``; the column is one."""
    about = {"subject_user_id": "other", "asset_id": "from feedback"}
    report, share = event(type="report.filed", feedback=about), event(type="share.created")
    del report["generation"], share["generation"]
    share |= {"share": {"asset_id": "from share"}, "feedback": about}
    rows = read(json.dumps(report).encode(), json.dumps(share).encode())
    assert [row["asset_id"] for row in rows] == ["from feedback", "from share"]


def test_a_frame_outlives_what_it_was_read_from() -> None:
    """Its texts lie in the memory of the records, which it keeps."""
    url = "https://example.com/" + "x" * 100
    frames = [
        READER.read(PackedRecords.of([as_bytes(share={"asset_id": "v", "url": url})] * 50))[0]
        for _ in range(20)
    ]
    assert all(frame["url"].to_list() == [url] * 50 for frame in frames)
