"""A batch of events as columns, in log order: what every stage reads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from detectors.events import COLUMNS_BY_NAME, EVENT_TYPES, FEEDBACK_TYPES, event_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

__all__ = ["CONTEXT_COLUMNS", "CORE_COLUMNS", "EventBatch", "key_expression"]

CORE_COLUMNS: Final = ("event_id", "type", "time_ms", "user_id", "tier", "subject_user_id")
"""Columns that stages need whatever the pack says."""

CONTEXT_COLUMNS: Final = (
    "type",
    "user_id",
    "tier",
    "verified",
    "country",
    "ip",
    "device_id",
    "model",
    "prompt_fingerprint",
    "guard_decision",
    "guard_category",
    "likeness_of",
    "asset_id",
    "channel",
    "target_id",
    "url",
    "subject_user_id",
)
"""Columns of the event that fires a rule which go into its alert."""


def key_expression() -> pl.Expr:
    """The user an event is about: the subject of feedback, else the actor."""
    about_subject = pl.col("type").is_in(FEEDBACK_TYPES)
    return (
        pl.when(about_subject & pl.col("subject_user_id").is_not_null())
        .then(pl.col("subject_user_id"))
        .otherwise(pl.col("user_id"))
    )


@dataclass(frozen=True, slots=True)
class EventBatch:
    """n events in log order.

    ``frame`` has columns of ``detectors.events`` (some may be left out), ``times_ms`` is (n,),
    ``keys`` is the user each event is about (n,).
    """

    frame: pl.DataFrame
    times_ms: npt.NDArray[np.int64]
    keys: pl.Series

    def __len__(self) -> int:
        return len(self.frame)

    @staticmethod
    def of(frame: pl.DataFrame) -> EventBatch:
        """A batch over ``frame``, which must hold ``CORE_COLUMNS``."""
        keys = frame.select(key_expression().alias("key")).to_series()
        return EventBatch(frame, frame["time_ms"].to_numpy(), keys)

    @staticmethod
    def from_rows(rows: Iterable[Mapping[str, Any]]) -> EventBatch:
        """A batch of events given as mappings of column names to values (for tests and cases).

        Raises:
            KeyError: a name that is no event column.
        """
        listed = [dict(row) for row in rows]
        for row in listed:
            for name in row:
                COLUMNS_BY_NAME[name]
        return EventBatch.of(pl.DataFrame(listed, schema=event_schema()))

    def split(self, cuts: Sequence[int]) -> list[EventBatch]:
        """The same events as several batches, cut before each of the given positions."""
        edges = [0, *sorted(cuts), len(self)]
        return [self.slice(start, end - start) for start, end in pairwise(edges)]

    def slice(self, start: int, length: int) -> EventBatch:
        """``length`` events from position ``start``."""
        return EventBatch(
            self.frame.slice(start, length),
            self.times_ms[start : start + length],
            self.keys.slice(start, length),
        )

    def count_by_type(self, which: npt.NDArray[np.bool_]) -> dict[str, int]:
        """How many events of each type there are among ``which`` (n,)."""
        codes = self.frame["type"].to_physical().to_numpy()[which]
        counts = np.bincount(codes, minlength=len(EVENT_TYPES)).tolist()
        return {name: count for name, count in zip(EVENT_TYPES, counts, strict=True) if count}
