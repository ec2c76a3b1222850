"""Row blocks back into a stage, by what their columns mean.

The layout of rows::

    block_rows   rows of a block, a power of two
    rows         rows in use
    arrays       by name: the type, then the shape of one row
    fields       what columns mean: label, identity, reach_s, and by array where they are:
                 [start, step, count], ...

Where the stage's own layout is the same, arrays are taken over whole. Else each field of the stage
takes the values of the saved field of the same identity, and one without such a partner starts as
for a new key. A saved field that is smaller fits as the beginning of a larger one (a sketch with
more entries); a larger one does not fit. Fields that reach further back than they did (a sketch of
a longer window) go on with what there is.

Where the table has fewer rows than were saved, the keys it would have evicted last are kept.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.errors import StateError
from detectors.state.blocks import Array, Layout, checked_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from detectors.keys import KeyTable
    from detectors.state.blocks import StateBlock
    from detectors.state.fields import RowPart

__all__ = ["RowRestore", "block_number"]

Indices: TypeAlias = npt.NDArray[np.int64]

_MAX_SHOWN_CHARACTERS: Final = 80


class RowRestore:
    """Takes row blocks in any order (``add``), then the counters of the key table (``finish``)."""

    def __init__(
        self,
        saved: Layout,
        own: Layout,
        keys: KeyTable,
        parts: Mapping[str, RowPart],
        table: str = "rows",
    ) -> None:
        self._table = table
        self._keys = keys
        self._parts = parts
        self._targets = {
            f"{part}.{name}": array
            for part, component in parts.items()
            for name, array in component.row_arrays.items()
        }
        try:
            self._rows, self._block_rows = int(saved["rows"]), int(saved["block_rows"])
            self._dtypes = {name: np.dtype(entry[0]) for name, entry in saved["arrays"].items()}
            self._shapes = {name: tuple(entry[1:]) for name, entry in saved["arrays"].items()}
            self._same = all(saved[name] == own[name] for name in ("arrays", "fields"))
            self._moves, self.dropped = _match(saved, own)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise StateError(f"it cannot be read: {error!r}", where="layout") from error
        if self._rows < 0 or self._block_rows < 1:
            raise StateError(f"{self._rows} rows in blocks of {self._block_rows}", where="layout")
        self._key_arrays = {
            name: np.zeros(self._rows, dtype=self._dtypes[f"keys.{name}"])
            for name in keys.row_arrays
        }
        self._missing = set(range(-(-self._rows // self._block_rows)))
        self._kept_back: dict[int, StateBlock] = {}
        for name, array in keys.row_arrays.items():
            if array.dtype != self._key_arrays[name].dtype:
                raise StateError(f"array keys.{name} is not {array.dtype}", where="layout")
        if self.fits:
            self._clear(slice(0, self._rows))

    @property
    def fits(self) -> bool:
        """Whether there are rows for all saved keys."""
        return self._rows <= self._keys.capacity

    def add(self, block: StateBlock) -> None:
        """Take over one block ``NAME/N``.

        Raises:
            StateError: the block is not of this state or came twice, an array is missing or of
                another type or shape.
        """
        number = block_number(block)
        if number not in self._missing:
            raise StateError(
                f"there are {self._rows:,} rows in blocks of {self._block_rows}; "
                "this block is not of them, or came twice",
                where=block.name,
            )
        self._missing.remove(number)
        start = number * self._block_rows
        rows = slice(start, min(start + self._block_rows, self._rows))
        arrays = {
            name: checked_array(block, name, dtype, (rows.stop - start, *self._shapes[name]))
            for name, dtype in self._dtypes.items()
        }
        for name, array in self._key_arrays.items():
            array[rows] = arrays[f"keys.{name}"]
        if self.fits:
            self._write(rows, arrays)
        else:
            self._kept_back[number] = block

    def finish(self, counters: Mapping[str, int]) -> bool:
        """Rebuild the key table; whether rows are laid out as they were.

        Raises:
            StateError: blocks are missing, or keys and counters contradict each other.
        """
        if self._missing:
            shown = ", ".join(f"{self._table}/{number}" for number in sorted(self._missing)[:5])
            raise StateError(
                f"{len(self._missing)} of {-(-self._rows // self._block_rows)} blocks of rows "
                f"are missing: {shown}",
                where=self._table,
                hint="without them the state is not that of any moment: use another checkpoint",
            )
        if not self.fits:
            counters = {**counters, "used": self._keep_newest()}
        try:
            self._keys.restore(self._key_arrays, counters)
        except (KeyError, ValueError) as error:
            message = f"the key table cannot be rebuilt: {error}"
            raise StateError(message, where=self._table) from error
        for component in self._parts.values():
            component.complete_rows(slice(0, len(self._keys)))
        complete = self.fits and self._same and self._block_rows == self._keys.block_rows
        if not complete:
            self._keys.mark_all_dirty()
        return complete

    def _keep_newest(self) -> int:
        """Write the rows that the table would have evicted last; returns how many."""
        stamps = self._key_arrays["stamp"]
        kept = np.sort(np.lexsort((stamps, stamps & 1))[-self._keys.capacity :])
        self._clear(slice(0, len(kept)))
        for number, block in self._kept_back.items():
            start = number * self._block_rows
            first, last = np.searchsorted(kept, [start, start + self._block_rows])
            chosen = kept[first:last] - start
            arrays = {name: array[chosen] for name, array in block.arrays.items()}
            self._write(slice(first, last), arrays)
        self._kept_back.clear()
        self._key_arrays = {name: array[kept] for name, array in self._key_arrays.items()}
        self.dropped.append(
            f"keys: there is room for {len(kept):,} of {self._rows:,}; the "
            f"{self._rows - len(kept):,} that would have been evicted next are forgotten"
        )
        return len(kept)

    def _clear(self, rows: slice) -> None:
        if self._same:  # all of it will be written
            return
        for component in self._parts.values():
            component.clear_rows(rows)

    def _write(self, rows: slice, arrays: Mapping[str, Array]) -> None:
        if self._same:
            for name, target in self._targets.items():
                target[rows] = arrays[name]
            return
        for name, (old, new) in self._moves.items():
            # An array of one dimension is one of one column.
            target = self._targets[name].reshape(len(self._targets[name]), -1)
            target[rows, new] = arrays[name].reshape(rows.stop - rows.start, -1)[:, old]


def block_number(block: StateBlock) -> int:
    """The N of ``KIND/N``.

    Raises:
        StateError: it has none.
    """
    _, _, number = block.name.partition("/")
    if not (number.isascii() and number.isdecimal()):
        raise StateError("a name like 'rows/17' was expected", where=block.name)
    return int(number)


def _match(saved: Layout, own: Layout) -> tuple[dict[str, tuple[Indices, Indices]], list[str]]:
    """By array, the columns to take and where they go; and what does not fit, for people."""
    partners: defaultdict[str, list[Layout]] = defaultdict(list)
    for field in saved["fields"]:
        partners[_key(field)].append(field)
    old: defaultdict[str, list[int]] = defaultdict(list)
    new: defaultdict[str, list[int]] = defaultdict(list)
    said: dict[str, None] = {}  # in order, each once
    empty: set[str] = set()
    for field in own["fields"]:
        candidates = partners[_key(field)]
        # Of several with one meaning, the one of the same name has the same history.
        partner = next((f for f in candidates if f["label"] == field["label"]), None)
        partner = partner or next(iter(candidates), None)
        problem = _problem(field, partner, saved, own)
        if problem or partner is None:
            said[f"{field['label']}: {problem}: starts empty"] = None
            empty.add(field["label"])
            continue
        for name, spans in field["spans"].items():
            for (to, to_step, _), (start, step, count) in zip(
                spans, partner["spans"][name], strict=True
            ):
                old[name] += range(start, start + step * count, step)
                new[name] += range(to, to + to_step * count, to_step)
        if field.get("reach_s", 0) > partner.get("reach_s", 0):
            reach = f"reaches back {field['reach_s']:,} s now, {partner['reach_s']:,} s before"
            said[f"{field['label']}: {reach}: goes on with what there is"] = None
    kept = {_key(field) for field in own["fields"]}
    for field in saved["fields"]:
        if _key(field) not in kept and field["label"] not in empty:
            said[f"{field['label']}: is not kept any more: dropped"] = None
    moves = {
        name: (np.array(old[name], dtype=np.int64), np.array(new[name], dtype=np.int64))
        for name in old
    }
    return moves, list(said)


def _key(field: Layout) -> str:
    return json.dumps(field["identity"], sort_keys=True)


def _problem(field: Layout, partner: Layout | None, saved: Layout, own: Layout) -> str:
    """Why a field of the stage cannot take the values of its partner; empty where it can."""
    if partner is None:
        return _difference(field, saved["fields"])
    if {name: len(spans) for name, spans in field["spans"].items()} != {
        name: len(spans) for name, spans in partner["spans"].items()
    } or any(saved["arrays"][name][0] != own["arrays"][name][0] for name in field["spans"]):
        return "is kept in another form now"
    for name, spans in field["spans"].items():
        for (_, _, room), (_, _, held) in zip(spans, partner["spans"][name], strict=True):
            if held > room:
                return f"has room for {room} now, had {held}"
    return ""


def _difference(field: Layout, saved: list[Layout]) -> str:
    namesake = next((old for old in saved if old["label"] == field["label"]), None)
    if namesake is None:
        return "is new"
    before, now = namesake["identity"], field["identity"]
    name = next(
        name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)
    )
    return f"{name} is {_shown(now.get(name))} now, was {_shown(before.get(name))}"


def _shown(value: Any) -> str:  # noqa: ANN401 - a value of a layout
    if value is None:
        return "nothing"
    text = str(value)
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}..."
