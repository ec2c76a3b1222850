"""What is read from the coordinator's topic, and what counts as moving on."""

from __future__ import annotations

from tests.chaos.coordinator import Commit, Generation, decode_entry
from tests.chaos.watcher import Mark

_COMMIT_KEY = b"\x00\x01\x00\x02g1\x00\x01t\x00\x00\x00\x03"
_OFFSET = (5).to_bytes(8, "big")
_NO_EPOCH = b"\xff\xff\xff\xff"
_TIME = (1_795_330_319_544).to_bytes(8, "big")


def test_commits_are_read_in_both_forms_of_their_strings() -> None:
    """Version 4 (Kafka 4) has compact strings and the topic's id at the end."""
    expected = Commit("g1", "t", 3, 5, "hello", 1.5)
    older = b"\x00\x03" + _OFFSET + _NO_EPOCH + b"\x00\x05hello" + _TIME
    newer = b"\x00\x04" + _OFFSET + _NO_EPOCH + b"\x06hello" + _TIME + b"\x01\x00\x10" + b"i" * 16
    assert decode_entry(_COMMIT_KEY, older, 1_500) == expected
    assert decode_entry(_COMMIT_KEY, newer, 1_500) == expected


def test_long_metadata_has_a_length_of_several_bytes() -> None:
    text = "m" * 3_000
    length = len(text) + 1
    value = b"\x00\x04" + _OFFSET + _NO_EPOCH + bytes([length & 0x7F | 0x80, length >> 7])
    entry = decode_entry(_COMMIT_KEY, value + text.encode() + _TIME + b"\x00", 0)
    assert isinstance(entry, Commit)
    assert entry.metadata == text


def test_generations_are_read_with_their_members() -> None:
    """An empty group has no protocol and no leader."""
    key = b"\x00\x02\x00\x02g1"
    named = b"\x00\x08consumer" + (7).to_bytes(4, "big") + b"\x00\x05range\x00\x02m1"
    full = b"\x00\x03" + named + _TIME + (3).to_bytes(4, "big") + b"..."
    empty = b"\x00\x03\x00\x00" + (8).to_bytes(4, "big") + _NO_EPOCH + _TIME + b"\x00" * 4
    assert decode_entry(key, full, 2_000) == Generation("g1", 7, 3, 2.0)
    assert decode_entry(key, empty, 2_000) == Generation("g1", 8, 0, 2.0)


def test_tombstones_and_other_records_are_no_entries() -> None:
    assert decode_entry(_COMMIT_KEY, None, 0) is None
    assert decode_entry(b"\x00\x09", b"\x00\x00", 0) is None


def test_all_has_resumed_when_the_last_partition_has_moved_on() -> None:
    """What was on its way when the worker was killed is no sign of life."""
    mark = Mark(at_s=100.0, partitions=2)
    mark.note(0, 100.1)
    mark.note(1, 102.0)
    assert mark.resumed_after_s is None
    mark.note(0, 107.5)
    mark.note(0, 109.0)
    assert mark.resumed_after_s == 7.5
