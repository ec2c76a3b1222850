"""Checks of events that are well-formed but absurd, as columns: for JSON and Parquet alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Final

import polars as pl

from detectors.events import (
    COLUMNS_BY_NAME,
    FEEDBACK_TYPES,
    GENERATION_TYPES,
    MAX_TIME_MS,
    MIN_TIME_MS,
    SHARE_TYPES,
)
from monitor.wire.letters import Reason

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    import numpy.typing as npt

__all__ = ["CHECKED_COLUMNS", "MAX_AHEAD_MS", "Checks", "Refusal", "time_refusal"]

CHECKED_COLUMNS: Final = frozenset(
    {"event_id", "type", "time_ms", "user_id", "request_id", "asset_id", "subject_user_id"}
)
"""Columns that must be read whatever the pack needs, because an event is refused for them."""

MAX_AHEAD_MS: Final = 300_000
"""How far an event may be ahead of the time at which its record was received (clock skew)."""

_MAX_NUMBER: Final = 1e9
_RECEIVED: Final = "_received_ms"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a record is refused, and where in it."""

    reason: Reason
    path: str
    message: str


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
        self._checks = _checks(names, max_ahead_ms)
        self._any = reduce(or_, (check.bad for check in self._checks)).any()

    def refusals(
        self, frame: pl.DataFrame, received_ms: npt.NDArray[np.int64]
    ) -> dict[int, Refusal]:
        """The rows of ``frame`` (n) that must be refused, the first reason each.

        ``received_ms`` (n,) is when each record was received.
        """
        if not len(frame):
            return {}
        table = frame.with_columns(pl.Series(_RECEIVED, received_ms))
        if not table.select(self._any).item():
            return {}
        found: dict[int, Refusal] = {}
        for check in self._checks:
            for row in table.select(check.bad.alias("bad"))["bad"].arg_true().to_list():
                refusal = check.refusal
                if refusal.reason is Reason.TIME_OUT_OF_RANGE:
                    refusal = time_refusal(frame["time_ms"][row])
                found.setdefault(row, refusal)
        return found


def time_refusal(time: int | None) -> Refusal:
    """Say what is wrong with a time outside of the years 2000 to 2100."""
    unit = ""
    if time is not None and MIN_TIME_MS <= time * 1000 <= MAX_TIME_MS:
        unit = "; it looks like seconds, milliseconds are wanted"
    elif time is not None and MIN_TIME_MS <= time // 1000 <= MAX_TIME_MS:
        unit = "; it looks like microseconds, milliseconds are wanted"
    message = f"time {str(time)[:24]} is not between the years 2000 and 2100{unit}"
    return Refusal(Reason.TIME_OUT_OF_RANGE, "$.time", message)


def _checks(names: Collection[str], max_ahead_ms: int) -> list[_Check]:
    time = pl.col("time_ms")
    checks = [
        _empty("event_id"),
        _empty("user_id"),
        _check(
            time.is_null() | ~time.is_between(MIN_TIME_MS, MAX_TIME_MS),
            Reason.TIME_OUT_OF_RANGE,
            "time_ms",
            "",
        ),
        _check(
            time > pl.col(_RECEIVED) + max_ahead_ms,
            Reason.TIME_IN_FUTURE,
            "time_ms",
            "time is after the record was received; set the producer's clock",
        ),
        _check(pl.col("type").is_null(), Reason.UNKNOWN_TYPE, "type", "unknown event type"),
        _body(GENERATION_TYPES, "request_id", "generation"),
        _body(SHARE_TYPES, "asset_id", "share"),
        _body(FEEDBACK_TYPES, "subject_user_id", "feedback"),
    ]
    for name, limit in (
        ("account_created_ms", MAX_TIME_MS),
        ("account_last_active_ms", MAX_TIME_MS),
        ("duration_s", _MAX_NUMBER),
        ("cost", _MAX_NUMBER),
        ("guard_score", 1),
        ("view_count", _MAX_NUMBER),
    ):
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


def _body(types: tuple[str, ...], name: str, body: str) -> _Check:
    value = pl.col(name)
    return _check(
        pl.col("type").is_in(types).fill_null(value=False) & (value.is_null() | (value == "")),
        Reason.MISSING_BODY,
        name,
        f"events of this type need `{body}` with its {name}",
    )
