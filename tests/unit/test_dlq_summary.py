"""What lies in the dead letters, in groups that stay few."""

from __future__ import annotations

from monitor.kafka.dead_letter_summary import GROUPS_MAX, GroupKey, Summary
from monitor.kafka.dead_letters import Position, Unreadable, read_letter
from monitor.kafka.log_reader import LogRecord
from monitor.kafka.redrive_ledger import Ledger, LedgerEntry, Sent
from tests.support.letters import LETTER_MS, letter

TOPIC = "generation-events-dlq"


def test_letters_are_grouped_by_topic_reason_and_path_the_largest_first() -> None:
    ledger = Ledger()
    sent = Sent(offset=90, timestamp_ms=LETTER_MS)
    ledger.note(
        LedgerEntry(
            partition=0, offset=2, timestamp_ms=LETTER_MS, attempt=1, from_offset=80, sent=sent
        ),
        LETTER_MS,
    )
    summary = Summary()
    for offset, written_ms in enumerate((50, 20, 90, 70, 60)):
        summary.add(letter(b"1", offset=offset, written_ms=written_ms), ledger)
    summary.add(letter(b"1", offset=9, path="$.user_id"), ledger)
    (first, group), (second, _) = summary.groups
    assert first == GroupKey(TOPIC, "wrong_type", "$.time")
    assert second == GroupKey(TOPIC, "wrong_type", "$.user_id")
    assert (group.letters, group.redriven, group.first_ms, group.last_ms) == (5, 1, 20, 90)
    assert list(group.samples) == [Position("generation-events", 0, offset) for offset in (2, 3, 4)]
    assert summary.letters == 6


def test_the_groups_are_bounded_and_what_is_beyond_is_counted() -> None:
    """Whoever writes to the topic chooses the paths."""
    summary = Summary()
    for number in range(GROUPS_MAX + 40):
        summary.add(letter(b"1", path=f"$.{number}"), Ledger())
    summary.add(letter(b"1", path="$.3"), Ledger())
    assert (len(summary.groups), summary.left_out) == (GROUPS_MAX, 40)
    assert summary.letters == GROUPS_MAX + 41
    assert summary.groups[0][0].path == "$.3"


def test_what_is_no_letter_is_counted_with_the_newest() -> None:
    summary = Summary()
    for offset, value in enumerate(
        (None, b"", b"{}", b"\xff", b"[" * 60_000, JUNK_SOURCE, NOT_BASE64)
    ):
        entry = read_letter(LogRecord(TOPIC, 0, offset, LETTER_MS, False, None, value, ()))
        assert isinstance(entry, Unreadable)
        assert entry.message
        summary.add(entry, Ledger())
    assert (summary.letters, summary.unreadable) == (0, 7)
    assert summary.unreadable_sample is not None
    assert summary.unreadable_sample.at == Position(TOPIC, 0, 6)


JUNK_SOURCE = (
    b'{"reason":"x","path":"$","message":"","source":{"topic":"t","partition":0,'
    b'"offset":9223372036854775808,"timestamp_ms":0},"raw":null,"raw_size_bytes":0,"truncated":false}'
)
NOT_BASE64 = JUNK_SOURCE.replace(b"9223372036854775808", b"1").replace(b'"raw":null', b'"raw":"?"')
