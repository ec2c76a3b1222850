"""What an alert says of a group: members, the keys they share, and how unlikely it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

from detectors.shared import CAMPAIGN_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from detectors.campaigns import CampaignChange
    from detectors.keys import Hashes
    from detectors.marks import Marks
    from detectors.names import NameTable
    from detectors.shared import Trait

__all__ = [
    "Group",
    "GroupKey",
    "GroupMember",
    "GroupTrait",
    "NamesOfGroups",
    "TraitShare",
    "campaign_frame",
    "campaign_group",
]

_TOLD_ABOVE: Final = 2.0
"""A share of users with a trait that is so many times the usual one is told in the statement."""


class TraitShare(NamedTuple):
    """The share of members who have a trait, and of all; NaN if not known."""

    trait: Trait
    inside: float
    usual: float


class NamesOfGroups(NamedTuple):
    """What actors and keys are called, and how many actors touched a key."""

    actors: NameTable
    keys: NameTable
    audiences: Marks


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A user of a group: on how many of its keys, and whether of its core."""

    user_id: str
    keys: float
    core: bool


@dataclass(frozen=True, slots=True)
class GroupKey:
    """A key that members share, by how many of them, with how many actions.

    ``users`` is how many touched it in all while it was remembered, None where that is not known:
    a key that hardly anybody else has touched says more.
    """

    key_space: str
    key: str
    members: int
    actions: int
    swarm_score: float
    users: int | None


@dataclass(frozen=True, slots=True)
class GroupTrait:
    """What a ``share`` of the members are, and a ``usual`` share of all users on shared keys."""

    name: str
    doc: str
    share: float
    usual: float


@dataclass(frozen=True, slots=True)
class Group:
    """Users who act together: synchronised, which is not yet malicious.

    ``statement`` says how unlikely it is by chance. ``timeline`` counts actions by minute
    (milliseconds since the epoch). ``members`` and ``keys`` are ranked; those that are not told are
    counted. ``traits`` are those of the members that are known.
    """

    version: int
    statement: str
    members: tuple[GroupMember, ...]
    members_left_out: int
    keys: tuple[GroupKey, ...]
    keys_left_out: int
    key_spaces: tuple[str, ...]
    median_gap_s: float | None
    p90_gap_s: float | None
    actions: int
    first_ms: int
    newest_ms: int
    event_ids: tuple[str, ...]
    timeline: tuple[tuple[int, int], ...]
    left_out: int
    traits: tuple[GroupTrait, ...]


def campaign_frame(
    changes: Sequence[CampaignChange], traits: Sequence[Sequence[TraitShare]]
) -> pl.DataFrame:
    """Campaigns as rules read them, (n,)."""
    rows = [
        {
            "event_id": change.events[-1] if change.events else change.campaign_id,
            "campaign": change.campaign_id,
            "campaign_members": len(change.members) + change.members_left_out,
            "campaign_keys": len(change.keys) + change.keys_left_out,
            "campaign_spaces": len(change.spaces),
            "campaign_actions": change.actions,
            "campaign_ties": change.ties,
            "campaign_weight": change.weight,
            "campaign_expected": change.expected,
            "campaign_q": change.q,
            "campaign_swarm_actors": change.swarm_actors,
            "campaign_swarm_expected": change.swarm_expected,
            "campaign_swarm_score": change.swarm_score,
            "campaign_median_gap_s": change.median_gap_s,
            "campaign_p90_gap_s": change.p90_gap_s,
            "campaign_duration_s": (change.newest_ms - change.first_ms) / 1_000,
            **{
                column: share
                for trait, *shares in of_members
                for column, share in zip(trait.columns, shares, strict=True)
            },
        }
        for change, of_members in zip(changes, traits, strict=True)
    ]
    schema: dict[str, pl.DataType] = {"event_id": pl.String(), "campaign": pl.String()}
    numbers = list(rows[0])[2:] if rows else list(CAMPAIGN_COLUMNS)
    frame = pl.DataFrame(rows, schema=schema | dict.fromkeys(numbers, pl.Float64()))
    return frame.with_columns(pl.col(numbers).fill_nan(None))


def campaign_group(
    change: CampaignChange,
    traits: Sequence[TraitShare],
    spaces: Sequence[str],
    names: NamesOfGroups,
) -> Group:
    """A campaign in words: users and keys by their names, by their hashes where these are gone."""
    members = _named(names.actors, _hashes(member.actor for member in change.members))
    key_hashes = _hashes(key.key for key in change.keys)
    keys = _named(names.keys, key_hashes)
    audiences = names.audiences.values(key_hashes).tolist()
    return Group(
        version=change.version,
        statement=_statement(change, traits),
        members=tuple(
            GroupMember(name, member.score, member.core)
            for name, member in zip(members, change.members, strict=True)
        ),
        members_left_out=change.members_left_out,
        keys=tuple(
            GroupKey(
                spaces[key.space],
                name,
                key.members,
                key.actions,
                key.score,
                None if np.isnan(users) else int(users),
            )
            for name, key, users in zip(keys, change.keys, audiences, strict=True)
        ),
        keys_left_out=change.keys_left_out,
        key_spaces=tuple(spaces[space] for space in change.spaces),
        median_gap_s=_known(change.median_gap_s),
        p90_gap_s=_known(change.p90_gap_s),
        actions=change.actions,
        first_ms=change.first_ms,
        newest_ms=change.newest_ms,
        event_ids=change.events,
        timeline=tuple((minute * 60_000, count) for minute, count in change.timeline),
        left_out=change.left_out,
        traits=tuple(
            GroupTrait(share.trait.spec.name, share.trait.spec.doc, share.inside, share.usual)
            for share in traits
            if not np.isnan(share.inside)
        ),
    )


def _hashes(keys: Iterable[int]) -> Hashes:
    return np.array(list(keys), dtype=np.uint64)


def _named(names: NameTable, hashes: Hashes) -> list[str]:
    found = names.names(hashes)
    return [name or f"#{key:016x}" for name, key in zip(found, hashes.tolist(), strict=True)]


def _known(number: float) -> float | None:
    return None if np.isnan(number) else number


def _statement(change: CampaignChange, traits: Sequence[TraitShare]) -> str:
    """``observed 4 joint actions on different keys, expected 0.024, q = 3e-04``."""
    parts = []
    if change.ties:
        parts.append(
            f"{change.ties} pairs: observed {change.weight:.3g} joint actions on different keys "
            f"(median), expected {change.expected:.2g} by chance, q = {change.q:.1g}"
        )
    if not np.isnan(change.swarm_score):
        parts.append(
            f"{change.swarm_actors:.0f} users at once on one key, expected "
            f"{change.swarm_expected:.2g}: as rare as {_rarity(change.swarm_score)}"
        )
    parts += [
        f"{share.inside:.0%} of them {share.trait.spec.doc}, usual {share.usual:.1%}"
        for share in traits
        if share.inside > _TOLD_ABOVE * share.usual
    ]
    return "; ".join(parts)


def _rarity(score: float) -> str:
    """A score in words: 0.99 is once in 100 days."""
    days = score / max(1.0 - score, 1e-9)
    if days < 1.0:
        return f"{1 / max(days, 1e-9):.3g} times a day"
    return f"once in {days:.3g} days" if days < 1e6 else "once in a million days"
