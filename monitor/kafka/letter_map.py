"""Numbers by dead letter, for millions of them: 21 bytes each instead of a dictionary's 250."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from monitor.kafka.dead_letters import LetterId

__all__ = ["LetterMap"]

_RECENT_MAX: Final = 65_536


class LetterMap:
    """From letters to small numbers (0 to 255); what is set a second time is replaced.

    Most of them lie in arrays in order of (partition, offset, time); the newest in a dictionary,
    which is merged into the arrays when it grows beyond an eighth of them.
    """

    def __init__(self, recent_max: int = _RECENT_MAX) -> None:
        self._recent_max = recent_max
        self._recent: dict[LetterId, int] = {}
        self._partitions = np.empty(0, dtype=np.int32)
        self._offsets = np.empty(0, dtype=np.int64)
        self._times_ms = np.empty(0, dtype=np.int64)
        self._values = np.empty(0, dtype=np.uint8)

    def __setitem__(self, letter: LetterId, value: int) -> None:
        self._recent[letter] = min(value, 255)
        if len(self._recent) >= max(self._recent_max, len(self._values) // 8):
            self._merge()

    def get(self, letter: LetterId) -> int | None:
        """The number of ``letter``; None if none was set."""
        value = self._recent.get(letter)
        if value is not None:
            return value
        start, stop = self._range(self._partitions, letter.partition, 0, len(self._values))
        start, stop = self._range(self._offsets, letter.offset, start, stop)
        start, stop = self._range(self._times_ms, letter.timestamp_ms, start, stop)
        return int(self._values[stop - 1]) if start < stop else None

    def __contains__(self, letter: LetterId) -> bool:
        return self.get(letter) is not None

    @staticmethod
    def _range(
        column: np.ndarray[tuple[int], np.dtype[np.signedinteger]],
        value: int,
        start: int,
        stop: int,
    ) -> tuple[int, int]:
        """Where ``value`` lies in the sorted part of ``column`` between the two places."""
        part = column[start:stop]
        low = int(np.searchsorted(part, value, side="left"))
        high = int(np.searchsorted(part, value, side="right"))
        return start + low, start + high

    def _merge(self) -> None:
        letters = list(self._recent)
        partitions = np.array([letter.partition for letter in letters], dtype=np.int32)
        offsets = np.array([letter.offset for letter in letters], dtype=np.int64)
        times_ms = np.array([letter.timestamp_ms for letter in letters], dtype=np.int64)
        values = np.fromiter(self._recent.values(), dtype=np.uint8, count=len(letters))
        partitions = np.concatenate([self._partitions, partitions])
        offsets = np.concatenate([self._offsets, offsets])
        times_ms = np.concatenate([self._times_ms, times_ms])
        values = np.concatenate([self._values, values])
        # Stable: of two with the same letter the newer one stays behind the older, and is found.
        order = np.lexsort((times_ms, offsets, partitions))
        self._partitions, self._offsets = partitions[order], offsets[order]
        self._times_ms, self._values = times_ms[order], values[order]
        self._recent = {}
