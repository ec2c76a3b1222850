"""Rings: who acted on the same key at nearly the same time, as actions stream by.

Purpose: for each *trace* (one actor acting on one shared key) find the other actors who acted on
this key within the window, and how likely that was by chance.
Assumptions: traces come in the order of the log; times may be late, so the window reaches both
ways from a trace. A pair is found at the trace of it that comes second.
Bounds: a ring of the newest R actions per key; so many partners per trace. What falls out of a
ring is not found any more: on a key with more than R actions in a window some pairs are missed
(the newest are found). The cost of a trace does not depend on how many actors its key has.

The chance of a contact: whoever acts now on a key, an earlier actor of that key may have acted at
any of the earlier moments. If who acted when is random, an actor with one earlier action has it
within the window with probability c / n, where n of the earlier actions are by others than the one
who acts now and c of them lie within the window; with m actions, 1 - C(n - c, m) / C(n, m). So a
key all of whose actions fall into one minute says nothing about who belongs together (chance 1), an
old key with one action an hour says a lot. This is the null hypothesis of permuting actors within
keys, given the past. Where a ring is full of actions of the window, c is what it would be at the
ring's rate; m counts what is in the ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from detectors import _rings
from detectors.state.fields import Field, Span

if TYPE_CHECKING:
    from detectors.keys import Flags, Hashes, Rows
    from detectors.state.blocks import Array

__all__ = ["RingOutputs", "RingSettings", "Rings"]

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RingSettings:
    """How much of a key is remembered (``length`` actions), and what counts as together.

    Two actions are together if they are at most ``window_ms`` apart; ``long_window_ms`` is that of
    the long crowd. ``partners`` is how many contacts a trace can have.
    """

    length: int = 32
    window_ms: int = 60_000
    long_window_ms: int = 600_000
    partners: int = 16

    def __post_init__(self) -> None:
        assert self.length >= 1, "a ring holds an action"
        assert self.window_ms >= 1, "a window is longer than nothing"
        assert 1 <= self.partners <= self.length, "no more partners than a ring holds"


@dataclass(frozen=True, slots=True)
class RingOutputs:
    """What n traces found: m contacts in the order of the traces, and a value for each trace.

    Of contact j, ``positions[j]`` is the trace, ``partners[j]`` the other actor (once per trace,
    the one who acted last first), ``partner_ms[j]`` the time of the partner's latest action within
    the window, ``chances[j]`` how likely they were to meet by chance (see the module).
    ``truncated`` contacts were left out, being beyond ``partners`` of their trace.

    ``crowd`` is how many distinct actors acted on the key in the window that ends with the trace,
    itself included: an estimate where the ring remembers less than the window.
    ``long_crowd`` is the same for the long window.
    ``chance`` is that of meeting an actor with a single earlier action. ``audience`` counts the
    key's actors so far (see ``detectors._rings``). ``founders`` is, at the trace that brings a
    second actor to a key, the first actor; else 0.
    """

    positions: Int32s  # (m,)
    partners: Hashes  # (m,)
    partner_ms: Int64s  # (m,)
    chances: Floats  # (m,)
    truncated: int
    crowd: Floats  # (n,)
    long_crowd: Floats  # (n,)
    chance: Floats  # (n,)
    audience: Int64s  # (n,)
    founders: Hashes  # (n,)


class Rings:
    """The newest actions on each of up to ``capacity`` keys; a ``RowPart``."""

    def __init__(self, capacity: int, settings: RingSettings | None = None) -> None:
        self.settings = settings or RingSettings()
        self._state = _rings.new_rings(capacity, self.settings.length)

    @property
    def bytes_per_row(self) -> int:
        """Memory of one key, bytes."""
        return sum(array[:1].nbytes for array in self._state)

    @property
    def row_arrays(self) -> dict[str, Array]:
        """See ``RowPart``."""
        return self._state._asdict()

    @property
    def fields(self) -> tuple[Field, ...]:
        """See ``RowPart``. A ring of another length starts empty: places depend on the length."""
        length = self.settings.length
        columns = {name: array.shape[1:] for name, array in self.row_arrays.items()}
        return (
            Field(
                "ring of newest actions",
                {"kind": "ring", "length": length},
                {name: [Span(0, 1, length if shape else 1)] for name, shape in columns.items()},
            ),
        )

    def clear_rows(self, rows: slice) -> None:
        """See ``RowPart``."""
        _rings.clear_rings(self._state, rows)

    def complete_rows(self, rows: slice) -> None:
        """See ``RowPart``: nothing follows."""

    def apply(self, times_ms: Int64s, rows: Rows, fresh: Flags, actors: Hashes) -> RingOutputs:
        """Apply n traces in order: their times, the rows of their keys, and who acted."""
        n = len(rows)
        room = n * self.settings.partners  # Only what is found is ever touched.
        contacts = _rings.FoundContacts(
            positions=np.empty(room, dtype=np.int32),
            partners=np.empty(room, dtype=np.uint64),
            partner_ms=np.empty(room, dtype=np.int64),
            chances=np.empty(room, dtype=np.float64),
        )
        columns = _rings.RingColumns(
            crowd=np.empty(n, dtype=np.float64),
            long_crowd=np.empty(n, dtype=np.float64),
            chances=np.empty(n, dtype=np.float64),
            audience=np.empty(n, dtype=np.int64),
            founders=np.empty(n, dtype=np.uint64),
        )
        windows_ms = (self.settings.window_ms, self.settings.long_window_ms)
        found, truncated = _rings.apply_traces(
            self._state, times_ms, rows, fresh, actors, windows_ms, contacts, columns
        )
        return RingOutputs(
            positions=contacts.positions[:found].copy(),
            partners=contacts.partners[:found].copy(),
            partner_ms=contacts.partner_ms[:found].copy(),
            chances=contacts.chances[:found].copy(),
            truncated=truncated,
            crowd=columns.crowd,
            long_crowd=columns.long_crowd,
            chance=columns.chances,
            audience=columns.audience,
            founders=columns.founders,
        )
