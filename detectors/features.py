"""Windowed features: declared in a pack, kept per key, written as columns at each event.

Purpose: say what a key has been doing lately (``generations_1m``, ``distinct prompts_1h``).
Assumptions: records come in log order; times are event times and may be late.
Values: float64 columns; null where undefined (the mean gap of a single event).
Source of the pane scheme: Li et al. 2005, "No pane, no gain", https://doi.org/10.1145/1058150.1058158
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from detectors._windows import (
    Plan,
    State,
    apply_events,
    clear_state,
    column_table,
    complete_state,
    new_state,
)
from detectors.errors import ExpressionError, PackError, near_match
from detectors.expressions import Expression, evaluate, parse
from detectors.keys import Flags, Rows, hash_columns
from detectors.state.feature_fields import feature_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from detectors._windows import Int64s
    from detectors.pack import FeatureSpec, WindowSpec
    from detectors.state.blocks import Array
    from detectors.state.fields import Field

__all__ = ["FeatureColumns", "FeaturePlan", "Features", "plan_features"]

_KIND_TOTAL, _KIND_GAP_MEAN, _KIND_GAP_VARIATION, _KIND_GAP_MAX, _KIND_DISTINCT = range(5)
_KINDS_WITH_NULLS: Final = (_KIND_GAP_MEAN, _KIND_GAP_VARIATION, _KIND_GAP_MAX)
_GAP_MOMENTS: Final = 4  # count, sum, sum of squares, maximum
_COUNT_ONE: Final = -1


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """Compiled features: the kernel's plan and the expressions that feed it."""

    columns: tuple[str, ...]
    kinds: tuple[int, ...]
    kernel: Plan
    masks: tuple[Expression, ...]
    values: tuple[Expression, ...]
    identifiers: tuple[str, ...]
    # The feature (for slots with its window) that each belongs to.
    slot_names: tuple[str, ...]
    gap_names: tuple[str, ...]
    sketch_names: tuple[str, ...]

    @property
    def reads(self) -> frozenset[str]:
        """The event columns that are needed."""
        read = {column for e in (*self.masks, *self.values) for column in e.columns}
        return frozenset(read | set(self.identifiers))


@dataclass(frozen=True, slots=True)
class FeatureColumns:
    """The features of a batch: a frame of n rows, which events were late, skipped counts.

    The row of a late event holds nothing of use.
    """

    frame: pl.DataFrame
    late: Flags
    skipped: int


class Features:
    """The feature values of the keys of one partition."""

    def __init__(self, plan: FeaturePlan, capacity: int) -> None:
        self.plan = plan
        self.state: State = new_state(plan.kernel, capacity)
        self._inputs = [
            *(mask.expr.fill_null(value=False).alias(f"m{i}") for i, mask in enumerate(plan.masks)),
            *(
                value.expr.cast(pl.Float64).fill_null(0.0).fill_nan(0.0).alias(f"v{i}")
                for i, value in enumerate(plan.values)
            ),
        ]

    @property
    def bytes_per_row(self) -> int:
        """Memory of one key's features, bytes."""
        return sum(array[:1].nbytes for array in self.state)

    @property
    def row_arrays(self) -> dict[str, Array]:
        """See ``RowPart``. ``newest_pane`` is not among them: it follows from ``newest_ms``."""
        arrays = self.state._asdict()
        del arrays["newest_pane"]
        return arrays

    @property
    def fields(self) -> tuple[Field, ...]:
        """See ``RowPart``."""
        return feature_fields(self.plan)

    def clear_rows(self, rows: slice) -> None:
        """See ``RowPart``."""
        clear_state(self.state, rows)

    def complete_rows(self, rows: slice) -> None:
        """See ``RowPart``."""
        complete_state(self.plan.kernel, self.state, rows)

    def apply(
        self, frame: pl.DataFrame, times_ms: Int64s, rows: Rows, fresh: Flags
    ) -> FeatureColumns:
        """Apply the n events of ``frame`` in order and return the values at each of them."""
        n = len(frame)
        plan = self.plan
        masks = column_table(len(plan.masks), n, np.bool_)
        values = column_table(len(plan.values), n, np.float64)
        hashes = column_table(len(plan.identifiers), n, np.uint64)
        outputs = column_table(len(plan.columns), n, np.float64)
        inputs = evaluate(frame, self._inputs)
        for i in range(len(plan.masks)):
            masks[i, :n] = inputs[f"m{i}"].to_numpy()
        for i in range(len(plan.values)):
            values[i, :n] = inputs[f"v{i}"].to_numpy()
        for i, hashed in enumerate(hash_columns(frame.select(plan.identifiers))):
            hashes[i, :n] = hashed
        late = np.zeros(n, dtype=np.bool_)
        skipped = apply_events(
            plan.kernel, self.state, rows, fresh, times_ms, masks, values, hashes, outputs, late
        )
        columns = [
            pl.Series(name, outputs[i, :n], nan_to_null=kind in _KINDS_WITH_NULLS)
            for i, (name, kind) in enumerate(zip(plan.columns, plan.kinds, strict=True))
        ]
        return FeatureColumns(pl.DataFrame(columns), late, skipped)


@dataclass(slots=True)
class _Slot:
    name: str
    mask: int
    value: int
    keeps_maximum: bool = False


class _Planner:
    """Collects the slots, masks and outputs of a pack's features."""

    def __init__(
        self, windows: Mapping[str, WindowSpec], schema: Mapping[str, pl.DataType]
    ) -> None:
        self.windows = windows
        self.schema = schema
        self.masks: dict[str, Expression] = {}
        self.values: dict[str, Expression] = {}
        self.identifiers: list[str] = []
        self.slots: dict[str, list[_Slot]] = {name: [] for name in windows}
        # Name, kind, then the slot that it reads, or the sketch and its window's seconds.
        self.outputs: list[tuple[str, int, _Slot | None, int, int]] = []
        self.gap_masks: list[int] = []
        self.gap_names: list[str] = []
        self.sketch_names: list[str] = []
        self.sketches: list[tuple[int, int, int, int]] = []

    def add(self, spec: FeatureSpec) -> None:
        unknown = [name for name in spec.windows if name not in self.windows]
        if unknown or not spec.windows:
            raise PackError(
                f"unknown window {unknown[0]!r}" if unknown else "no windows",
                where=f"feature {spec.name}",
                hint=near_match(unknown[0] if unknown else "", self.windows)
                or f"windows are {', '.join(self.windows)}",
            )
        mask = self._index(self.masks, spec.where, spec, "boolean")
        if spec.kind == "distinct":
            self._add_distinct(spec, mask)
            return
        gap = -1
        if spec.kind == "gap":
            gap = len(self.gap_masks)
            self.gap_masks.append(mask)
            self.gap_names.append(spec.name)
        value = self._index(self.values, spec.of, spec, "number") if spec.kind == "sum" else -1
        for window in spec.windows:
            if gap >= 0:
                self._add_gap(spec.name, window, mask, gap)
            else:
                name = f"{spec.name}_{window}"
                slot = _Slot(name, mask, value if spec.kind == "sum" else _COUNT_ONE)
                self.slots[window].append(slot)
                self.outputs.append((name, _KIND_TOTAL, slot, 0, 0))

    def _index(self, known: dict[str, Expression], sql: str, spec: FeatureSpec, kind: str) -> int:
        if sql not in known:
            try:
                known[sql] = parse(sql, self.schema, "boolean" if kind == "boolean" else "number")
            except ExpressionError as error:
                raise PackError(str(error), where=f"feature {spec.name}") from error
        return list(known).index(sql)

    def _add_distinct(self, spec: FeatureSpec, mask: int) -> None:
        if self.schema.get(spec.of) != pl.String:
            raise PackError(
                f"distinct needs a text column, not {spec.of!r}",
                where=f"feature {spec.name}",
                hint=near_match(spec.of, [n for n, t in self.schema.items() if t == pl.String]),
            )
        if spec.of not in self.identifiers:
            self.identifiers.append(spec.of)
        longest_s = max(self.windows[name].length_ms for name in spec.windows) // 1000
        sketch = len(self.sketches)
        self.sketch_names.append(spec.name)
        self.sketches.append((spec.capacity, mask, self.identifiers.index(spec.of), longest_s))
        for window in spec.windows:
            length_s = self.windows[window].length_ms // 1000
            self.outputs.append((f"{spec.name}_{window}", _KIND_DISTINCT, None, sketch, length_s))

    def _add_gap(self, name: str, window: str, mask: int, gap: int) -> None:
        moments = [
            _Slot(f"{name}_{window}", mask, -2 - (gap * _GAP_MOMENTS + moment), moment == 3)
            for moment in range(_GAP_MOMENTS)
        ]
        self.slots[window].extend(moments)
        for output, kind, slot in (
            ("mean_s", _KIND_GAP_MEAN, moments[0]),
            ("cv", _KIND_GAP_VARIATION, moments[0]),
            ("max_s", _KIND_GAP_MAX, moments[3]),
        ):
            self.outputs.append((f"{name}_{output}_{window}", kind, slot, 0, 0))

    def plan(self) -> FeaturePlan:
        windows = [window for window in self.windows.values() if self.slots[window.name]]
        slots: list[_Slot] = []
        ring_start, width, adding, slot_start = [], [], [], []
        ring = 0
        for window in windows:
            own = sorted(self.slots[window.name], key=lambda slot: slot.keeps_maximum)
            self.slots[window.name] = own
            slot_start.append(len(slots))
            slots.extend(own)
            ring_start.append(ring)
            width.append(len(own))
            adding.append(sum(not slot.keeps_maximum for slot in own))
            ring += window.panes * len(own)
        output_slot = [
            sketch if slot is None else _identity_index(slots, slot)
            for _, _, slot, sketch, _ in self.outputs
        ]
        sizes = [size for size, *_ in self.sketches]
        used_spans_ms = [w.length_ms for w in windows] + [1000 * s[3] for s in self.sketches]
        kernel = Plan(
            pane_ms=_array([window.pane_ms for window in windows]),
            pane_count=_array([window.panes for window in windows]),
            pane_start=_array(ring_start),
            pane_width=_array(width),
            add_count=_array(adding),
            slot_start=_array(slot_start),
            slot_mask=_array([slot.mask for slot in slots]),
            slot_value=_array([slot.value for slot in slots]),
            output_kind=_array([kind for _, kind, *_ in self.outputs]),
            output_slot=_array(output_slot),
            output_span_s=_array([span_s for *_, span_s in self.outputs]),
            gap_mask=_array(self.gap_masks),
            sketch_start=_array([sum(sizes[:index]) for index in range(len(sizes))]),
            sketch_size=_array(sizes),
            sketch_mask=_array([mask for _, mask, _, _ in self.sketches]),
            sketch_hash=_array([row for _, _, row, _ in self.sketches]),
            sketch_span_s=_array([span for _, _, _, span in self.sketches]),
            longest_ms=max(used_spans_ms, default=0),
        )
        return FeaturePlan(
            columns=tuple(name for name, *_ in self.outputs),
            kinds=tuple(kind for _, kind, *_ in self.outputs),
            kernel=kernel,
            masks=tuple(self.masks.values()),
            values=tuple(self.values.values()),
            identifiers=tuple(self.identifiers),
            slot_names=tuple(slot.name for slot in slots),
            gap_names=tuple(self.gap_names),
            sketch_names=tuple(self.sketch_names),
        )


def plan_features(
    specs: Sequence[FeatureSpec],
    windows: Sequence[WindowSpec],
    schema: Mapping[str, pl.DataType],
) -> FeaturePlan:
    """Compile declared features over the columns of ``schema``.

    Raises:
        PackError: an unknown window or column, SQL that cannot be used, two equal columns.
    """
    planner = _Planner({window.name: window for window in windows}, schema)
    for spec in specs:
        planner.add(spec)
    plan = planner.plan()
    for name in plan.columns:
        if name in schema or plan.columns.count(name) > 1:
            raise PackError(f"column {name!r} exists already", where=f"feature column {name}")
    return plan


def _identity_index(slots: Sequence[_Slot], slot: _Slot) -> int:
    return next(index for index, other in enumerate(slots) if other is slot)


def _array(numbers: Sequence[int]) -> Int64s:
    return np.array(numbers, dtype=np.int64)
