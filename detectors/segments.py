"""Volumes of parts of the traffic, summed over the partitions that saw them.

Each partition of users counts its own share of a segment (``detectors.traces``); here the shares of
a minute are added up, the minute is scored against what is usual (``detectors.volume``), and rules
of the key space ``segment`` are asked. A segment that comes back after others took its place starts
anew.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.keys import hash_strings
from detectors.names import NameTable
from detectors.shared import SEGMENT_COLUMNS, horizon_names
from detectors.state.fields import Field, Span
from detectors.state.rows import RowState
from detectors.volume import NOTHING_SEEN_MS, SegmentBaselines, VolumeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from detectors.state.blocks import Array
    from detectors.state.fields import RowPart
    from detectors.volume import VolumeScores

__all__ = ["ClosedMinutes", "SegmentVolumes"]

Int64s = npt.NDArray[np.int64]

_MAX_SEGMENTS: Final = 1_024
_BLOCK_ROWS: Final = 64
_STRAGGLERS_MS: Final = 30_000
"""How long after its end, beside what late events are given, a minute waits for partitions that had
nothing to do for a while: they say what they counted when their next event comes."""


@dataclass(frozen=True, slots=True)
class ClosedMinutes:
    """A minute that was over at row ``position`` of a batch: m segments, as rules read them."""

    position: int
    frame: pl.DataFrame


class _BaselineRows:
    """The baselines as a ``RowPart``."""

    def __init__(self, capacity: int, settings: VolumeSettings) -> None:
        self.baselines = SegmentBaselines(capacity, settings)
        self._empty = SegmentBaselines(1, settings).arrays
        self._settings = settings

    @property
    def row_arrays(self) -> Mapping[str, Array]:
        """See ``RowPart``."""
        return self.baselines.arrays

    @property
    def fields(self) -> Sequence[Field]:
        """See ``RowPart``. With other settings all of it starts empty."""
        spans = {
            name: [Span(0, 1, array.shape[1] if array.ndim > 1 else 1)]
            for name, array in self.row_arrays.items()
        }
        return (Field("volume", {"kind": "volume", "settings": str(self._settings)}, spans),)

    def clear_rows(self, rows: slice | npt.NDArray[np.int32]) -> None:
        """See ``RowPart``."""
        for name, array in self.row_arrays.items():
            array[rows] = self._empty[name]

    def complete_rows(self, rows: slice) -> None:
        """See ``RowPart``: nothing follows."""


class SegmentVolumes:
    """The segments of one partition of shared keys, at most 1,024."""

    def __init__(self, settings: VolumeSettings) -> None:
        self._settings = settings
        self._names = NameTable(_MAX_SEGMENTS, _BLOCK_ROWS)
        self._rows = _BaselineRows(_MAX_SEGMENTS, settings)
        self._open: Counter[tuple[int, str]] = Counter()
        self._newest_ms = NOTHING_SEEN_MS
        self.late = 0

    @property
    def table(self) -> RowState:
        """What is kept for segments, as a table of blocks."""
        parts: dict[str, RowPart] = {"names": self._names, "volume": self._rows}
        return RowState(self._names.keys, parts, name="segments")

    def state(self) -> dict[str, Any]:
        """The rest of the state, as JSON can hold it."""
        counts = [[bucket, name, count] for (bucket, name), count in sorted(self._open.items())]
        return {"open": counts, "newest_ms": self._newest_ms, "late": self.late}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, after the table was restored."""
        self._newest_ms, self.late = state["newest_ms"], state["late"]
        self._open = Counter({(bucket, name): count for bucket, name, count in state["open"]})

    def apply(
        self, order_ms: Int64s, positions: Int64s, counted: pl.DataFrame
    ) -> list[ClosedMinutes]:
        """Go on to the times ``order_ms`` (n,), ascending, with counts at some of the rows.

        ``counted`` has the counts at ``positions`` (m,): ``key``, ``time_ms``, ``count``.
        """
        if not len(order_ms):
            return []
        closed = []
        at = 0
        names, counts = counted["key"].to_list(), counted["count"].to_list()
        buckets = (counted["time_ms"].to_numpy() // self._settings.bucket_ms).tolist()
        for position in self._turns(order_ms):
            while at < len(names) and positions[at] < position:
                self._add(buckets[at], names[at], counts[at])
                at += 1
            now_ms = int(order_ms[position])
            for bucket in self._over(now_ms):
                frame = self._close(bucket)
                if frame is not None:
                    closed.append(ClosedMinutes(position, frame))
            self._newest_ms = now_ms
        while at < len(names):
            self._add(buckets[at], names[at], counts[at])
            at += 1
        self._newest_ms = int(order_ms[-1])
        return closed

    def _turns(self, order_ms: Int64s) -> list[int]:
        """The rows at which a minute is over; the first row of all is one."""
        first_open = self._first_open(order_ms)
        before = self._first_open(np.array([self._newest_ms]))
        return np.flatnonzero(np.diff(first_open, prepend=before)).tolist()

    def _first_open(self, order_ms: Int64s) -> Int64s:
        """The first minute that is not over at each time."""
        wait_ms = self._settings.late_ms + _STRAGGLERS_MS
        return np.asarray((order_ms - wait_ms - 1) // self._settings.bucket_ms)

    def _over(self, now_ms: int) -> Iterator[int]:
        """The minutes that end as time goes on to ``now_ms``; long silence is left out."""
        if self._newest_ms == NOTHING_SEEN_MS:
            return
        first, end = self._first_open(np.array([self._newest_ms, now_ms])).tolist()
        if now_ms - self._newest_ms > self._settings.silence_ms:
            yield from range(first, self._newest_ms // self._settings.bucket_ms + 1)
            return
        yield from range(first, end)

    def _add(self, bucket: int, name: str, count: int) -> None:
        if bucket < int(self._first_open(np.array([self._newest_ms]))[0]):
            self.late += count
            return
        self._open[bucket, name] += count

    def _close(self, bucket: int) -> pl.DataFrame | None:
        """Score and learn a minute; None where there are no segments yet."""
        counted = {name: self._open.pop((b, name)) for b, name in list(self._open) if b == bucket}
        names = pl.Series(sorted(counted), dtype=pl.String)
        rows, fresh = self._names.note(hash_strings(names), names)
        self._rows.clear_rows(rows[fresh])
        known = len(self._names)
        if not known:
            return None
        counts = np.zeros(known, dtype=np.int64)
        counts[rows] = [counted[name] for name in names.to_list()]
        every = np.arange(known)
        scores = self._rows.baselines.close(every, counts, bucket)
        self._names.keys.mark_all_dirty()
        return self._frame(scores, bucket)

    def _frame(self, scores: VolumeScores, bucket: int) -> pl.DataFrame:
        names = self._names.names(self._names.keys.keys)
        columns: dict[str, object] = {
            "event_id": [f"segment:{name}:{bucket}" for name in names],
            "segment": names,
            "volume_score": scores.score,
            "volume_shift_score": scores.shift_score,
        }
        ratios = scores.count / np.maximum(scores.expected, 1.0)  # of next to nothing, no ratio
        for index, horizon in enumerate(horizon_names(self._settings)):
            columns[f"volume_count_{horizon}"] = scores.count[index]
            columns[f"volume_expected_{horizon}"] = scores.expected[index]
            columns[f"volume_ratio_{horizon}"] = ratios[index]
        schema = {"event_id": pl.String(), "segment": pl.String()}
        made = pl.DataFrame(columns, schema_overrides=schema)
        return made.with_columns(pl.col(list(SEGMENT_COLUMNS)).fill_nan(None))
