"""Rate limits: GCRA, exact and O(1), one number per key and limit.

The Generic Cell Rate Algorithm (ITU-T I.371, the "virtual scheduling" form) allows ``n`` units per
period with a burst of ``n``: a unit costs one emission interval ``period / n``; the theoretical
arrival time may run ahead of the clock by at most ``period``. Times are integer nanoseconds, so
there is no drift. Several limits of an action must all conform; an event that does not conforms to
none and is not counted against any of them.

An event over a limit of an action *throttles* the action for its key, unless that stands already.
Who is evicted from the key table is forgotten here as well, throttles included.

What is kept belongs to rows (see ``detectors.state.fields``). A limit's number is a time: it means
the same whatever the limit allows, so it is carried over when a pack allows more or less, and not
when the action, what is counted or the period changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numba
import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.errors import ExpressionError, PackError, near_match
from detectors.expressions import Expression, evaluate, parse
from detectors.state.fields import Field, Span, plain_sql

if TYPE_CHECKING:
    from collections.abc import Mapping

    from detectors._windows import Floats, Int64s
    from detectors.keys import Flags, Rows
    from detectors.pack import LimitsSpec
    from detectors.state.blocks import Array

__all__ = ["LimitColumns", "Limiter", "LimitsPlan", "Throttle", "plan_limits"]

_NS_PER_MS: Final = 1_000_000
_UNLIMITED: Final = -1


@dataclass(frozen=True, slots=True)
class LimitsPlan:
    """Compiled limits of A actions, T tiers and L limits."""

    spec: LimitsSpec
    actions: tuple[Expression, ...]
    quantities: tuple[Expression, ...]
    limit_action: Int64s  # (L,)
    limit_quantity: Int64s  # (L,) row of the quantities
    period_ns: Int64s  # (L,)
    interval_ns: Int64s  # (T, L): emission interval of one unit; -1 unlimited, 0 forbidden

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that limits add: ``limited`` and ``over_NAME`` for each limit."""
        return ("limited", *(f"over_{limit.name}" for limit in self.spec.limits))

    @property
    def reads(self) -> frozenset[str]:
        """The event columns that are needed."""
        read = {column for e in (*self.actions, *self.quantities) for column in e.columns}
        return frozenset(read | {"tier"})


@dataclass(frozen=True, slots=True)
class LimitColumns:
    """The limit columns of a batch, and per event and limit when it would conform again, ms."""

    frame: pl.DataFrame
    over: npt.NDArray[np.bool_]  # (L, n)
    retry_ms: Int64s  # (n,)


@dataclass(frozen=True, slots=True)
class Throttle:
    """An action of the key at ``position`` is throttled: by which limit, and until when."""

    position: int
    action: str
    limit: str
    expires_ms: int


class Limiter:
    """The limiter state of the keys of one partition."""

    def __init__(self, plan: LimitsPlan, capacity: int) -> None:
        self.plan = plan
        # One theoretical arrival time a limit and, last, the key's newest event: a late event
        # is judged by the present, not against arrivals that came after it.
        self.arrival_ns = np.zeros((capacity, len(plan.spec.limits) + 1), dtype=np.int64)
        # Until when a throttle of each action stands.
        self.throttled_until_ms = np.zeros((capacity, len(plan.spec.actions)), dtype=np.int64)
        tiers = {name: code for code, name in enumerate(plan.spec.tiers)}
        default = tiers.get(plan.spec.default_tier, 0)
        self._inputs = [
            pl.col("tier")
            .replace_strict(tiers, default=default, return_dtype=pl.Int64)
            .alias("tier"),
            *(a.expr.fill_null(value=False).alias(f"a{i}") for i, a in enumerate(plan.actions)),
            *(
                q.expr.cast(pl.Float64).fill_null(1.0).alias(f"q{i}")
                for i, q in enumerate(plan.quantities)
            ),
        ]

    @property
    def bytes_per_row(self) -> int:
        """Memory of one key's limits, bytes."""
        return sum(array[:1].nbytes for array in self.row_arrays.values())

    @property
    def row_arrays(self) -> dict[str, Array]:
        """See ``RowPart``."""
        return {"arrival_ns": self.arrival_ns, "throttled_until_ms": self.throttled_until_ms}

    @property
    def fields(self) -> tuple[Field, ...]:
        """See ``RowPart``."""
        spec = self.plan.spec
        limits = (
            Field(
                f"limit {limit.name}",
                {
                    "kind": "limit",
                    "name": limit.name,
                    "action": limit.action,
                    "where": plain_sql(spec.actions[limit.action]),
                    "quantity": plain_sql(limit.quantity),
                    "period_ms": limit.period_ms,
                },
                {"arrival_ns": [Span(column, 1, 1)]},
            )
            for column, limit in enumerate(spec.limits)
        )
        throttles = (
            Field(
                f"throttles of action {action}",
                {"kind": "throttle", "action": action},
                {"throttled_until_ms": [Span(column, 1, 1)]},
            )
            for column, action in enumerate(spec.actions)
        )
        newest = Field(
            "time of the newest event of limits",
            {"kind": "newest event"},
            {"arrival_ns": [Span(len(spec.limits), 1, 1)]},
        )
        return (newest, *limits, *throttles)

    def clear_rows(self, rows: slice) -> None:
        """See ``RowPart``."""
        self.arrival_ns[rows] = 0
        self.throttled_until_ms[rows] = 0

    def complete_rows(self, rows: slice) -> None:
        """See ``RowPart``: nothing follows."""

    def throttle(
        self, limits: LimitColumns, times_ms: Int64s, rows: Rows, fresh: Flags, eligible: Flags
    ) -> list[Throttle]:
        """What the n events of ``limits`` throttle, in order; only ``eligible`` ones do (n,).

        A throttle ends when the limit conforms again, ``decision_ms`` later at the earliest. None
        is made while the action is throttled already.
        """
        spec = self.plan.spec
        made = np.full((len(rows), len(spec.actions)), -1, dtype=np.int32)
        expires_ms = np.zeros(len(rows), dtype=np.int64)
        _throttle_kernel(
            times_ms,
            rows,
            fresh,
            eligible,
            limits.over,
            limits.retry_ms,
            self.plan.limit_action,
            spec.decision_ms,
            self.throttled_until_ms,
            made,
            expires_ms,
        )
        actions = list(spec.actions)
        positions, columns = np.nonzero(made >= 0)
        return [
            Throttle(
                position, actions[column], spec.limits[made[position, column]].name, int(expires)
            )
            for position, column, expires in zip(
                positions.tolist(), columns.tolist(), expires_ms[positions], strict=True
            )
        ]

    def apply(
        self, frame: pl.DataFrame, times_ms: Int64s, rows: Rows, fresh: Flags
    ) -> LimitColumns:
        """Check the n events of ``frame`` in order; returns the limit columns at each of them."""
        n = len(frame)
        plan = self.plan
        inputs = evaluate(frame, self._inputs)
        actions = np.zeros((max(1, len(plan.actions)), n), dtype=np.bool_)
        for i in range(len(plan.actions)):
            actions[i] = inputs[f"a{i}"].to_numpy()
        quantities = np.ones((max(1, len(plan.quantities)), n), dtype=np.float64)
        for i in range(len(plan.quantities)):
            quantities[i] = inputs[f"q{i}"].to_numpy()
        over = np.zeros((len(plan.spec.limits), n), dtype=np.bool_)
        retry_ms = np.zeros(n, dtype=np.int64)
        _limit_kernel(
            times_ms,
            rows,
            fresh,
            inputs["tier"].to_numpy(),
            actions,
            quantities,
            plan.limit_action,
            plan.limit_quantity,
            plan.period_ns,
            plan.interval_ns,
            self.arrival_ns,
            over,
            retry_ms,
        )
        columns = [pl.Series("limited", over.any(axis=0))]
        columns += [
            pl.Series(f"over_{limit.name}", over[i]) for i, limit in enumerate(plan.spec.limits)
        ]
        return LimitColumns(pl.DataFrame(columns), over, retry_ms)


def plan_limits(spec: LimitsSpec, schema: Mapping[str, pl.DataType]) -> LimitsPlan:
    """Compile limits over the columns of ``schema``.

    Raises:
        PackError: SQL that cannot be used, a limit of an unknown action, a tier without a limit.
    """
    actions = tuple(
        _parse(sql, schema, "boolean", f"action {name}") for name, sql in spec.actions.items()
    )
    quantities: dict[str, Expression] = {}
    names = list(spec.actions)
    for limit in spec.limits:
        if limit.action not in names:
            raise PackError(
                f"unknown action {limit.action!r}",
                where=f"limit {limit.name}",
                hint=near_match(limit.action, names) or f"actions are {', '.join(names)}",
            )
        if limit.quantity not in quantities:
            quantities[limit.quantity] = _parse(
                limit.quantity, schema, "number", f"limit {limit.name}"
            )
    intervals = [
        [_interval_ns(limit.period_ms, limit.allow.get(tier)) for limit in spec.limits]
        for tier in spec.tiers
    ]
    return LimitsPlan(
        spec=spec,
        actions=actions,
        quantities=tuple(quantities.values()),
        limit_action=np.array([names.index(li.action) for li in spec.limits], dtype=np.int64),
        limit_quantity=np.array(
            [list(quantities).index(li.quantity) for li in spec.limits], dtype=np.int64
        ),
        period_ns=np.array([li.period_ms * _NS_PER_MS for li in spec.limits], dtype=np.int64),
        interval_ns=np.array(intervals, dtype=np.int64).reshape(len(spec.tiers), len(spec.limits)),
    )


def _parse(sql: str, schema: Mapping[str, pl.DataType], kind: str, where: str) -> Expression:
    try:
        return parse(sql, schema, "boolean" if kind == "boolean" else "number")
    except ExpressionError as error:
        raise PackError(str(error), where=where) from error


def _interval_ns(period_ms: int, allowed: float | None) -> int:
    if allowed is None:
        return _UNLIMITED
    return round(period_ms * _NS_PER_MS / allowed) if allowed > 0 else 0


@numba.njit(cache=True)
def _limit_kernel(
    times_ms: Int64s,
    rows: Rows,
    fresh: Flags,
    tiers: Int64s,
    actions: npt.NDArray[np.bool_],
    quantities: Floats,
    limit_action: Int64s,
    limit_quantity: Int64s,
    period_ns: Int64s,
    interval_ns: Int64s,
    arrival_ns: Int64s,
    over: npt.NDArray[np.bool_],
    retry_ms: Int64s,
) -> None:
    limits = len(limit_action)
    ahead = np.zeros(limits, dtype=np.int64)
    for i in range(len(rows)):
        row = rows[i]
        if fresh[i]:
            arrival_ns[row] = 0
        now_ns = max(times_ms[i] * 1_000_000, arrival_ns[row, limits])
        arrival_ns[row, limits] = now_ns
        exceeded = False
        for limit in range(limits):
            ahead[limit] = -1
            interval = interval_ns[tiers[i], limit]
            if interval < 0 or not actions[limit_action[limit], i]:
                continue
            quantity = quantities[limit_quantity[limit], i]
            if not quantity > 0.0:
                continue
            units_ns = min(quantity * interval, 9.0e17)
            base_ns = max(arrival_ns[row, limit], now_ns)
            ahead[limit] = base_ns + np.int64(units_ns)
            excess_ns = ahead[limit] - now_ns - period_ns[limit]
            if interval == 0:
                excess_ns = period_ns[limit]
            if excess_ns > 0:
                exceeded = True
                over[limit, i] = True
                wait_ms = (now_ns + min(excess_ns, period_ns[limit]) + 999_999) // 1_000_000
                retry_ms[i] = max(retry_ms[i], wait_ms)
        if not exceeded:
            for limit in range(limits):
                if ahead[limit] >= 0:
                    arrival_ns[row, limit] = ahead[limit]


@numba.njit(cache=True)
def _throttle_kernel(
    times_ms: Int64s,
    rows: Rows,
    fresh: Flags,
    eligible: Flags,
    over: npt.NDArray[np.bool_],
    retry_ms: Int64s,
    limit_action: Int64s,
    decision_ms: int,
    until_ms: Int64s,
    made: npt.NDArray[np.int32],
    expires_ms: Int64s,
) -> None:
    """Write to ``made`` (n, A) the first exceeded limit of each action that becomes throttled."""
    for i in range(len(rows)):
        row = rows[i]
        if fresh[i]:
            until_ms[row] = 0
        if retry_ms[i] == 0 or not eligible[i]:
            continue
        expires_ms[i] = max(retry_ms[i], times_ms[i] + decision_ms)
        for limit in range(len(limit_action)):
            action = limit_action[limit]
            if over[limit, i] and made[i, action] < 0 and until_ms[row, action] <= times_ms[i]:
                made[i, action] = limit
                until_ms[row, action] = expires_ms[i]
