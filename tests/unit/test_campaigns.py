"""Campaigns: what opens one, what belongs to it, and that it keeps its identity."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import msgspec
import numpy as np
import pytest

from detectors.campaigns import CampaignChange, Campaigns, CampaignSettings, Sightings, ticks
from detectors.ties import SignificantTies

_START_MS = 1_800_000_000_000
_ASSET, _URL, _DEVICE = range(3)
_SLOTS = 4


def ms(second: float) -> int:
    return _START_MS + int(1_000 * second)


def seen(
    key: int,
    actors: Sequence[int],
    *,
    at: float = 0.0,
    score: float = 0.999,
    space: int = _ASSET,
    met: Mapping[int, Sequence[int]] | None = None,
) -> Sightings:
    """Actors on a key, a second after each other; ``met`` has the partners by position."""
    n = len(actors)
    pairs = [(position, partner) for position, them in (met or {}).items() for partner in them]
    return Sightings(
        times_ms=np.array([ms(at + second) for second in range(n)], dtype=np.int64),
        keys=np.full(n, key, dtype=np.uint64),
        spaces=np.full(n, space, dtype=np.uint8),
        actors=np.array(actors, dtype=np.uint64),
        scores=np.full(n, score),
        crowds=np.arange(1, n + 1).astype(np.float64),
        expected=np.full(n, 1.25),
        events=[f"event-{key}-{actor}" for actor in actors],
        partner_of=np.array([position for position, _ in pairs], dtype=np.int32),
        partners=np.array([partner for _, partner in pairs], dtype=np.uint64),
        partner_ms=np.array([ms(at - 5) for _ in pairs], dtype=np.int64),
    )


def tied(
    pairs: Sequence[tuple[int, int]], keys: Sequence[int] = (71, 72, 73), at: float = 0.0
) -> SignificantTies:
    """Pairs who met on the same keys, a minute after each other, 4 s apart."""
    n, shape = len(pairs), (len(pairs), _SLOTS)
    ties = SignificantTies(
        first=np.array([first for first, _ in pairs], dtype=np.uint64),
        second=np.array([second for _, second in pairs], dtype=np.uint64),
        weight=np.full(n, len(keys)),
        expected=np.full(n, 0.02),
        q=np.linspace(1e-4, 1e-3, n),
        keys=np.zeros((*shape, 3), dtype=np.uint64),
        times_ms=np.full(shape, np.iinfo(np.int64).min // 2),
        gaps_ms=np.zeros(shape, dtype=np.int64),
        spaces=np.zeros(shape, dtype=np.int64),
    )
    for place, key in enumerate(keys):
        ties.keys[:, place, 0] = key
        ties.times_ms[:, place] = ms(at + 60 * place)
        ties.gaps_ms[:, place] = 4_000
        ties.spaces[:, place] = 1 << _ASSET | 1 << _URL
    return ties


_NO_TIES = tied([])


def update(
    campaigns: Campaigns, second: float, ties: SignificantTies = _NO_TIES
) -> list[CampaignChange]:
    return campaigns.update(ms(second), ties)


def actors(change: CampaignChange) -> list[int]:
    return sorted(member.actor for member in change.members)


def test_a_strong_swarm_opens_a_campaign() -> None:
    """With who acted before it was one: they were met."""
    campaigns = Campaigns()
    campaigns.see(seen(9, [4, 5, 6], met={0: (1, 2, 3), 1: (4, 3)}))
    [change] = update(campaigns, 10)
    assert (change.kind, change.version, change.time_ms) == ("opened", 1, ms(10))
    assert actors(change) == [1, 2, 3, 4, 5, 6]
    assert [(key.key, key.space, key.members, key.actions) for key in change.keys] == [(9, 0, 6, 3)]
    assert (change.swarm_actors, change.swarm_expected, change.swarm_score) == (1.0, 1.25, 0.999)
    assert (change.first_ms, change.newest_ms) == (ms(-5), ms(2))
    assert change.events == ("event-9-4", "event-9-5", "event-9-6")
    assert sum(count for _, count in change.timeline) == change.actions == 3
    assert change.ties == 0
    assert np.isnan(change.q)


@pytest.mark.parametrize(("score", "count"), [(0.98, 20), (0.999, 4)])
def test_a_weak_or_a_small_swarm_opens_none(score: float, count: int) -> None:
    campaigns = Campaigns()
    campaigns.see(seen(9, range(1, count + 1), score=score))
    assert update(campaigns, 10) == []


def test_ties_open_a_campaign_with_their_evidence() -> None:
    campaigns = Campaigns()
    [change] = update(campaigns, 200, tied([(1, 2), (2, 3), (1, 3)]))
    assert actors(change) == [1, 2, 3]
    assert (change.ties, change.weight) == (3, 3.0)
    assert change.expected == pytest.approx(0.02)
    assert change.q == pytest.approx(1e-3)
    assert change.spaces == (_ASSET, _URL)
    assert [key.key for key in change.keys] == [71, 72, 73]
    assert (change.median_gap_s, change.p90_gap_s) == (4.0, 4.0)
    assert [minute for minute, _ in change.timeline] == [ms(at) // 60_000 for at in (0, 60, 120)]


def test_two_actors_are_no_group() -> None:
    assert update(Campaigns(), 10, tied([(1, 2)])) == []


@pytest.mark.parametrize("score", [0.95, 0.999])
@pytest.mark.parametrize("first", ["the crowd", "the groups", "both"])
def test_a_celebrity_video_glues_no_strangers_together(score: float, first: str) -> None:
    """Two groups with one fan of both, and everybody in the crowd of one video."""
    campaigns = Campaigns()
    groups = [*combinations(range(1, 6), 2), *combinations(range(5, 10), 2)]
    found = []
    if first == "the groups":
        found += update(campaigns, 150, tied(groups))
    campaigns.see(seen(99, range(1, 200), score=score))
    if first == "the crowd":
        found += update(campaigns, 250)
    found += update(campaigns, 300, tied(groups))
    opened = [actors(change) for change in found if change.kind == "opened"]
    small = sorted(members for members in opened if len(members) < 50)
    assert small == [[1, 2, 3, 4, 5], [5, 6, 7, 8, 9]]
    assert len(opened) == (2 if score < 0.99 else 3)
    assert not any(change.kind == "closed" for change in found)


def test_what_has_half_of_its_actors_in_common_is_one_campaign() -> None:
    """A weak swarm on a second key joins, one of others does not."""
    campaigns = Campaigns()
    campaigns.see(seen(9, range(1, 9)))
    campaigns.see(seen(10, [1, 2, 3, 21, 22, 23], score=0.92, space=_URL))
    campaigns.see(seen(11, [1, 31, 32, 33, 34], score=0.92, space=_DEVICE))
    [change] = update(campaigns, 10)
    assert [key.key for key in change.keys] == [9, 10]
    assert actors(change) == [*range(1, 9), 21, 22, 23]


def test_members_are_ranked_by_the_keys_they_share() -> None:
    """Who is on few of many keys is no core member."""
    campaigns = Campaigns()
    for key in (9, 10, 11, 12):
        campaigns.see(seen(key, [1, 2, 3, 4, 5]))
    campaigns.see(seen(13, [5, 4, 3, 40]))
    [change] = update(campaigns, 10)
    assert [(m.actor, m.score, m.core) for m in change.members] == [
        *((actor, 5.0, True) for actor in (3, 4, 5)),
        *((actor, 4.0, True) for actor in (1, 2)),
        (40, 1.0, False),
    ]


def test_it_keeps_its_identity_as_it_grows_and_closes_after_silence() -> None:
    campaigns = Campaigns()
    campaigns.see(seen(9, range(1, 9)))
    [opened] = update(campaigns, 10)
    campaigns.see(seen(9, [20, 21], at=15, score=0.5))
    assert update(campaigns, 20) == []  # Told at most every minute.
    [grown] = update(campaigns, 70)
    campaigns.see(seen(10, [*range(1, 7), 30], at=300))
    [again] = update(campaigns, 310)
    assert update(campaigns, 320) == update(campaigns, 2_100) == []
    [closed] = update(campaigns, 2_110)
    told = [opened, grown, again, closed]
    assert {change.campaign_id for change in told} == {opened.campaign_id}
    assert [(change.kind, change.version) for change in told] == [
        ("opened", 1),
        ("updated", 2),
        ("updated", 3),
        ("closed", 4),
    ]
    assert [len(change.members) for change in told] == [8, 10, 11, 11]
    assert len(campaigns) == 0
    campaigns.see(seen(9, range(1, 9), at=3_000))
    [new] = update(campaigns, 3_010)
    assert new.campaign_id != opened.campaign_id


def test_actions_without_newcomers_keep_it_open_and_say_nothing() -> None:
    campaigns = Campaigns()
    campaigns.see(seen(9, range(1, 9)))
    update(campaigns, 10)
    for minute in range(1, 90):
        campaigns.see(seen(9, [1, 2], at=60 * minute, score=0.5))
        assert update(campaigns, 60 * minute + 10) == []
    assert len(campaigns) == 1


def test_two_campaigns_that_turn_out_to_be_one_are_merged() -> None:
    """The younger is closed, and says where it went; its key belongs to the older one."""
    campaigns = Campaigns()
    campaigns.see(seen(9, range(1, 9)))
    [older] = update(campaigns, 10)
    campaigns.see(seen(10, range(11, 19), at=20))
    [younger] = update(campaigns, 30)
    campaigns.see(seen(10, range(1, 6), at=40))
    [closed] = update(campaigns, 50)
    assert (closed.campaign_id, closed.kind) == (younger.campaign_id, "closed")
    assert closed.merged_into == older.campaign_id
    [told] = update(campaigns, 80)
    assert told.campaign_id == older.campaign_id
    assert actors(told) == [*range(1, 9), *range(11, 19)]
    assert [key.key for key in told.keys] == [10, 9]


def test_all_that_can_be_long_is_bounded_and_counted() -> None:
    bounds = CampaignSettings(max_members=10, max_keys=2, max_events=3, max_swarms=30)
    campaigns = Campaigns(bounds)
    for key in range(1, 41):
        campaigns.see(seen(key, range(1, 21)))
    assert campaigns.dropped == 10 * 20
    [change] = update(campaigns, 30)
    assert (len(change.members), change.members_left_out) == (10, 10)
    assert (len(change.keys), change.keys_left_out) == (2, 28)
    assert len(change.events) == 3


def test_a_crowd_of_thousands_keeps_its_bounds() -> None:
    campaigns = Campaigns()
    campaigns.see(seen(9, range(1, 5_001)))
    [change] = update(campaigns, 5_010)
    assert len(change.members) + change.members_left_out == 500
    assert change.actions == 5_000
    assert len(json.dumps(campaigns.state())) < 60_000


def test_no_more_campaigns_are_open_than_may_be() -> None:
    campaigns = Campaigns(CampaignSettings(max_campaigns=2))
    for key in range(1, 4):
        campaigns.see(seen(key, range(10 * key, 10 * key + 8)))
    assert len(update(campaigns, 10)) == 2
    assert campaigns.dropped == 1


def test_swarms_that_came_to_nothing_are_forgotten() -> None:
    campaigns = Campaigns()
    campaigns.see(seen(9, range(1, 9), score=0.95))
    update(campaigns, 10)
    assert campaigns.swarm_keys.tolist() == [9]
    update(campaigns, 1_900)
    assert campaigns.swarm_keys.tolist() == []


def story(campaigns: Campaigns, from_step: int, to_step: int) -> list[CampaignChange]:
    """Some hundred steps in which everything happens."""
    told = []
    rng = np.random.default_rng(5)
    drawn = rng.integers(0, 30, (120, 8)), rng.integers(1, 12, 120), rng.random(120)
    for step in range(from_step, to_step):
        members = np.unique(drawn[0][step] // (1 + step % 3) + 40 * (step // 40)).tolist()
        score = 0.9 + 0.1 * drawn[2][step]
        # In the middle there is a silence.
        second = 100 * step + 4_000 * (step // 60)
        campaigns.see(seen(int(drawn[1][step]), members, at=second, score=score))
        pairs = list(combinations(range(step % 5, step % 5 + 3), 2)) if step % 7 == 0 else []
        told += update(campaigns, second + 50, tied(pairs, at=second))
    return told


@pytest.mark.parametrize("cut", [1, 20, 60, 99])
def test_it_goes_on_from_its_state(cut: int) -> None:
    """The state can be JSON; what is told later is the same, and so is the state in the end."""
    whole, before, after = Campaigns(), Campaigns(), Campaigns()
    expected = story(whole, 0, 120)
    told = story(before, 0, cut)
    after.restore(json.loads(json.dumps(before.state())))
    told += story(after, cut, 120)
    assert msgspec.json.encode(told) == msgspec.json.encode(expected)
    assert after.state() == whole.state()
    assert {change.kind for change in expected} == {"opened", "updated", "closed"}
    assert any(change.merged_into for change in expected)


def test_cutting_sightings_changes_nothing() -> None:
    """Not even where a swarm is full."""
    whole, pieces = Campaigns(), Campaigns()
    rng = np.random.default_rng(6)
    crowd = seen(
        9, rng.integers(1, 900, 700).tolist(), met={n: (n, n + 1) for n in range(0, 700, 3)}
    )
    whole.see(crowd)
    for start, end in pairwise([0, 1, 100, 333, 700]):
        inside = (crowd.partner_of >= start) & (crowd.partner_of < end)
        cut = {
            name: getattr(crowd, name)[start:end]
            for name in (
                *("times_ms", "keys", "spaces", "actors"),
                *("scores", "crowds", "expected", "events"),
            )
        }
        met = {name: getattr(crowd, name)[inside] for name in ("partners", "partner_ms")}
        pieces.see(replace(crowd, **cut, **met, partner_of=crowd.partner_of[inside] - start))
    assert json.dumps(pieces.state()) == json.dumps(whole.state())


def test_ticks_are_those_of_event_time() -> None:
    """Late events have no part in it; of several at once only the last is given."""
    times_ms = np.array([5, 12, 8, 47, 41, 50, 59]) * 1_000
    assert list(ticks(times_ms, 3_000, 10_000)) == [(1, 10_000), (3, 40_000), (5, 50_000)]
    assert list(ticks(times_ms[:3], 3_000, 10_000)) == [(1, 10_000)]
    assert list(ticks(times_ms[3:], 12_000, 10_000)) == [(0, 40_000), (2, 50_000)]
