"""One campaign: the swarms and ties that hold it together, and what they say."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from detectors._swarm_book import LiveSwarm

__all__ = ["Bond", "Campaign", "CampaignKey", "CampaignMember", "CampaignView", "Meeting"]

_MINUTE_MS: Final = 60_000
_MAX_SWARMS: Final = 50
_MAX_BONDS: Final = 2_000
_MAX_TIMELINE: Final = 60
_CORE_SHARE: Final = 0.5


class Meeting(NamedTuple):
    """Two actors on a key; ``spaces`` are those of all keys of the event, as bits."""

    key: int
    time_ms: int
    gap_ms: int
    spaces: int

    @property
    def space(self) -> int:
        """One of the spaces."""
        return (self.spaces & -self.spaces).bit_length() - 1


@dataclass(frozen=True, slots=True)
class Bond:
    """A significant tie: see ``detectors.ties.SignificantTies``."""

    first: int
    second: int
    weight: int
    expected: float
    q: float
    meetings: tuple[Meeting, ...]


class CampaignMember(NamedTuple):
    """An actor: on how many of the campaign's keys (the score), and whether it is of its core."""

    actor: int
    score: float
    core: bool
    newest_ms: int


class CampaignKey(NamedTuple):
    """A key: by how many members it is shared, and its swarm (a score of 0: none)."""

    key: int
    space: int
    members: int
    actions: int
    score: float


class CampaignView(NamedTuple):
    """What a campaign looks like now; everything that can be long is cut, and counted."""

    members: tuple[CampaignMember, ...]
    members_left_out: int
    keys: tuple[CampaignKey, ...]
    keys_left_out: int
    spaces: tuple[int, ...]
    gaps_s: tuple[float, float]  # median, 90th percentile; NaN where unknown
    timeline: tuple[tuple[int, int], ...]  # minutes since the epoch, actions
    events: tuple[str, ...]
    actions: int


@dataclass(slots=True)
class Campaign:
    """Swarms (by key) and bonds (by pair); what it tells is derived from them.

    ``actors`` are those of its parts as they were added. ``left_out`` counts how often a part was
    not added, as there were too many. ``grown`` is whether actors came since the last tick.
    """

    campaign_id: str
    opened_ms: int
    version: int = 0
    told_ms: int = 0
    told_size: tuple[int, int] = (0, 0)
    left_out: int = 0
    swarms: dict[int, LiveSwarm] = field(default_factory=dict)
    bonds: dict[tuple[int, int], Bond] = field(default_factory=dict)
    actors: set[int] = field(default_factory=set)
    grown: bool = False

    @property
    def first_ms(self) -> int:
        """Its first action that is known."""
        first_ms = [swarm.first_ms for swarm in self.swarms.values()]
        first_ms += [meeting.time_ms for bond in self.bonds.values() for meeting in bond.meetings]
        return min(first_ms)

    @property
    def newest_ms(self) -> int:
        """Its newest action."""
        newest_ms = [swarm.newest_ms for swarm in self.swarms.values()]
        newest_ms += [meeting.time_ms for bond in self.bonds.values() for meeting in bond.meetings]
        return max(newest_ms)

    @property
    def size(self) -> tuple[int, int]:
        """How many actors and keys it has."""
        return len(self.actors), len(self._shared())

    def add_swarm(self, swarm: LiveSwarm) -> None:
        """A swarm of the campaign; one that it has is the same object."""
        if swarm.key not in self.swarms and len(self.swarms) >= _MAX_SWARMS:
            self.left_out += 1
            return
        self.swarms[swarm.key] = swarm
        self._welcome(swarm.members)

    def add_bond(self, bond: Bond) -> None:
        """A tie of the campaign, new or as it is now."""
        pair = (bond.first, bond.second)
        if pair not in self.bonds and len(self.bonds) >= _MAX_BONDS:
            self.left_out += 1
            return
        self.bonds[pair] = bond
        self._welcome(pair)

    def _welcome(self, actors: Iterable[int]) -> None:
        before = len(self.actors)
        self.actors.update(actors)
        self.grown |= len(self.actors) > before

    def view(self, max_members: int, max_keys: int, max_events: int) -> CampaignView:
        """What to tell about it."""
        shared = self._shared()
        keys_of: Counter[int] = Counter(actor for actors in shared.values() for actor in actors)
        mean = sum(keys_of.values()) / max(1, len(keys_of))
        newest = self._newest()
        members = sorted(
            (
                CampaignMember(actor, float(score), score >= _CORE_SHARE * mean, newest[actor])
                for actor, score in keys_of.items()
            ),
            key=lambda member: (-member.score, member.actor),
        )
        keys = sorted(
            (self._key(key, len(actors)) for key, actors in shared.items()),
            key=lambda key: (-key.members, key.key),
        )
        events = sorted(
            {event for swarm in self.swarms.values() for event in swarm.events if event}
        )
        return CampaignView(
            tuple(members[:max_members]),
            len(members) - len(members[:max_members]),
            tuple(keys[:max_keys]),
            len(keys) - len(keys[:max_keys]),
            tuple(sorted(self._spaces())),
            self._gaps_s(),
            self._timeline(),
            tuple(events[:max_events]),
            sum(swarm.actions for swarm in self.swarms.values())
            or 2 * sum(bond.weight for bond in self.bonds.values()),
        )

    def _shared(self) -> dict[int, set[int]]:
        """Who was there, by key."""
        shared: defaultdict[int, set[int]] = defaultdict(set)
        for swarm in self.swarms.values():
            shared[swarm.key].update(swarm.members)
        for bond in self.bonds.values():
            for meeting in bond.meetings:
                shared[meeting.key].update((bond.first, bond.second))
        return shared

    def _newest(self) -> dict[int, int]:
        newest: dict[int, int] = {}
        for actor, time_ms in self._sightings():
            newest[actor] = max(time_ms, newest.get(actor, time_ms))
        return newest

    def _sightings(self) -> Iterator[tuple[int, int]]:
        for swarm in self.swarms.values():
            for actor, (_, newest_ms) in swarm.members.items():
                yield actor, newest_ms
        for bond in self.bonds.values():
            for meeting in bond.meetings:
                yield bond.first, meeting.time_ms
                yield bond.second, meeting.time_ms

    def _key(self, key: int, members: int) -> CampaignKey:
        swarm = self.swarms.get(key)
        if swarm is not None:
            return CampaignKey(key, swarm.space, members, swarm.actions, swarm.score)
        meeting = next(m for bond in self.bonds.values() for m in bond.meetings if m.key == key)
        return CampaignKey(key, meeting.space, members, members, 0.0)

    def _spaces(self) -> set[int]:
        spaces = {swarm.space for swarm in self.swarms.values()}
        for bond in self.bonds.values():
            for meeting in bond.meetings:
                bits = range(meeting.spaces.bit_length())
                spaces.update(bit for bit in bits if meeting.spaces >> bit & 1)
        return spaces

    def _gaps_s(self) -> tuple[float, float]:
        """Between partners who met; of swarms alone, between one who joined and the next."""
        gaps_ms = [abs(m.gap_ms) for bond in self.bonds.values() for m in bond.meetings]
        if not gaps_ms:
            for swarm in self.swarms.values():
                joined = sorted(first_ms for first_ms, _ in swarm.members.values())
                gaps_ms += [b - a for a, b in pairwise(joined)]
        if not gaps_ms:
            return float("nan"), float("nan")
        gaps_ms.sort()
        return statistics.median(gaps_ms) / 1e3, gaps_ms[9 * (len(gaps_ms) - 1) // 10] / 1e3

    def _timeline(self) -> tuple[tuple[int, int], ...]:
        counts: Counter[int] = Counter()
        for swarm in self.swarms.values():
            counts.update(swarm.minutes)
        if not counts:
            times_ms = {(m.key, m.time_ms) for b in self.bonds.values() for m in b.meetings}
            counts.update(time_ms // _MINUTE_MS for _, time_ms in times_ms)
        return tuple(sorted(counts.items())[-_MAX_TIMELINE:])

    def state(self) -> dict[str, Any]:
        """All of it, its swarms by their keys, as JSON can hold it."""
        return {
            "id": self.campaign_id,
            "opened_ms": self.opened_ms,
            "version": self.version,
            "told_ms": self.told_ms,
            "told_size": list(self.told_size),
            "left_out": self.left_out,
            "actors": sorted(self.actors),
            "swarms": list(self.swarms),
            "bonds": [
                [b.first, b.second, b.weight, b.expected, b.q, [list(m) for m in b.meetings]]
                for b in self.bonds.values()
            ],
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], live: Mapping[int, LiveSwarm]) -> Campaign:
        """A campaign from its ``state``; its swarms are among those that are ``live``."""
        actors, keys = state["told_size"]
        campaign = cls(
            state["id"],
            state["opened_ms"],
            state["version"],
            state["told_ms"],
            (actors, keys),
            state["left_out"],
        )
        campaign.actors.update(state["actors"])
        campaign.swarms = {key: live[key] for key in state["swarms"]}
        for first, second, weight, expected, q, meetings in state["bonds"]:
            together = tuple(Meeting(*meeting) for meeting in meetings)
            campaign.bonds[first, second] = Bond(first, second, weight, expected, q, together)
        return campaign
