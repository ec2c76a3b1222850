"""Stores for tests: a full alert, and what a database holds."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Table, func, select

from detectors.anomaly import Contribution, Explanation
from detectors.group_alerts import Group, GroupKey, GroupMember, GroupTrait
from detectors.incidents import Alert
from detectors.pack import Action
from monitor.store.engine import reading
from monitor.store.store import Store
from tests.support.outputs import TIME_MS, an_alert

__all__ = ["Clock", "a_full_alert", "count", "plain", "rows"]


class Clock:
    """A wall clock that is set by hand."""

    now_ms = TIME_MS

    def __call__(self) -> int:
        return self.now_ms


def a_full_alert(number: int = 1) -> Alert:
    """An alert with a value in every field."""
    group = Group(
        version=2,
        statement="2 pairs: observed 4 joint actions, expected 0.01 by chance, q = 0.003",
        members=(GroupMember("user-1", 3.0, core=True), GroupMember("user-2", 1.5, core=False)),
        members_left_out=7,
        keys=(GroupKey("asset", "vid_1", 2, 9, 0.99, 4), GroupKey("url", "u", 2, 3, 0.5, None)),
        keys_left_out=1,
        key_spaces=("asset", "url"),
        median_gap_s=4.5,
        p90_gap_s=None,
        actions=12,
        first_ms=TIME_MS - 60_000,
        newest_ms=TIME_MS,
        event_ids=("evt-1", "evt-2"),
        timeline=((TIME_MS - 60_000, 3), (TIME_MS, 9)),
        left_out=0,
        traits=(GroupTrait("blocked", "were blocked by the guard in the last day", 0.5, 0.01),),
    )
    anomaly = Explanation(
        model_id="model-1",
        score=0.71,
        rank=0.99997,
        baseline=0.36,
        contributions=(
            Contribution("pace_1h", 112.0, 100.0, 0.13),
            Contribution("gap_24h", None, 42.0, -0.002),
        ),
        rest=-0.009,
        degraded=("drift",),
    )
    alert = an_alert(number)
    values = {name: getattr(alert, name) for name in Alert.__slots__}
    return Alert(
        **{
            **values,
            "context": {"tier": "free", "verified": False, "ip": None, "cost": 1.25, "n": 2**62},
            "tags": ("coordination", "\N{PILE OF POO}"),
            "action": Action("throttle", "all", 3_600_000),
            "anomaly": anomaly,
            "group": group,
        }
    )


def rows(store: Store, table: Table) -> list[dict[str, Any]]:
    """All rows of a table, by its primary key."""
    with reading(store.engine) as connection:
        ordered = select(table).order_by(*table.primary_key.columns)
        return [dict(row) for row in connection.execute(ordered).mappings()]


def count(store: Store, table: Table) -> int:
    """How many rows a table has."""
    with reading(store.engine) as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def plain(output: object) -> Any:  # noqa: ANN401 - whatever JSON it is
    """An output as plain JSON values."""
    return msgspec.json.decode(msgspec.json.encode(output))
