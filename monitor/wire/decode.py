"""Records to events as columns, and what cannot become an event to dead letters.

Records that are as events usually are go through ``reader``; the others, one by one, through
``careful``. A record is decoded by itself, so that a bad one spoils only itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from monitor.wire.careful import CarefulDecoder
from monitor.wire.checks import AHEAD, CHECKED_COLUMNS, MAX_AHEAD_MS, Checks, Refusal
from monitor.wire.letters import DeadLetter
from monitor.wire.reader import Reader
from monitor.wire.records import PackedRecords

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

    Int64s = npt.NDArray[np.int64]
    _Part = tuple[pl.DataFrame, Int64s]

__all__ = ["Decoded", "Decoder"]

_PIECE: Final = 16_384


@dataclass(frozen=True, slots=True)
class Decoded:
    """n good events as a frame, in order; ``positions`` (n,) within the chunk; the bad ones."""

    frame: pl.DataFrame
    positions: npt.NDArray[np.int64]
    dead: list[DeadLetter]


class Decoder:
    """Decodes chunks of records into the columns ``names``; never raises on bad input."""

    def __init__(self, names: Collection[str], *, max_ahead_ms: int = MAX_AHEAD_MS) -> None:
        needed = frozenset(names) | CHECKED_COLUMNS
        self._checks = Checks(needed, max_ahead_ms)
        self._reader = Reader(needed)
        self._careful = CarefulDecoder(needed)

    def decode(
        self,
        source: str,
        values: Sequence[bytes | None],
        offsets: Sequence[int],
        received_ms: Sequence[int],
    ) -> Decoded:
        """Decode a chunk of records from ``source`` (topic or file).

        ``received_ms`` is when each record was received (the log's own time); an event may not be
        further ahead of it than ``max_ahead_ms``.
        """
        refused: dict[int, Refusal] = {}
        received = np.asarray(received_ms, dtype=np.int64)
        parts: list[_Part] = []
        left: list[int] = []
        # So many at a time that positions in their memory have 31 bits, however large they are.
        for start in range(0, len(values), _PIECE):
            piece = values[start : start + _PIECE]
            packed = piece if isinstance(piece, PackedRecords) else PackedRecords.of(piece)
            frame, read = self._reader.read(packed)
            parts.append(self._unless_ahead(frame, start + read, received, refused))
            if len(read) < len(piece):
                others = np.delete(np.arange(len(piece)), read)
                left += (start + others).tolist()
        if left or not parts:
            parts.append(self._decode_carefully(values, left, received, refused))
        frame = pl.concat([frame for frame, _ in parts], rechunk=True)
        positions = np.concatenate([positions for _, positions in parts])
        if left:
            order = np.argsort(positions)
            frame, positions = frame[order], positions[order]
        dead = [
            DeadLetter(source, p, offsets[p], r.reason, r.path, r.message, values[p])
            for p, r in sorted(refused.items())
        ]
        return Decoded(frame, positions, dead)

    def _unless_ahead(
        self,
        frame: pl.DataFrame,
        positions: Int64s,
        received_ms: Int64s,
        refused: dict[int, Refusal],
    ) -> _Part:
        """What the reader has read, of which only the time has yet to be looked at."""
        ahead = self._checks.ahead(frame["time_ms"].to_numpy(), received_ms[positions])
        if not ahead.any():
            return frame, positions
        refused |= dict.fromkeys(positions[ahead].tolist(), AHEAD)
        return frame.filter(pl.Series(~ahead)), positions[~ahead]

    def _decode_carefully(
        self,
        values: Sequence[bytes | None],
        left: list[int],
        received_ms: Int64s,
        refused: dict[int, Refusal],
    ) -> _Part:
        """The events among the records at the positions ``left``."""
        careful = self._careful.decode([values[position] for position in left])
        frame = careful.frame
        positions = np.array(left, dtype=np.int64)[careful.positions]
        refused |= {left[place]: refusal for place, refusal in careful.refused.items()}
        absurd = self._checks.refusals(frame, received_ms[positions])
        if not absurd:
            return frame, positions
        refused |= {int(positions[row]): refusal for row, refusal in absurd.items()}
        good = np.ones(len(frame), dtype=np.bool_)
        good[list(absurd)] = False
        return frame.filter(pl.Series(good)), positions[good]
