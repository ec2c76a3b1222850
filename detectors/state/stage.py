"""The state of a stage put together: its rows, its open incidents, and the rest.

A stage that keeps anything else beside rows and incidents gives it as *rest*: what JSON can hold,
small, since all of it is written whenever any of it has changed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from detectors.errors import StateError
from detectors.state.blocks import (
    STATE_FORMAT,
    Layout,
    Restored,
    Snapshot,
    StateBlock,
    check_format,
    entry,
    json_array,
    json_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from detectors.incidents import IncidentTracker
    from detectors.rules import Rule
    from detectors.state.rows import RowState

__all__ = ["Rest", "StageState"]

Rest: TypeAlias = dict[str, Any]

_REST_BLOCK: Final = "stage"
_REST_ARRAY: Final = "json"


class StageState:
    """Takes and gives back the state of a stage of one ``kind`` (``"user"``).

    ``others`` are tables of keys beside the first.
    """

    def __init__(
        self,
        kind: str,
        rows: RowState,
        incidents: IncidentTracker,
        others: Sequence[RowState] = (),
    ) -> None:
        self.kind = kind
        self._rows = rows
        self._others = {table.name: table for table in others}
        self._incidents = incidents
        self._written_rest = b""

    def snapshot(self, rest: Rest, *, full: bool) -> Snapshot:
        """See ``detectors.state``."""
        layout = {"format": STATE_FORMAT, "stage": self.kind, **self._rows.layout()}
        changed = [*self._rows.copy(full=full), *self._incidents.copy(full=full)]
        counters = {"keys": self._rows.counters, "incidents": self._incidents.counters}
        if self._others:
            layout["tables"] = {name: table.layout() for name, table in self._others.items()}
            changed += [block for table in self._others.values() for block in table.copy(full=full)]
            tables = {name: table.counters for name, table in self._others.items()}
            counters = {**counters, "tables": tables}
        array = json_array({**counters, "rest": rest})
        if full or array.tobytes() != self._written_rest:
            changed.append(StateBlock(_REST_BLOCK, {_REST_ARRAY: array}))
        if not full:
            self._written_rest = array.tobytes()
        of_others = (name for table in self._others.values() for name in table.names())
        names = (*self._rows.names(), *of_others, *self._incidents.names(), _REST_BLOCK)
        return Snapshot(layout, names, tuple(changed))

    def restore(
        self, layout: Layout, blocks: Iterable[StateBlock], rules: Iterable[Rule]
    ) -> tuple[Restored, Rest]:
        """See ``detectors.state``; also returns the rest.

        Raises:
            StateError: see ``detectors.state``.
        """
        check_format(layout, self.kind)
        restoring = {self._rows.name: self._rows.restoring(layout)}
        for name, table in self._others.items():
            restoring[name] = table.restoring(entry(layout.get("tables"), name, "layout"))
        others: defaultdict[str, list[StateBlock]] = defaultdict(list)
        for block in blocks:
            kind, _, _ = block.name.partition("/")
            if kind in restoring:
                restoring[kind].add(block)
            else:
                others[kind].append(block)
        incident_blocks, rest_blocks = others.pop("incidents", []), others.pop(_REST_BLOCK, [])
        if others or len(rest_blocks) != 1:
            unknown = [block.name for found in others.values() for block in found]
            raise StateError(
                f"unknown blocks {unknown}"
                if unknown
                else f"{len(rest_blocks)} such blocks, not 1",
                where="blocks" if unknown else _REST_BLOCK,
            )
        state = json_value(rest_blocks[0], _REST_ARRAY)
        complete = restoring[self._rows.name].finish(entry(state, "keys", _REST_BLOCK))
        for name in self._others:
            counters = entry(entry(state, "tables", _REST_BLOCK), name, _REST_BLOCK)
            complete &= restoring[name].finish(counters)
        incidents = entry(state, "incidents", _REST_BLOCK)
        said = self._incidents.restore(incident_blocks, incidents, rules)
        if complete:
            self._written_rest = rest_blocks[0].arrays[_REST_ARRAY].tobytes()
        else:
            self._incidents.mark_all_dirty()
        dropped = (sentence for table in restoring.values() for sentence in table.dropped)
        restored = Restored(self._rows.used, (*dropped, *said), complete)
        return restored, entry(state, "rest", _REST_BLOCK)
