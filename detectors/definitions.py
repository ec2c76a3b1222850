"""What a column means, so that a model is not used on columns that came to mean something else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from detectors.expressions import parse
from detectors.state.fields import plain_sql

if TYPE_CHECKING:
    from collections.abc import Iterable

    from detectors.compiled import CompiledPack
    from detectors.pack import FeatureSpec, WindowSpec

__all__ = ["column_definitions"]

_GAP_STATISTICS: Final = ("mean_s", "cv", "max_s")


def column_definitions(pack: CompiledPack, columns: Iterable[str]) -> dict[str, str]:
    """The definitions of columns and of all that they rest on, by name.

    Equal definitions give equal values of the same events.
    """
    derived = {spec.name: spec for spec in pack.pack.derived}
    features = _feature_columns(pack)
    found: dict[str, str] = {}
    waiting = sorted(columns)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        rests_on: frozenset[str] = frozenset()
        if name in derived:
            found[name] = plain_sql(derived[name].sql)
            rests_on = parse(derived[name].sql, pack.schema, "any").columns
        elif name in features:
            spec, window = features[name]
            found[name] = _described(spec, window)
            rests_on = parse(spec.where, pack.schema, "boolean").columns
            if spec.of:
                rests_on |= parse(spec.of, pack.schema, "any").columns
        else:
            found[name] = "of the event"
        waiting += sorted(rests_on - found.keys())
    return dict(sorted(found.items()))


def _feature_columns(pack: CompiledPack) -> dict[str, tuple[FeatureSpec, WindowSpec]]:
    windows = {window.name: window for window in pack.pack.windows}
    columns: dict[str, tuple[FeatureSpec, WindowSpec]] = {}
    for spec in pack.pack.features:
        names = [spec.name]
        if spec.kind == "gap":
            names = [f"{spec.name}_{statistic}" for statistic in _GAP_STATISTICS]
        for window in spec.windows:
            columns |= {f"{name}_{window}": (spec, windows[window]) for name in names}
    return columns


def _described(spec: FeatureSpec, window: WindowSpec) -> str:
    of = f" of {plain_sql(spec.of)}" if spec.of else ""
    room = f" (exact to {spec.capacity})" if spec.kind == "distinct" else ""
    span = f"{window.length_ms} ms in {window.panes} panes"
    return f"{spec.kind}{of}{room} where {plain_sql(spec.where)}, {span}"
