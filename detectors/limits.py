"""Rate limits: GCRA, exact and O(1), one number per key and limit.

The Generic Cell Rate Algorithm (ITU-T I.371, the "virtual scheduling" form) allows ``n`` units per
period with a burst of ``n``: a unit costs one emission interval ``period / n``; the theoretical
arrival time may run ahead of the clock by at most ``period``. Times are integer nanoseconds, so
there is no drift. Several limits of an action must all conform; an event that does not conforms to
none and is not counted against any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numba
import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.errors import ExpressionError, PackError, near_match
from detectors.expressions import Expression, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from detectors._windows import Floats, Int64s
    from detectors.keys import Flags, Rows
    from detectors.pack import LimitsSpec

__all__ = ["LimitColumns", "Limiter", "LimitsPlan", "plan_limits"]

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


class Limiter:
    """The limiter state of the keys of one partition."""

    def __init__(self, plan: LimitsPlan, capacity: int) -> None:
        self.plan = plan
        # One theoretical arrival time a limit and, last, the key's newest event: a late event
        # is judged by the present, not against arrivals that came after it.
        self.arrival_ns = np.zeros((capacity, len(plan.spec.limits) + 1), dtype=np.int64)
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

    def apply(
        self, frame: pl.DataFrame, times_ms: Int64s, rows: Rows, fresh: Flags
    ) -> LimitColumns:
        """Check the n events of ``frame`` in order; returns the limit columns at each of them."""
        n = len(frame)
        plan = self.plan
        inputs = frame.select(self._inputs)
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
