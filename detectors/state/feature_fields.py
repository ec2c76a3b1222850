"""What the columns of the feature state mean (see ``detectors.state.fields``).

- A slot of a window's panes is the count or sum of the same events over the same ring: kind, SQL,
  pane length and number of panes. A ring of another geometry starts empty: its panes cover other
  times. The order of windows and slots, names and documentation mean nothing.
- The moments of a gap feature in a window belong together; the time of its last event is apart,
  it serves all of the feature's windows.
- A distinct sketch holds hashes of a column of the same events. More entries take the old ones as
  they are (theta stays lowered until its window is over). Fewer cannot: the sketch starts empty.
  A shorter longest window sees less of what is there, a longer one fills up from now on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectors.state.fields import Field, Span, plain_sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from detectors.expressions import Expression
    from detectors.features import FeaturePlan

__all__ = ["feature_fields"]

_GAP_MOMENTS = 4


def feature_fields(plan: FeaturePlan) -> tuple[Field, ...]:
    """A field for each slot, gap and sketch of the plan, and the key's newest event."""
    newest = Field("time of the newest event", {"kind": "newest event"}, {"newest_ms": [_one(0)]})
    return (newest, *_slots(plan), *_gaps(plan), *_sketches(plan))


def _slots(plan: FeaturePlan) -> Iterator[Field]:
    kernel = plan.kernel
    for window in range(len(kernel.pane_ms)):
        width, panes = int(kernel.pane_width[window]), int(kernel.pane_count[window])
        ring: dict[str, str | int] = {"pane_ms": int(kernel.pane_ms[window]), "panes": panes}
        moments: dict[int, dict[int, Span]] = {}
        for place in range(width):
            slot = int(kernel.slot_start[window]) + place
            span = Span(int(kernel.pane_start[window]) + place, width, panes)
            mask = plan.masks[int(kernel.slot_mask[slot])]
            label, source = f"feature {plan.slot_names[slot]}", int(kernel.slot_value[slot])
            if source < -1:
                gap, moment = divmod(-source - 2, _GAP_MOMENTS)
                of_gap = moments.setdefault(gap, {})
                of_gap[moment] = span
                if len(of_gap) == _GAP_MOMENTS:
                    spans = [of_gap[number] for number in range(_GAP_MOMENTS)]
                    yield _field(label, {"kind": "gap", **ring}, mask, {"panes": spans})
            elif source >= 0:
                of = plan.values[source]
                identity = {"kind": "sum", "of": plain_sql(of.sql), **ring}
                yield _field(label, identity, mask, {"panes": [span]}, of)
            else:
                yield _field(label, {"kind": "count", **ring}, mask, {"panes": [span]})


def _gaps(plan: FeaturePlan) -> Iterator[Field]:
    for gap, name in enumerate(plan.gap_names):
        yield _field(
            f"feature {name} (time of the last event)",
            {"kind": "gap, last event"},
            plan.masks[int(plan.kernel.gap_mask[gap])],
            {"gap_last_ms": [_one(gap)]},
        )


def _sketches(plan: FeaturePlan) -> Iterator[Field]:
    kernel = plan.kernel
    for sketch, name in enumerate(plan.sketch_names):
        entries = [Span(int(kernel.sketch_start[sketch]), 1, int(kernel.sketch_size[sketch]))]
        yield _field(
            f"feature {name}",
            {"kind": "distinct", "of": plan.identifiers[int(kernel.sketch_hash[sketch])]},
            plan.masks[int(kernel.sketch_mask[sketch])],
            {
                "entries": entries,
                "seen_s": entries,
                "threshold": [_one(sketch)],
                "threshold_s": [_one(sketch)],
            },
            reach_s=int(kernel.sketch_span_s[sketch]),
        )


def _one(column: int) -> Span:
    return Span(column, 1, 1)


def _field(
    label: str,
    identity: dict[str, str | int],
    where: Expression,
    spans: dict[str, list[Span]],
    of: Expression | None = None,
    *,
    reach_s: int = 0,
) -> Field:
    return Field(
        label,
        {**identity, "where": plain_sql(where.sql)},
        spans,
        where.columns | (of.columns if of else frozenset()),
        reach_s,
    )
