"""Swarms: more actors on one key at once than the key, and keys of its kind, let expect.

Purpose: score the crowd of each trace (distinct actors on its key within the window, by
``detectors.rings``), 0 to 1, as columns for rules.
Assumptions: traces come in the order of the log. Every trace belongs to a *group* of keys that are
alike (a key space, or a part of one).

What is expected of a key: a negative binomial with the mean of its own past, on two time scales,
whichever is higher; so an asset whose audience grows over minutes is expected to go on growing, and
a carrier's address that is always busy is expected to be. A key without a past was silent as long
as its group was watched. The crowd itself is never part of that past.

How surprising that is: its tail probability p would be right if keys lived by this model. They do
not: on some platforms videos take off every minute. So every group keeps the largest surprise
(-log10 p) over all of its keys in each pane; these largest values follow a Gumbel distribution, and
its fit says how many panes of a day would have one as large without any anomaly: E. The score is
1 / (1 + E), as in ``detectors.volume``: 0.99 comes once in 100 days. It is corrected for the number
of keys, as all of them are behind a pane's largest value. The fit rests on two quartiles: anomalies
in less than one pane of four change little. A group that is new starts from a cautious prior.

What this does not say: whether the accounts are new, or whether a crowd is benign. A swarm is
synchronised; rules add the rest.

Source: the largest of many are Gumbel distributed: Fisher and Tippett 1928,
https://doi.org/10.1017/S0305004100015681; scan statistics: Naus 1965,
https://doi.org/10.1080/01621459.1965.10480810
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from detectors import _swarms
from detectors.state.fields import Field, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detectors.keys import Flags, Rows
    from detectors.rings import RingOutputs
    from detectors.state.blocks import Array

__all__ = ["SwarmOutputs", "SwarmSettings", "Swarms"]

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class SwarmSettings:
    """How to look and what to remember. Times are counted in panes as long as the window.

    ``windows_ms`` are those of the rings' crowds. ``half_lives`` are the two scales, in panes, on
    which a key's past is remembered. ``most_evidence`` bounds how certain that past makes one of
    the future, in actors: with 8, a crowd varies by a third around its mean even if it never did.
    ``parts`` is how many groups the keys of a space are divided into: the score is that of all.
    ``swarm_score`` is that from which on a crowd is a swarm.

    ``memory_half_life`` is that of a group's largest surprises. ``prior_panes`` is the weight of
    the prior (of a ``prior_location`` and ``prior_scale``, decades); ``least_scale`` is half as
    much again as that of keys that live by the model.
    """

    windows_ms: tuple[int, int] = (60_000, 600_000)
    half_lives: tuple[float, float] = (1.0, 360.0)
    most_evidence: float = 4.0
    parts: int = 1
    swarm_score: float = 0.9
    memory_half_life: float = 1_440.0
    prior_panes: float = 10.0
    prior_location: float = 1.0
    prior_scale: float = 1.0
    least_scale: float = 0.65

    @property
    def looks(self) -> int:
        """How many scores of a space there are in each pane."""
        return self.parts * len(self.windows_ms)

    def plan(self, window_ms: int) -> _swarms.SwarmPlan:
        """The same as the kernel wants it, for one of the windows."""
        fast, slow = self.half_lives
        return _swarms.SwarmPlan(
            pane_ms=window_ms,
            fast_decay=0.5 ** (1.0 / fast),
            slow_decay=0.5 ** (1.0 / slow),
            most_evidence=self.most_evidence,
            memory_decay=0.5 ** (1.0 / self.memory_half_life),
            prior_panes=self.prior_panes,
            prior_location=self.prior_location,
            prior_scale=self.prior_scale,
            least_scale=self.least_scale,
            panes_per_day=_DAY_MS / window_ms,
            swarms_per_day=(1.0 / self.swarm_score - 1.0) / self.looks,
        )


@dataclass(frozen=True, slots=True)
class SwarmOutputs:
    """Of n traces: the crowd, how large it was expected to be, and the score 0 to 1; (n,).

    All three are those of the window in which the crowd is more surprising. ``swarming`` is whether
    the trace belongs to a swarm: one that begins, or one that goes on until half of it is gone.
    """

    actors: Floats
    expected: Floats
    score: Floats
    swarming: Flags


class Swarms:
    """What is usual on each of up to ``capacity`` keys (a ``RowPart``), and in each group.

    ``group_arrays`` is the state of the groups, to be read or written.
    """

    def __init__(self, capacity: int, groups: int, settings: SwarmSettings | None = None) -> None:
        self.settings = settings or SwarmSettings()
        self._plans = [self.settings.plan(window_ms) for window_ms in self.settings.windows_ms]
        self._rows = [_swarms.new_rows(capacity) for _ in self._plans]
        self._groups = [_swarms.new_groups(groups) for _ in self._plans]

    @property
    def bytes_per_row(self) -> int:
        """Memory of one key, bytes."""
        return sum(array[:1].nbytes for array in self.row_arrays.values())

    @property
    def group_arrays(self) -> dict[str, Array]:
        """The state of the groups by name: arrays (groups,) or (groups, columns)."""
        return self._named(self._groups)

    @property
    def row_arrays(self) -> dict[str, Array]:
        """See ``RowPart``."""
        return self._named(self._rows)

    @property
    def fields(self) -> tuple[Field, ...]:
        """See ``RowPart``."""
        half_lives = " ".join(str(panes) for panes in self.settings.half_lives)
        return tuple(
            Field(
                f"usual crowd of {plan.pane_ms} ms",
                {"kind": "crowd", "window_ms": plan.pane_ms, "half_lives": half_lives},
                {f"{name}_{plan.pane_ms}": [Span(0, 1, 1)] for name in rows._fields},
            )
            for plan, rows in zip(self._plans, self._rows, strict=True)
        )

    def clear_rows(self, rows: slice) -> None:
        """See ``RowPart``."""
        for array in self.row_arrays.values():
            array[rows] = 0

    def complete_rows(self, rows: slice) -> None:
        """See ``RowPart``: nothing follows."""

    def apply(
        self, times_ms: Int64s, rows: Rows, fresh: Flags, groups: Int32s, found: RingOutputs
    ) -> SwarmOutputs:
        """Score the crowds of n traces in order; ``groups`` (n,) are those of their keys."""
        crowds = np.stack([found.crowd, found.long_crowd])
        expected, per_day = np.empty(crowds.shape), np.empty(crowds.shape)
        swarming = np.empty(crowds.shape, dtype=np.bool_)
        for at, plan in enumerate(self._plans):
            _swarms.score_crowds(
                plan,
                self._rows[at],
                self._groups[at],
                times_ms,
                rows,
                fresh,
                groups,
                crowds[at],
                _swarms.SwarmColumns(expected[at], per_day[at], swarming[at]),
            )
        best = per_day.argmin(axis=0), np.arange(len(rows))
        score = 1.0 / (1.0 + self.settings.looks * per_day[best])
        return SwarmOutputs(crowds[best], expected[best], score, swarming[0] | swarming[1])

    def _named(self, states: Sequence[_swarms.SwarmState | _swarms.GroupState]) -> dict[str, Array]:
        return {
            f"{name}_{plan.pane_ms}": array
            for plan, state in zip(self._plans, states, strict=True)
            for name, array in state._asdict().items()
        }
