"""The dense tables of a stage as blocks of rows.

A stage keeps for each row (key) a slice of several arrays: the key table's own, windows, sketches,
limits. Block N holds rows ``N * block_rows`` and on of every array, as many as are in use, under
``PART.ARRAY`` (``features.panes``). The key table knows which blocks were touched: whatever changes
a row, its key was looked up first.

Columns have meanings (``detectors.state.fields``) that go into the layout, so that they can be
found again when a pack has changed: see ``detectors.state.row_restore``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from detectors.state.blocks import Array, Layout, StateBlock
from detectors.state.fields import plain_sql
from detectors.state.row_restore import RowRestore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from detectors.keys import KeyTable
    from detectors.state.fields import Field, RowPart

__all__ = ["RowState"]

_KEYS: Final = "keys"


class RowState:
    """Rows of a stage: their key table, and the parts with arrays over them.

    ``definitions`` are the pack's derived columns, name to SQL. Blocks are called ``NAME/N``.
    """

    def __init__(
        self,
        keys: KeyTable,
        parts: Mapping[str, RowPart],
        definitions: Mapping[str, str] | None = None,
        name: str = "rows",
    ) -> None:
        self.name = name
        self._keys = keys
        self._parts = dict(parts)
        self._definitions = {name: plain_sql(sql) for name, sql in (definitions or {}).items()}
        self._fields: list[Layout] | None = None

    @property
    def used(self) -> int:
        """How many rows are in use."""
        return len(self._keys)

    @property
    def counters(self) -> dict[str, int]:
        """What the key table keeps beside its rows."""
        return self._keys.counters

    def layout(self) -> Layout:
        """What the arrays of the blocks are (see ``detectors.state.row_restore``)."""
        if self._fields is None:
            self._fields = [
                self._described(part, field)
                for part, component in self._parts.items()
                for field in component.fields
            ]
        return {
            "block_rows": self._keys.block_rows,
            "rows": len(self._keys),
            "arrays": {
                name: [array.dtype.str, *array.shape[1:]] for name, array in self._arrays().items()
            },
            "fields": self._fields,
        }

    def names(self) -> list[str]:
        """The blocks that there are now."""
        blocks = -(-len(self._keys) // self._keys.block_rows)
        return [f"{self.name}/{number}" for number in range(blocks)]

    def copy(self, *, full: bool) -> list[StateBlock]:
        """Copies of all blocks, or of those touched since the last such call."""
        size, used = self._keys.block_rows, len(self._keys)
        numbers = np.arange(-(-used // size)) if full else self._keys.take_dirty()
        whole = numbers[numbers < used // size]
        blocks = [StateBlock(f"{self.name}/{number}", {}) for number in numbers.tolist()]
        for name, array in self._arrays().items():
            in_blocks = array[: used - used % size].reshape(used // size, size, *array.shape[1:])
            # One allocation for all: the system hands out large ones in large pages.
            copies = in_blocks[whole]
            for block, copied in zip(blocks, copies, strict=False):
                block.arrays[name] = copied
            if len(whole) < len(numbers):
                blocks[-1].arrays[name] = array[used - used % size : used].copy()
        return blocks

    def restoring(self, layout: Layout) -> RowRestore:
        """What takes over the row blocks of a state with ``layout``."""
        return RowRestore(layout, self.layout(), self._keys, self._parts, self.name)

    def _arrays(self) -> dict[str, Array]:
        arrays = {f"{_KEYS}.{name}": array for name, array in self._keys.row_arrays.items()}
        for part, component in self._parts.items():
            arrays |= {f"{part}.{name}": array for name, array in component.row_arrays.items()}
        return arrays

    def _described(self, part: str, field: Field) -> Layout:
        described: Layout = {
            "label": field.label,
            "identity": {**field.identity, **self._defined(field.reads)},
            "spans": {f"{part}.{name}": list(spans) for name, spans in field.spans.items()},
        }
        if field.reach_s:
            described["reach_s"] = field.reach_s
        # As it will be read back, so that layouts can be compared.
        layout: Layout = json.loads(json.dumps(described))
        return layout

    def _defined(self, columns: frozenset[str]) -> dict[str, str]:
        """The definitions that ``columns`` rest on, directly or not."""
        found: dict[str, str] = {}
        waiting = sorted(columns & self._definitions.keys())
        while waiting:
            name = waiting.pop()
            if f"definition of {name}" not in found:
                sql = self._definitions[name]
                found[f"definition of {name}"] = sql
                roots = set(pl.sql_expr(sql).meta.root_names())
                waiting += sorted(roots & self._definitions.keys())
        return found
