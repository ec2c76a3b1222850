"""Checks of events that are well-formed but absurd, as columns: for JSON and Parquet alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from detectors.events import (
    COLUMNS_BY_NAME,
    EVENT_TYPES,
    FEEDBACK_TYPES,
    GENERATION_TYPES,
    MAX_TIME_MS,
    MIN_TIME_MS,
    SHARE_TYPES,
)
from monitor.wire.letters import Reason

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

__all__ = [
    "AHEAD",
    "BODIES",
    "CHECKED_COLUMNS",
    "MAX_AHEAD_MS",
    "Checks",
    "Refusal",
    "harmless_range",
    "time_refusal",
]

CHECKED_COLUMNS: Final = frozenset(
    {"event_id", "type", "time_ms", "user_id", "request_id", "asset_id", "subject_user_id"}
)
"""Columns that must be read whatever the pack needs, because an event is refused for them."""

MAX_AHEAD_MS: Final = 300_000
"""How far an event may be ahead of the time at which its record was received (clock skew)."""

_MAX_NUMBER: Final = 1e9
_AHEAD: Final = "_ahead"
_IDS: Final = ("event_id", "user_id")
BODIES: Final = (
    (GENERATION_TYPES, "request_id"),
    (SHARE_TYPES, "asset_id"),
    (FEEDBACK_TYPES, "subject_user_id"),
)
"""Which types need a body, and the column that shows that it is there."""
_RANGES: Final = {
    "account_created_ms": MAX_TIME_MS,
    "account_last_active_ms": MAX_TIME_MS,
    "duration_s": _MAX_NUMBER,
    "cost": _MAX_NUMBER,
    "guard_score": 1,
    "view_count": _MAX_NUMBER,
}
"""Numbers that must lie between 0 and this."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a record is refused, and where in it."""

    reason: Reason
    path: str
    message: str


AHEAD: Final = Refusal(
    Reason.TIME_IN_FUTURE,
    "$.time",
    "time is after the record was received; set the producer's clock",
)


@dataclass(frozen=True, slots=True)
class _Check:
    """Rows where ``bad`` holds are refused."""

    bad: pl.Expr
    refusal: Refusal


class Checks:
    """The checks of frames with the columns ``names``.

    An event may be at most ``max_ahead_ms`` ahead of the time at which its record was received.
    """

    def __init__(self, names: Collection[str], max_ahead_ms: int = MAX_AHEAD_MS) -> None:
        self._checks = _checks(names)
        self._max_ahead_ms = max_ahead_ms
        strings = [name for name in names if COLUMNS_BY_NAME[name].dtype == pl.String]
        self._lengths = [(name, COLUMNS_BY_NAME[name].max_bytes) for name in strings]
        self._ranges = [(name, limit) for name, limit in _RANGES.items() if name in names]
        self._bodies = [(np.isin(EVENT_TYPES, types), name) for types, name in BODIES]
        self._extremes = [
            *(pl.col(name).str.len_bytes().max() for name in strings),
            *(pl.col(name).min().alias(f"{name} least") for name, _ in self._ranges),
            *(pl.col(name).max().alias(f"{name} most") for name, _ in self._ranges),
            *(pl.col(name).str.len_bytes().min().alias(f"{name} least") for name in _IDS),
        ]

    def refusals(
        self, frame: pl.DataFrame, received_ms: npt.NDArray[np.int64]
    ) -> dict[int, Refusal]:
        """The rows of ``frame`` (n) that must be refused, the first reason each.

        ``received_ms`` (n,) is when each record was received; negative where the log does not
        know (Kafka's -1): such an event can be at any time.
        """
        if not len(frame) or self._all_good(frame, received_ms):
            return {}
        ahead = self.ahead(frame["time_ms"].fill_null(0).to_numpy(), received_ms)
        table = frame.with_columns(pl.Series(_AHEAD, ahead))
        found: dict[int, Refusal] = {}
        for check in self._checks:
            for row in table.select(check.bad.alias("bad"))["bad"].arg_true().to_list():
                refusal = check.refusal
                if refusal.reason is Reason.TIME_OUT_OF_RANGE:
                    refusal = time_refusal(frame["time_ms"][row])
                found.setdefault(row, refusal)
        return found

    def ahead(
        self, times_ms: npt.NDArray[np.int64], received_ms: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Which of n events are further ahead of their records than they may be."""
        received_ms = np.where(received_ms < 0, MAX_TIME_MS, received_ms)
        return times_ms > received_ms + self._max_ahead_ms

    def _all_good(self, frame: pl.DataFrame, received_ms: npt.NDArray[np.int64]) -> bool:
        """Whether the extremes of the columns already say that no row is bad.

        A tenth of the cost of looking at every condition. May be False for good rows.
        """
        if any(frame[name].null_count() for name in (*_IDS, "type", "time_ms")):
            return False
        times_ms = frame["time_ms"].to_numpy()
        if times_ms.min() < MIN_TIME_MS or times_ms.max() > MAX_TIME_MS:
            return False
        if self.ahead(times_ms, received_ms).any():
            return False
        types = frame["type"].to_physical().to_numpy()
        for needs_body, name in self._bodies:
            filled = frame[name].str.len_bytes().fill_null(0).to_numpy() > 0
            if (needs_body[types] & ~filled).any():
                return False
        found = frame.select(self._extremes).row(0, named=True)
        return (
            all((found[name] or 0) <= limit for name, limit in self._lengths)
            and all((found[f"{name} least"] or 0) >= 0 for name, _ in self._ranges)
            and all((found[f"{name} most"] or 0) <= limit for name, limit in self._ranges)
            and all(found[f"{name} least"] for name in _IDS)
        )


def harmless_range(name: str) -> tuple[float, float]:
    """A number, or a text of so many bytes, in this range passes whatever else the event is."""
    column = COLUMNS_BY_NAME[name]
    if name == "time_ms":
        return MIN_TIME_MS, MAX_TIME_MS
    if column.dtype == pl.String:
        return name in CHECKED_COLUMNS, column.max_bytes
    return (0, _RANGES[name]) if name in _RANGES else (-math.inf, math.inf)


def time_refusal(time: int | None) -> Refusal:
    """Say what is wrong with a time outside of the years 2000 to 2100."""
    unit = ""
    if time is not None and MIN_TIME_MS <= time * 1000 <= MAX_TIME_MS:
        unit = "; it looks like seconds, milliseconds are wanted"
    elif time is not None and MIN_TIME_MS <= time // 1000 <= MAX_TIME_MS:
        unit = "; it looks like microseconds, milliseconds are wanted"
    message = f"time {str(time)[:24]} is not between the years 2000 and 2100{unit}"
    return Refusal(Reason.TIME_OUT_OF_RANGE, "$.time", message)


def _checks(names: Collection[str]) -> list[_Check]:
    time = pl.col("time_ms")
    checks = [
        *(_empty(name) for name in _IDS),
        _check(
            time.is_null() | ~time.is_between(MIN_TIME_MS, MAX_TIME_MS),
            Reason.TIME_OUT_OF_RANGE,
            "time_ms",
            "",
        ),
        _Check(pl.col(_AHEAD), AHEAD),
        _check(pl.col("type").is_null(), Reason.UNKNOWN_TYPE, "type", "unknown event type"),
        *(_body(types, name) for types, name in BODIES),
    ]
    for name, limit in _RANGES.items():
        if name in names:
            bad = (~pl.col(name).is_between(0, limit)).fill_null(value=False)
            message = f"must be between 0 and {limit:g}"
            checks.append(_check(bad, Reason.OUT_OF_RANGE, name, message))
    for name in names:
        column = COLUMNS_BY_NAME[name]
        if column.dtype == pl.String:
            bad = (pl.col(name).str.len_bytes() > column.max_bytes).fill_null(value=False)
            message = f"longer than {column.max_bytes} bytes"
            checks.append(_check(bad, Reason.TOO_LONG, name, message))
    return checks


def _check(bad: pl.Expr, reason: Reason, name: str, message: str) -> _Check:
    path = f"$.{COLUMNS_BY_NAME[name].path}"
    return _Check(bad, Refusal(reason, path, message))


def _empty(name: str) -> _Check:
    value = pl.col(name)
    return _check(value.is_null() | (value == ""), Reason.MISSING_ID, name, f"{name} is empty")


def _body(types: tuple[str, ...], name: str) -> _Check:
    value, body = pl.col(name), COLUMNS_BY_NAME[name].path.split(".")[0]
    return _check(
        pl.col("type").is_in(types).fill_null(value=False) & (value.is_null() | (value == "")),
        Reason.MISSING_BODY,
        name,
        f"events of this type need `{body}` with its {name}",
    )
