"""What decoding says of dead letters now: with this version, this pack, at this time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitor.wire import Decoder

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from monitor.kafka.dead_letters import Letter

__all__ = ["PresentDecoder", "Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What decoding says of a record.

    ``reason``, ``path`` and ``message`` are empty where it passes; then ``type``, ``user_id`` and
    ``time_ms`` are the event's. ``late`` if its time is before every window that ends now.
    """

    reason: str = ""
    path: str = ""
    message: str = ""
    type: str = ""
    user_id: str = ""
    time_ms: int = -1
    late: bool = False

    @property
    def passes(self) -> bool:
        return not self.reason


class PresentDecoder:
    """Decodes letters as a worker of this version with this pack would, if it read them now.

    ``columns`` are the event columns that the pack reads: values of others are not looked at.
    """

    def __init__(self, columns: Collection[str], longest_window_ms: int) -> None:
        self._decoder = Decoder(columns)
        self._longest_window_ms = longest_window_ms

    def verdicts(self, letters: Sequence[Letter], now_ms: int) -> list[Verdict]:
        """One for each letter of one source; their bytes must be whole.

        ``now_ms`` is when the log would receive them: an event may be ahead of that by a few
        minutes only.
        """
        if not letters:
            return []
        decoded = self._decoder.decode(
            letters[0].record.source.topic,
            [letter.raw for letter in letters],
            [letter.record.source.offset for letter in letters],
            [now_ms] * len(letters),
        )
        found = {
            dead.position: Verdict(dead.reason.value, dead.path, dead.message)
            for dead in decoded.dead
        }
        rows = decoded.frame.select("type", "user_id", "time_ms").iter_rows()
        for position, (kind, user_id, time_ms) in zip(
            decoded.positions.tolist(), rows, strict=True
        ):
            late = time_ms < now_ms - self._longest_window_ms
            found[position] = Verdict(type=kind, user_id=user_id, time_ms=time_ms, late=late)
        return [found[position] for position in range(len(letters))]
