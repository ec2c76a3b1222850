"""The events of a rule's case: a few steps written by hand become rows of event columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from detectors.errors import near_match
from detectors.events import COLUMNS_BY_NAME, EVENT_TYPES, FEEDBACK_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from monitor.packs.models import StepModel

__all__ = ["CASE_USER", "StepError", "check_step", "expand", "misfit"]

CASE_USER: Final = "user-1"
"""Whom the events of a case are by, and feedback is about, unless the case says otherwise."""

_START_MS: Final = 1_767_225_600_000  # 2026-01-01: any fixed time would do.
_FILLED_IN: Final = frozenset({"event_id", "time_ms"})


class StepError(ValueError):
    """A step that is no event: ``column`` is the offending key."""

    def __init__(self, column: str, message: str, hint: str = "") -> None:
        self.column = column
        self.message = message
        self.hint = hint
        super().__init__(f"{column}: {message}")


def check_step(step: StepModel) -> Iterator[StepError]:
    """What is wrong with the event columns of a step."""
    given = step.model_extra or {}
    if "type" not in given:
        yield StepError("type", "is missing", f"types are {', '.join(EVENT_TYPES)}")
    for name, value in given.items():
        if name not in COLUMNS_BY_NAME:
            hint = near_match(name, [*COLUMNS_BY_NAME, *type(step).model_fields])
            yield StepError(name, "is no event column", hint or "see `floodwatch rules columns`")
        elif name in _FILLED_IN:
            yield StepError(name, "is filled in", "use 'at' and 'every' to say when")
        else:
            for one in value if isinstance(value, list) else [value]:
                yield from _check_value(name, one)


def expand(steps: Iterable[StepModel]) -> Iterator[dict[str, Any]]:
    """The events of checked steps, in order, as rows for ``EventBatch.from_rows``."""
    time_ms = _START_MS
    number = 0
    for step in steps:
        time_ms += step.at_ms
        given = step.model_extra or {}
        for i in range(step.times):
            row: dict[str, Any] = {"event_id": f"case-{number}", "user_id": CASE_USER}
            row |= {name: _value(value, i) for name, value in given.items()}
            row["time_ms"] = time_ms
            if row["type"] in FEEDBACK_TYPES:
                row.setdefault("subject_user_id", CASE_USER)
            if step.account_age_ms is not None:
                row["account_created_ms"] = time_ms - step.account_age_ms
            if step.account_idle_ms is not None:
                row["account_last_active_ms"] = time_ms - step.account_idle_ms
            yield row
            number += 1
            time_ms += _cycled(step.every_ms, i)


def _value(value: object, i: int) -> object:
    one = value[i % len(value)] if isinstance(value, list) else value
    return one.replace("{i}", str(i)) if isinstance(one, str) else one


def _cycled(values: Sequence[int], i: int) -> int:
    return values[i % len(values)]


def _check_value(name: str, value: object) -> Iterator[StepError]:
    wrong = misfit(value, COLUMNS_BY_NAME[name].dtype)
    if wrong:
        yield StepError(name, wrong, near_match(str(value), EVENT_TYPES) if name == "type" else "")


def misfit(value: object, dtype: pl.DataType) -> str:
    """Why ``value`` cannot stand in a column of ``dtype``; empty where it can, as null does."""
    if value is None:
        return ""
    if dtype.is_numeric():
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        expected = "a whole number" if dtype.is_integer() else "a number"
        fits = fits and not (dtype.is_integer() and isinstance(value, float))
    elif dtype == pl.Boolean:
        fits, expected = isinstance(value, bool), "true or false"
    elif isinstance(dtype, pl.Enum):
        words = dtype.categories.to_list()
        fits, expected = value in words, f"one of {', '.join(words)}"
    else:
        fits, expected = isinstance(value, str), "text"
    return "" if fits else f"{value!r} is not {expected}"
