"""Ties: pairs of actors who meet again and again on different keys, more often than by chance.

Purpose: keep the pairs that met, and say which of them chance does not explain.
Assumptions: meetings and exposures come in the order of the log, from ``detectors.rings``. An
*exposure* is an action on a key that somebody else acted on as well; a *meeting* is a contact.

What is counted: meetings on *different* keys within a horizon of event time, however often the two
met on each. Keys of one event (a video, its copies, its link) are one meeting. A device, a network
or a template lasts: whoever is tied to one meets others on it all the time, so all keys of such
spaces together count once.

How likely that is by chance is asked twice, as either question alone has a wrong answer:

- *Timing*: given the keys that both acted on, also where they did not meet: had they acted at other
  moments of those keys, how many meetings would there be? The sum over these keys of the chances
  that ``detectors.rings`` gives. It explains friends who like the same videos; not two who are
  always there within the minute. But on a key that lives for a minute everybody meets: it says
  nothing. (Nor does it know of hours: who is awake together meets more, on keys older than a day.)
- *Activity*: had others acted on these keys, drawn by how much they act in this key space, how
  often would the two meet? It does not explain that it is the same two again; nor would it explain
  friends, who do meet again.

A tie is unlikely by chance if both say so, or if activity says so of meetings in swarms alone
(``detectors.swarms``): keys that live for a minute, with a crowd that nobody expects. Either count
has at most a Poisson's upper tail (``detectors.chance``), here given one meeting, as pairs who
never met are not looked at; then Benjamini and Hochberg over all pairs who met within the horizon.

Bounds: the newest keys of each actor, the newest meetings of each pair; a meeting on a key that one
of the two has forgotten does not count, so both sides of the comparison remember alike. Pairs who
met once go before those who met again (``detectors.keys.KeyTable``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from detectors import _actors, _ties
from detectors.chance import false_discovery_rates
from detectors.keys import KeyTable
from detectors.state.fields import Field, Span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from detectors.keys import Hashes
    from detectors.state.blocks import Array

__all__ = ["ActorTable", "Exposures", "Meetings", "SignificantTies", "TieSettings", "TieTable"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

_DEFAULT_BLOCK_ROWS: Final = 512
_MIX_1: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_2: Final = np.uint64(0xD6E8FEB86659FD93)
_SHIFT: Final = np.uint64(32)
_MAX_SPACES: Final = 32


@dataclass(frozen=True, slots=True)
class TieSettings:
    """What is remembered, and what is believed.

    Key spaces are numbered 0 to ``spaces`` - 1; those in ``lasting`` hold keys that last.
    ``horizon_ms`` is how long a meeting counts; activity halves in that time. ``q`` is the share of
    false ones among significant ties, on average. ``swarm_score`` is that from which on a meeting
    counts as one in a swarm.
    """

    spaces: int
    lasting: frozenset[int] = frozenset()
    horizon_ms: int = 86_400_000
    keys: int = 32
    meetings: int = 12
    q: float = 0.05
    swarm_score: float = 0.9

    def __post_init__(self) -> None:
        assert 1 <= self.spaces <= _MAX_SPACES, "spaces are bits of 32"
        assert all(0 <= space < self.spaces for space in self.lasting)

    @property
    def lasting_bits(self) -> int:
        """The lasting spaces as bits."""
        return sum(1 << space for space in self.lasting)


@dataclass(frozen=True, slots=True)
class Exposures:
    """What actors did on shared keys; all (n,).

    ``chances`` and ``crowds`` are those of ``RingOutputs``. The founder of a key is exposed too,
    when the second actor comes: with a chance of 0 and a crowd of 1.
    """

    times_ms: Int64s
    actors: Hashes
    keys: Hashes
    spaces: Bytes
    chances: Floats
    crowds: Floats


@dataclass(frozen=True, slots=True)
class Meetings:
    """Contacts of rings: an actor, and a partner who acted before in the log; all (n,)."""

    times_ms: Int64s
    actors: Hashes
    partners: Hashes
    partner_ms: Int64s
    keys: Hashes
    spaces: Bytes
    swarm_scores: Floats


@dataclass(frozen=True, slots=True)
class SignificantTies:
    """Ties that chance does not explain, each (t,) or (t, meetings).

    ``weight`` meetings on different keys, where ``expected`` come by chance, by the weaker of the
    two answers or of meetings in swarms alone (see the module); ``q`` is the false discovery rate
    at which the tie is believed. Of each meeting the ``keys`` (t,
    meetings, 3; 0 where there is none), the time of the later actor, how far apart they acted, and
    the spaces as bits. A meeting that is none has a time far below zero.
    """

    first: Hashes
    second: Hashes
    weight: Int64s
    expected: Floats
    q: Floats
    keys: Hashes
    times_ms: Int64s
    gaps_ms: Int64s
    spaces: Int64s

    def __len__(self) -> int:
        return len(self.first)


class ActorTable:
    """Up to ``capacity`` actors: the keys that they share, how active they are; a ``RowPart``.

    ``totals`` (spaces,) are the actions of all on shared keys, decayed to ``totals_ms`` (1,).
    """

    def __init__(
        self, capacity: int, settings: TieSettings, block_rows: int = _DEFAULT_BLOCK_ROWS
    ) -> None:
        self.keys = KeyTable(capacity, block_rows)
        self.settings = settings
        self.state = _actors.new_actors(capacity, settings.keys, settings.spaces)
        self.totals = np.zeros(settings.spaces)
        self.totals_ms = np.zeros(1, dtype=np.int64)

    @property
    def bytes_per_row(self) -> int:
        """Memory of one actor, bytes."""
        return sum(array[:1].nbytes for array in self.state)

    @property
    def row_arrays(self) -> dict[str, Array]:
        """See ``RowPart``."""
        return self.state._asdict()

    @property
    def fields(self) -> tuple[Field, ...]:
        """See ``RowPart``."""
        return (_field("actor", self.row_arrays, self.settings),)

    def clear_rows(self, rows: slice) -> None:
        """See ``RowPart``."""
        for array in self.state:
            array[rows] = 0
        self.state.times_ms[rows] = _actors.NEVER_MS

    def complete_rows(self, rows: slice) -> None:
        """See ``RowPart``: nothing follows."""

    def saved(self) -> dict[str, Any]:
        """What is kept beside the rows, as JSON can hold it."""
        return {"totals": self.totals.tolist(), "totals_ms": int(self.totals_ms[0])}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from what ``saved`` gave."""
        self.totals[:], self.totals_ms[0] = saved["totals"], saved["totals_ms"]

    def apply(self, exposures: Exposures) -> None:
        """Note n exposures in order."""
        rows, fresh = self.keys.rows(exposures.actors)
        _actors.apply_exposures(
            self.state,
            self.totals,
            self.totals_ms,
            _actors.Exposures(
                exposures.times_ms,
                exposures.keys,
                exposures.spaces,
                exposures.chances,
                exposures.crowds,
            ),
            rows,
            fresh,
            float(self.settings.horizon_ms),
        )

    def rows_of(self, actors: Hashes) -> Int64s:
        """The rows of actors without touching them, -1 where one is not known; (n,)."""
        found = (self.keys.find(actor) for actor in actors.tolist())
        return np.array([-1 if row is None else row for row in found], dtype=np.int64)


class TieTable:
    """Up to ``capacity`` pairs who met; a ``RowPart``."""

    def __init__(
        self, capacity: int, settings: TieSettings, block_rows: int = _DEFAULT_BLOCK_ROWS
    ) -> None:
        self.keys = KeyTable(capacity, block_rows)
        self.settings = settings
        self._state = _ties.new_ties(capacity, settings.meetings)
        self._pairs = np.zeros(1)
        self._pairs_ms = np.zeros(1, dtype=np.int64)

    @property
    def bytes_per_row(self) -> int:
        """Memory of one pair, bytes."""
        return sum(array[:1].nbytes for array in self._state)

    @property
    def row_arrays(self) -> dict[str, Array]:
        """See ``RowPart``."""
        return self._state._asdict()

    @property
    def fields(self) -> tuple[Field, ...]:
        """See ``RowPart``."""
        return (_field("tie", self.row_arrays, self.settings),)

    def clear_rows(self, rows: slice) -> None:
        """See ``RowPart``."""
        for array in self._state:
            array[rows] = 0
        self._state.times_ms[rows] = _actors.NEVER_MS
        self._state.probability[rows] = 1.0

    def complete_rows(self, rows: slice) -> None:
        """See ``RowPart``: nothing follows."""

    def saved(self) -> dict[str, Any]:
        """What is kept beside the rows, as JSON can hold it."""
        return {"pairs": float(self._pairs[0]), "pairs_ms": int(self._pairs_ms[0])}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from what ``saved`` gave."""
        self._pairs[0], self._pairs_ms[0] = saved["pairs"], saved["pairs_ms"]

    def apply(self, meetings: Meetings) -> None:
        """Note n meetings in order."""
        rows, fresh = self.keys.rows(_pair_hashes(meetings.actors, meetings.partners))
        _ties.apply_meetings(
            self._state,
            _ties.Meetings(
                meetings.times_ms,
                meetings.actors,
                meetings.partners,
                meetings.partner_ms,
                meetings.keys,
                meetings.spaces,
                meetings.swarm_scores,
            ),
            rows,
            fresh,
            self.settings.lasting_bits,
            self._pairs,
            self._pairs_ms,
            float(self.settings.horizon_ms),
        )

    @property
    def unchanged(self) -> bool:
        """Whether nobody met since ties were judged last."""
        return not self._state.changed[: len(self.keys)].any()

    def significant(
        self, actors: ActorTable, swarm_keys: Hashes, now_ms: int, since_ms: int
    ) -> SignificantTies:
        """The significant ties with a meeting since ``since_ms``, as of ``now_ms``.

        Ties that met since the last call are judged anew; the others as they were then. A meeting
        on a key that is in ``swarm_keys`` (ascending) when it is judged is one in a swarm, also if
        it came before the crowd did. To be called at times that do not depend on batches.
        """
        state, used = self._state, len(self.keys)
        changed = np.flatnonzero(state.changed[:used])
        if len(changed):
            # What changes a row looks its key up first, so that snapshots take it.
            self.keys.rows(_pair_hashes(state.first[changed], state.second[changed]))
            _ties.judge(
                state,
                changed,
                actors.state,
                actors.rows_of(state.first[changed]),
                actors.rows_of(state.second[changed]),
                actors.totals,
                now_ms - self.settings.horizon_ms,
                self.settings.swarm_score,
                swarm_keys,
            )
        rows = np.flatnonzero(state.probability[:used] <= self.settings.q)
        newest_ms = state.times_ms[rows].max(axis=1, initial=_actors.NEVER_MS)
        alive = newest_ms >= now_ms - self.settings.horizon_ms
        rows, newest_ms = rows[alive], newest_ms[alive]
        rates = false_discovery_rates(state.probability[rows], self._tests(len(rows), now_ms))
        chosen = (rates <= self.settings.q) & (newest_ms >= since_ms)
        return self._ties(rows[chosen], rates[chosen])

    def _tests(self, least: int, now_ms: int) -> int:
        """How many pairs met within the horizon, at most (evicted ones too).

        The count of pairs halves within the horizon: twice as many as it says cannot be exceeded.
        """
        left = 0.5 ** (max(0, now_ms - int(self._pairs_ms[0])) / self.settings.horizon_ms)
        return max(least, int(np.ceil(2.0 * left * self._pairs[0])))

    def _ties(self, rows: Int64s, rates: Floats) -> SignificantTies:
        state = self._state
        shape = (len(rows), self.settings.meetings, _ties.KEYS_OF_A_MEETING)
        return SignificantTies(
            first=state.first[rows],
            second=state.second[rows],
            weight=state.weight[rows].astype(np.int64),
            expected=state.expected[rows].astype(np.float64),
            q=rates,
            keys=state.keys[rows].reshape(shape),
            times_ms=state.times_ms[rows],
            gaps_ms=state.gaps_ms[rows].astype(np.int64),
            spaces=state.spaces[rows].astype(np.int64),
        )


def _pair_hashes(actors: Hashes, partners: Hashes) -> Hashes:
    """A hash of each unordered pair, (n,)."""
    mixed = np.minimum(actors, partners) * _MIX_1
    mixed ^= mixed >> _SHIFT
    mixed = (mixed + np.maximum(actors, partners)) * _MIX_2
    hashes: Hashes = mixed ^ (mixed >> _SHIFT)
    return hashes


def _field(kind: str, arrays: Mapping[str, Array], settings: TieSettings) -> Field:
    """All columns as one piece: what is remembered of a row is only of use as a whole."""
    lasting = " ".join(str(space) for space in sorted(settings.lasting))
    return Field(
        f"{kind}s",
        {"kind": kind, "spaces": settings.spaces, "lasting": lasting},
        {name: [Span(0, 1, array[0].size)] for name, array in arrays.items()},
    )
