"""What ``floodwatch dlq`` is asked for: which topics, which letters, which one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from detectors.errors import near_match
from monitor.durations import parse_moment_ms
from monitor.kafka.dead_letters import LetterFilter, Position
from monitor.wire import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ArgumentError", "Place", "letter_filter", "parse_position"]


class ArgumentError(ValueError):
    """What was asked for cannot be."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look: the brokers, and the dead letters of each input topic."""

    brokers: tuple[str, ...]
    dead_letters: Mapping[str, str]
    pack: str

    def chosen(self, asked: Sequence[str] | None) -> Mapping[str, str]:
        """Those asked for, by either name. Raises ArgumentError for others."""
        if not asked:
            return self.dead_letters
        return {source: self.dead_letters[source] for source in map(self.source, asked)}

    def source(self, name: str) -> str:
        """The input topic that ``name`` is, or whose dead letters it is. Raises ArgumentError."""
        by_name = {source: source for source in self.dead_letters}
        by_name |= {dead: source for source, dead in self.dead_letters.items()}
        if name not in by_name:
            hint = near_match(name, by_name) or f"known here: {', '.join(self.dead_letters)}"
            raise ArgumentError(f"{name!r} is no input topic; {hint}")
        return by_name[name]


def letter_filter(
    reasons: Sequence[str] | None,
    since: str | None,
    until: str | None,
    partition: int | None,
    *,
    now_ms: int,
) -> LetterFilter:
    """Which letters are meant. Raises ArgumentError for reasons and times that are none."""
    known = [reason.value for reason in Reason]
    for reason in reasons or ():
        if reason not in known:
            hint = near_match(reason, known) or f"known here: {', '.join(known)}"
            raise ArgumentError(f"--reason: {reason!r} is no reason; {hint}")
    return LetterFilter(
        reasons=frozenset(reasons) if reasons else None,
        partition=partition,
        since_ms=None if since is None else _time_ms("--since", since, now_ms),
        until_ms=None if until is None else _time_ms("--until", until, now_ms),
    )


def _time_ms(option: str, text: str, now_ms: int) -> int:
    try:
        return parse_moment_ms(text, now_ms)
    except ValueError as error:
        raise ArgumentError(f"{option}: {error}") from error


def parse_position(where: Sequence[str]) -> Position:
    """The place that one or three words name. Raises ArgumentError for anything else."""
    try:
        if len(where) == 3:
            return Position(where[0], int(where[1]), int(where[2]))
        (text,) = where
        return Position.parse(text)
    except ValueError as error:
        raise ArgumentError(
            f"{' '.join(where)!r} is not a place: expected TOPIC PARTITION OFFSET, such as "
            "generation-events 3 42, or 'generation-events[3]@42'"
        ) from error
