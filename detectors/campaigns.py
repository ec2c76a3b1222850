"""Campaigns: groups of actors and keys that swarms and ties hold together, while they act.

Purpose: open a campaign when a group shows, keep its identity while it grows, close it when it has
been silent.
Assumptions: sightings and ties come in the order of the log; ``update`` is called at ticks of event
time (``ticks``), so that what is said does not depend on batches.

What opens a campaign:

- a *group of ties* (``detectors.ties``, ``detectors.grouping``): three actors or more who are tied
  by meetings on different keys that chance does not explain, and whom no single one holds together;
- a *swarm* (``detectors.swarms``) with a score that comes once in a hundred days: many accounts on
  one device, or a crowd on a video that is a minute old. Ties alone are too late for these: they
  need a second key, which a wave of shares has minutes later and a farm of accounts never has.

Groups and swarms are one campaign if they have half of the smaller one's actors and a fifth of the
larger one's in common, two at least; a swarm whose actors are nearly all in a campaign belongs to
it as well. So a crowd on a video that everybody shares joins nobody, though it has whole groups in
it, and neither does one actor who is in many. A weaker swarm joins a campaign in this way, but
opens none. Where two campaigns turn out to be one, the younger is closed, and says into which it
went.

What is told is evidence of acting together: synchronised, not malicious.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from detectors._campaign_evidence import Bond, Campaign, CampaignKey, CampaignMember, Meeting
from detectors._swarm_book import LiveSwarm
from detectors.grouping import find_groups
from detectors.incidents import stable_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from detectors.keys import Hashes
    from detectors.ties import SignificantTies

__all__ = [
    "CampaignChange",
    "CampaignKey",
    "CampaignMember",
    "CampaignSettings",
    "Campaigns",
    "Sightings",
    "ticks",
]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

_FOUNDERS: Final = 16
_INSIDE: Final = 0.8
"""Such a share of a swarm's actors in a campaign makes it a part of that."""


@dataclass(frozen=True, slots=True)
class CampaignSettings:
    """When a campaign opens and closes, and how much is kept and told of it.

    ``opening_score`` is the swarm score that opens one by itself, with ``opening_members``.
    ``silence_ms`` without an action closes it. A change is told at most every ``update_ms``.
    """

    opening_score: float = 0.99
    opening_members: int = 5
    silence_ms: int = 1_800_000
    tick_ms: int = 10_000
    update_ms: int = 60_000
    max_swarms: int = 2_000
    max_campaigns: int = 500
    max_members: int = 100
    max_keys: int = 20
    max_events: int = 20


@dataclass(frozen=True, slots=True)
class Sightings:
    """Actions in swarms (``SwarmOutputs.swarming``), n of them, and who was met at each.

    ``partner_of`` (m,) are positions among the n, ascending, ``partners`` and ``partner_ms`` the
    contacts that ``detectors.rings`` found there. ``events`` (n) are the ids of the events.
    """

    times_ms: Int64s
    keys: Hashes
    spaces: Bytes
    actors: Hashes
    scores: Floats
    crowds: Floats
    expected: Floats
    events: Sequence[str]
    partner_of: npt.NDArray[np.int32]
    partners: Hashes
    partner_ms: Int64s


@dataclass(frozen=True, slots=True)
class CampaignChange:
    """A campaign that was opened, updated or closed (``kind``), as it is at ``time_ms``.

    ``members`` are ranked by on how many of its keys they acted, ``keys`` by how many members acted
    on them; what is not told of either is counted. ``spaces`` are the key spaces that agree.

    Of the ties, if any: how many, the median ``weight`` (meetings on different keys of a pair), how
    many are ``expected`` by chance on average, and the largest ``q``. Of the best swarm, if any:
    its actors, how many were expected, and its score. The gaps are those between partners; of a
    campaign without ties, between one who joins a swarm and the next. ``timeline`` counts actions
    by minute (since the epoch). ``left_out`` counts parts beyond the bounds. One that was closed
    because it belongs to an older one names that in ``merged_into``.
    """

    campaign_id: str
    version: int
    kind: str
    time_ms: int
    first_ms: int
    newest_ms: int
    members: tuple[CampaignMember, ...]
    members_left_out: int
    keys: tuple[CampaignKey, ...]
    keys_left_out: int
    spaces: tuple[int, ...]
    ties: int
    weight: float
    expected: float
    q: float
    swarm_actors: float
    swarm_expected: float
    swarm_score: float
    median_gap_s: float
    p90_gap_s: float
    actions: int
    events: tuple[str, ...]
    timeline: tuple[tuple[int, int], ...]
    left_out: int
    merged_into: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Actors who belong together, and why; ``opens`` whether that is enough for a campaign."""

    actors: frozenset[int]
    swarm: LiveSwarm | None
    bonds: tuple[Bond, ...]
    opens: bool

    def belongs_to(self, actors: AbstractSet[int]) -> bool:
        """Whether it is of one campaign with these actors."""
        inside = len(self.actors & actors) >= max(2.0, _INSIDE * len(self.actors))
        return _belong(self.actors, actors) or (self.swarm is not None and inside)


def ticks(times_ms: Int64s, newest_ms: int, tick_ms: int) -> Iterator[tuple[int, int]]:
    """Where to call ``update`` in a batch: positions, and the tick that is over before them.

    ``times_ms`` (n,) are event times in the order of the log, ``newest_ms`` the newest before. Of
    several ticks that are over at once only the last is given.
    """
    newest = np.maximum.accumulate(np.maximum(times_ms, newest_ms)) // tick_ms
    before = np.concatenate(([newest_ms // tick_ms], newest[:-1]))
    for position in np.flatnonzero(newest > before).tolist():
        yield position, int(newest[position]) * tick_ms


class Campaigns:
    """The open campaigns, and the swarms that may become some."""

    def __init__(self, settings: CampaignSettings | None = None) -> None:
        self.settings = settings or CampaignSettings()
        self.dropped = 0
        self._swarms: dict[int, LiveSwarm] = {}
        self._open: dict[str, Campaign] = {}
        self._campaign_of: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def quiet(self) -> bool:
        """Whether there is neither a campaign nor a swarm."""
        return not self._open and not self._swarms

    @property
    def swarm_keys(self) -> Hashes:
        """The keys with a live swarm, ascending."""
        return np.array(sorted(self._swarms), dtype=np.uint64)

    def see(self, seen: Sightings) -> None:
        """Note n actions in swarms, in order."""
        starts = np.searchsorted(seen.partner_of, np.arange(len(seen.times_ms) + 1))
        for at in range(len(seen.times_ms)):
            swarm = self._swarm(int(seen.keys[at]), int(seen.spaces[at]), int(seen.times_ms[at]))
            if swarm is None:
                self.dropped += 1
                continue
            time_ms = int(seen.times_ms[at])
            measured = float(seen.scores[at]), float(seen.crowds[at]), float(seen.expected[at])
            swarm.act(time_ms, seen.events[at], measured)
            swarm.join(int(seen.actors[at]), time_ms)
            for contact in range(starts[at], starts[at + 1]):
                swarm.join(int(seen.partners[contact]), int(seen.partner_ms[contact]))

    def update(self, now_ms: int, ties: SignificantTies) -> list[CampaignChange]:
        """What changed at a tick; ``ties`` are those that met within the silence before it."""
        waiting = [group for group in self._groups(ties) if not self._take(group)]
        changes = []
        for found in _joined(waiting):
            if len(self._open) < self.settings.max_campaigns:
                changes.append(self._told(self._found(found, now_ms), "opened", now_ms))
            else:
                self.dropped += 1
        changes += self._merge(now_ms)
        for campaign in list(self._open.values()):
            if now_ms - campaign.newest_ms > self.settings.silence_ms:
                changes.append(self._told(campaign, "closed", now_ms))
                self._close(campaign)
            elif (
                now_ms - campaign.told_ms >= self.settings.update_ms
                and campaign.size != campaign.told_size
            ):
                changes.append(self._told(campaign, "updated", now_ms))
        self._forget(now_ms)
        return changes

    def state(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "dropped": self.dropped,
            "swarms": [swarm.state() for swarm in self._swarms.values()],
            "open": [campaign.state() for campaign in self._open.values()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.dropped = state["dropped"]
        swarms = (LiveSwarm.of(saved) for saved in state["swarms"])
        self._swarms = {swarm.key: swarm for swarm in swarms}
        opened = (Campaign.of(saved, self._swarms) for saved in state["open"])
        self._open = {campaign.campaign_id: campaign for campaign in opened}
        self._campaign_of = {
            key: campaign.campaign_id for campaign in self._open.values() for key in campaign.swarms
        }

    def _swarm(self, key: int, space: int, time_ms: int) -> LiveSwarm | None:
        """The swarm of a key, a new one if there is room."""
        swarm = self._swarms.get(key)
        if swarm is None and len(self._swarms) < self.settings.max_swarms:
            swarm = self._swarms[key] = LiveSwarm(key, space, time_ms, time_ms)
        return swarm

    def _groups(self, ties: SignificantTies) -> Iterator[_Group]:
        """Groups of ties, then swarms that changed, in the order in which they came."""
        settings = self.settings
        groups = find_groups(ties.first, ties.second, ties.weight.astype(np.float64))
        bonds = _bonds(ties) if len(groups) else {}
        for at in range(len(groups)):
            members = groups.members[groups.starts[at] : groups.starts[at + 1]].tolist()
            actors = frozenset(members)
            inside = tuple(b for b in bonds.values() if b.first in actors and b.second in actors)
            yield _Group(actors, None, inside, opens=True)
        for swarm in self._swarms.values():
            if swarm.changed:
                strong = swarm.score >= settings.opening_score
                opens = strong and len(swarm.members) >= settings.opening_members
                yield _Group(frozenset(swarm.members), swarm, (), opens)

    def _take(self, group: _Group) -> bool:
        """Add a group to the open campaign that it belongs to, if there is one.

        That is the campaign of its key, or the one with the most actors in common.
        """
        if group.swarm is not None and group.swarm.key in self._campaign_of:
            self._add(self._open[self._campaign_of[group.swarm.key]], group)
            return True
        best, most = None, 0
        for campaign in self._open.values():
            common = len(campaign.actors & group.actors)
            if common > most and group.belongs_to(campaign.actors):
                best, most = campaign, common
        if best is not None:
            self._add(best, group)
        return best is not None

    def _add(self, campaign: Campaign, group: _Group) -> None:
        for bond in group.bonds:
            campaign.add_bond(bond)
        if group.swarm is not None:
            group.swarm.changed = False
            campaign.add_swarm(group.swarm)
            if group.swarm.key in campaign.swarms:
                self._campaign_of[group.swarm.key] = campaign.campaign_id

    def _found(self, groups: Sequence[_Group], now_ms: int) -> Campaign:
        """Open a campaign of groups; its id says who founded it, and when."""
        actors = sorted(frozenset().union(*(group.actors for group in groups)))
        campaign_id = stable_id("campaign", now_ms, *actors[:_FOUNDERS])
        campaign = Campaign(campaign_id, now_ms)
        self._open[campaign_id] = campaign
        for group in groups:
            self._add(campaign, group)
        return campaign

    def _merge(self, now_ms: int) -> list[CampaignChange]:
        """Close campaigns that belong to an older one, which takes over what they have."""
        changes = []
        for younger in list(self._open.values()):
            older = self._older(younger)
            if older is not None:
                change = self._told(younger, "closed", now_ms)
                changes.append(replace(change, merged_into=older.campaign_id))
                self._absorb(older, younger)
        for campaign in self._open.values():
            campaign.grown = False
        return changes

    def _older(self, younger: Campaign) -> Campaign | None:
        """The oldest campaign that another one belongs to, if either has grown."""
        for older in self._open.values():
            if older is younger:
                break
            if (older.grown or younger.grown) and _belong(older.actors, younger.actors):
                return older
        return None

    def _absorb(self, older: Campaign, younger: Campaign) -> None:
        del self._open[younger.campaign_id]
        for bond in younger.bonds.values():
            older.add_bond(bond)
        for swarm in younger.swarms.values():
            del self._campaign_of[swarm.key]
            self._add(older, _Group(frozenset(), swarm, (), opens=False))

    def _close(self, campaign: Campaign) -> None:
        del self._open[campaign.campaign_id]
        for key in campaign.swarms:
            del self._campaign_of[key]
            self._swarms.pop(key, None)

    def _forget(self, now_ms: int) -> None:
        """Swarms that have been silent and belong to no campaign."""
        silent = [
            key
            for key, swarm in self._swarms.items()
            if now_ms - swarm.newest_ms > self.settings.silence_ms and key not in self._campaign_of
        ]
        for key in silent:
            del self._swarms[key]

    def _told(self, campaign: Campaign, kind: str, now_ms: int) -> CampaignChange:
        """The campaign as it is, as its next version."""
        settings = self.settings
        campaign.version += 1
        campaign.told_ms, campaign.told_size = now_ms, campaign.size
        view = campaign.view(settings.max_members, settings.max_keys, settings.max_events)
        bonds = list(campaign.bonds.values())
        best = max(campaign.swarms.values(), key=lambda swarm: swarm.score, default=None)
        return CampaignChange(
            campaign_id=campaign.campaign_id,
            version=campaign.version,
            kind=kind,
            time_ms=now_ms,
            first_ms=campaign.first_ms,
            newest_ms=campaign.newest_ms,
            members=view.members,
            members_left_out=view.members_left_out,
            keys=view.keys,
            keys_left_out=view.keys_left_out,
            spaces=view.spaces,
            ties=len(bonds),
            weight=float(np.median([bond.weight for bond in bonds])) if bonds else math.nan,
            expected=float(np.mean([bond.expected for bond in bonds])) if bonds else math.nan,
            q=max((bond.q for bond in bonds), default=math.nan),
            swarm_actors=best.crowd if best else math.nan,
            swarm_expected=best.expected if best else math.nan,
            swarm_score=best.score if best else math.nan,
            median_gap_s=view.gaps_s[0],
            p90_gap_s=view.gaps_s[1],
            actions=view.actions,
            events=view.events,
            timeline=view.timeline,
            left_out=campaign.left_out,
        )


def _belong(one: AbstractSet[int], other: AbstractSet[int]) -> bool:
    """Whether sets of actors are of one campaign."""
    smaller, larger = sorted((len(one), len(other)))
    return len(one & other) >= max(2.0, smaller / 2, larger / 5)


def _joined(groups: Iterable[_Group]) -> Iterator[list[_Group]]:
    """For each group that opens a campaign, all that belong to it, directly or by others."""
    left = list(groups)
    for opener in [group for group in left if group.opens]:
        if opener not in left:
            continue
        left.remove(opener)
        joined = [opener]
        for one in joined:  # which grows
            found = [other for other in left if other.belongs_to(one.actors)]
            joined += found
            left = [other for other in left if other not in found]
        yield joined


def _bonds(ties: SignificantTies) -> dict[tuple[int, int], Bond]:
    """Significant ties as objects, by pair."""
    bonds = {}
    for at in range(len(ties)):
        meetings = tuple(
            Meeting(
                int(ties.keys[at, place, 0]),
                int(ties.times_ms[at, place]),
                int(ties.gaps_ms[at, place]),
                int(ties.spaces[at, place]),
            )
            for place in np.flatnonzero(ties.spaces[at]).tolist()
        )
        first, second = int(ties.first[at]), int(ties.second[at])
        weight, expected = int(ties.weight[at]), float(ties.expected[at])
        bonds[first, second] = Bond(first, second, weight, expected, float(ties.q[at]), meetings)
    return bonds
