"""What can be asked of ``floodwatch dlq``, and what is said of what cannot."""

from __future__ import annotations

from typing import Final

import pytest

from monitor.dlq_arguments import ArgumentError, Place, letter_filter, parse_position
from monitor.kafka.dead_letters import LetterFilter, Position
from tests.support.letters import letter

NOW_MS: Final = 1_780_000_000_000
PLACE: Final = Place(
    ("127.0.0.1:9092",),
    {"generation-events": "generation-events-dlq", "eu.shares": "eu.shares-dlq"},
    "default",
)


def since(text: str) -> int | None:
    return letter_filter(None, text, None, None, now_ms=NOW_MS).since_ms


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("90s", NOW_MS - 90_000),
        ("2h", NOW_MS - 7_200_000),
        ("2h ago", NOW_MS - 7_200_000),
        ("30000d", 0),
        ("2026-03-02", 1_772_409_600_000),
        ("2026-03-02T09:00", 1_772_442_000_000),
        ("2026-03-02T09:00:00Z", 1_772_442_000_000),
        ("2026-03-02T10:00+01:00", 1_772_442_000_000),
        ("0001-01-01", 0),
    ],
)
def test_times_are_moments_or_how_long_ago(text: str, expected_ms: int) -> None:
    assert since(text) == expected_ms


@pytest.mark.parametrize("text", ["yesterday", "", "2h30", "-2h", "2026-13-01", "1700000000000"])
def test_other_times_are_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"--since: .* such as 30m, 2h or 7d"):
        since(text)


@pytest.mark.parametrize(
    "where",
    [
        ["generation-events[3]@42"],
        ["generation-events", "3", "42"],
    ],
)
def test_a_place_is_one_word_or_three(where: list[str]) -> None:
    position = parse_position(where)
    assert position == Position("generation-events", 3, 42)
    assert str(position) == "generation-events[3]@42"


@pytest.mark.parametrize(
    "where",
    [["generation-events"], ["a[1]@x"], ["a[-1]@1"], ["a", "1"], ["a", "b", "c"], ["a"] * 4, []],
)
def test_other_places_are_refused_with_an_example(where: list[str]) -> None:
    with pytest.raises(ArgumentError, match=r"such as generation-events 3 42"):
        parse_position(where)


def test_a_topic_is_meant_by_either_name() -> None:
    assert PLACE.chosen(None) == PLACE.dead_letters
    for name in ("eu.shares", "eu.shares-dlq"):
        assert PLACE.chosen([name]) == {"eu.shares": "eu.shares-dlq"}
    with pytest.raises(ArgumentError, match=r"did you mean 'generation-events"):
        PLACE.chosen(["generation-event"])
    with pytest.raises(ArgumentError, match=r"known here: generation-events, eu.shares"):
        PLACE.source("zzz")


def test_reasons_are_those_there_are() -> None:
    wanted = letter_filter(["wrong_type", "empty"], None, None, 2, now_ms=NOW_MS)
    assert wanted == LetterFilter(reasons=frozenset({"wrong_type", "empty"}), partition=2)
    with pytest.raises(ArgumentError, match=r"did you mean 'wrong_type'"):
        letter_filter(["wrong_typ"], None, None, None, now_ms=NOW_MS)


def test_a_filter_takes_what_meets_all_of_it() -> None:
    """The partition is the source's; since is inclusive, until is not."""
    wanted = LetterFilter(
        reasons=frozenset({"wrong_type"}), partition=2, since_ms=NOW_MS, until_ms=NOW_MS + 10
    )
    taken = letter(b"1", partition=2, written_ms=NOW_MS)
    assert wanted.takes(taken)
    assert wanted.takes(letter(b"1", partition=2, written_ms=NOW_MS + 9))
    assert not wanted.takes(letter(b"1", partition=2, written_ms=NOW_MS - 1))
    assert not wanted.takes(letter(b"1", partition=2, written_ms=NOW_MS + 10))
    assert not wanted.takes(letter(b"1", partition=1, written_ms=NOW_MS))
    assert LetterFilter().takes(taken)
