"""Checks of columns, which events of Parquet files go through as well."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
import pytest

from detectors.events import COLUMNS_BY_NAME
from monitor.wire.checks import Checks, Refusal
from tests.support.events import random_events

RECEIVED_MS: Final = 1_790_000_000_000
CHECKS: Final = Checks(frozenset(COLUMNS_BY_NAME))
GOOD: Final = random_events(1, 60, 5, late_share=0)

WRONG: Final = {
    "missing_id": ("event_id", ""),
    "missing_body": ("request_id", ""),
    "unknown_type": ("type", None),
    "time_out_of_range": ("time_ms", 1_780_000_000),
    "time_in_future": ("time_ms", RECEIVED_MS + 300_001),
    "out_of_range": ("cost", -0.5),
    "too_long": ("tier", "t" * 65),
}


def refusals(frame: pl.DataFrame) -> dict[int, Refusal]:
    return CHECKS.refusals(frame, np.full(len(frame), RECEIVED_MS, dtype=np.int64))


def test_good_events_pass() -> None:
    """All of them at once."""
    assert not refusals(GOOD)


@pytest.mark.parametrize("reason", WRONG)
def test_what_is_wrong_is_found_whatever_the_neighbours_are(reason: str) -> None:
    """Alone, among good ones, and beside every other kind of wrong; the result is the same."""
    name, value = WRONG[reason]
    row = GOOD.filter(pl.col("type") == "generation.requested")[:1]
    bad = row.with_columns(pl.lit(value, dtype=GOOD.schema[name]).alias(name))
    others = [
        row.with_columns(pl.lit(other, dtype=GOOD.schema[column]).alias(column))
        for column, other in WRONG.values()
    ]
    alone = refusals(bad)[0]
    assert alone.reason == reason
    for neighbours in (GOOD[:0], GOOD, pl.concat([GOOD, *others])):
        assert refusals(pl.concat([bad, neighbours]))[0] == alone


def test_an_event_without_its_body_is_found_beside_one_with_two() -> None:
    """As many bodies as events are not enough."""
    requested = GOOD.filter(pl.col("type") == "generation.requested")[:1]
    shared = GOOD.filter(pl.col("type") == "share.created")[:1]
    frame = pl.concat(
        [
            requested.with_columns(pl.lit(None, dtype=pl.String).alias("request_id")),
            shared.with_columns(pl.lit("request").alias("request_id")),
        ]
    )
    assert {row: refusal.reason for row, refusal in refusals(frame).items()} == {0: "missing_body"}
