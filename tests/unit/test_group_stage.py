"""The stage of groups: what an alert about a campaign says, and whom its decisions are about."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl
import pytest

from detectors.batch import EventBatch
from detectors.compiled import compile_pack
from detectors.group_alerts import Group
from detectors.group_stage import GroupStage
from detectors.incidents import Alert, Decision, Output
from detectors.keys import hash_strings
from detectors.meetings import meeting_schema
from detectors.shared_stage import SharedStage
from detectors.state import state_digest
from tests.support.events import complete
from tests.support.shared import shared_pack, traces_of

_PACK: Final = compile_pack(shared_pack())
_TRAITS: Final = () if _PACK.shared is None else _PACK.shared.traits
_START_MS: Final = 1_800_000_000_000
_ASSET, _DEVICE = 1, 2


def crowd(
    key: str, users: Sequence[str], *, at_s: float = 0.0, space: int = _ASSET
) -> pl.DataFrame:
    """Meetings of users who come to a key one second after another, in a swarm.

    Each meets the one before; the first one is known from the second's trace alone.
    """
    hashes = hash_strings(pl.Series(users)).tolist()
    times_ms = [_START_MS + int(1_000 * (at_s + second)) for second in range(len(users))]
    rows = [
        {
            "ordinal": 0,
            "order_ms": times_ms[second],
            "space": space,
            "key": key,
            "key_hash": int(hash_strings(pl.Series([f"{space}:{key}"]))[0]),
            "time_ms": times_ms[second],
            "event_id": f"{key}-{users[second]}",
            "user_id": users[second],
            "actor": hashes[second],
            "founder": hashes[0] if second == 1 else 0,
            "founder_id": users[0] if second == 1 else None,
            "chance": 1.0,
            "crowd": float(second + 1),
            "swarm_actors": float(second + 1),
            "swarm_expected": 1.25,
            "swarm_score": 0.9999 - 1e-6 * (len(users) - 1 - second),
            "swarming": True,
            "audience": second + 1,
            "trait_limited": users[second].startswith("limited"),
            "trait_young": False,
            "partners": [hashes[second - 1]],
            "partner_ms": [times_ms[second - 1]],
        }
        for second in range(1, len(users))
    ]
    return pl.DataFrame(rows, schema=meeting_schema(_TRAITS))


def later(second: float) -> pl.DataFrame:
    """Two strangers on another key, so that time goes on."""
    return crowd(f"strangers-{second}", ["s1", "s2"], at_s=second).with_columns(swarming=False)


def said(stage: GroupStage, *frames: pl.DataFrame) -> list[Output]:
    """What a stage says to meetings in order."""
    rows = pl.concat(frames).sort("order_ms", maintain_order=True)
    return stage.process(rows.with_columns(ordinal=pl.int_range(len(rows)))).outputs


def alerts(outputs: Sequence[Output]) -> list[Alert]:
    return [output for output in outputs if isinstance(output, Alert)]


def group_of(alert: Alert) -> Group:
    assert alert.group is not None
    return alert.group


def test_an_alert_of_a_campaign_says_who_where_and_when() -> None:
    """Members and keys by their names, ranked; gaps, minutes, events, and how unlikely it is."""
    regulars = [f"regular-{user}" for user in range(6)]
    outputs = said(
        GroupStage(_PACK, 1_000),
        crowd("v1", regulars),
        crowd("dev", [*regulars[:4], "guest"], at_s=0.5, space=_DEVICE),
        later(30),
    )
    (alert,) = alerts(outputs)
    group = group_of(alert)
    assert (alert.rule_id, alert.key_space) == ("together", "campaign")
    assert {member.user_id for member in group.members[:4]} == set(regulars[:4])
    assert {member.user_id for member in group.members[4:]} == {"guest", *regulars[4:]}
    assert [member.keys for member in group.members] == [2.0] * 4 + [1.0] * 3
    assert [(key.key_space, key.key, key.members) for key in group.keys] == [
        ("asset", "v1", 6),
        ("device", "dev", 5),
    ]
    assert group.key_spaces == ("asset", "device")
    assert group.median_gap_s == group.p90_gap_s == 1.0
    assert (group.first_ms, group.newest_ms) == (_START_MS, _START_MS + 5_000)
    assert group.timeline == ((_START_MS // 60_000 * 60_000, group.actions),)
    assert set(group.event_ids) == {f"v1-{user}" for user in regulars[1:]} | {
        f"dev-{user}" for user in (*regulars[1:4], "guest")
    }
    rarity = "as rare as once in 1e+04 days"
    assert group.statement == f"6 users at once on one key, expected 1.2: {rarity}"
    assert alert.summary == f"Users act together: 7 users; {group.statement}"
    assert (group.members_left_out, group.keys_left_out, group.left_out) == (0, 0, 0)
    assert {alert.event_id} <= set(group.event_ids)


def test_how_rare_the_keys_are_and_what_the_members_are_is_told() -> None:
    """Of the founder of a key nothing is known: what a user's own traces say counts."""
    users = ["honest", "limited-1", "limited-2", "limited-3", "friend"]
    strangers = [f"stranger-{user}" for user in range(29)]
    outputs = said(
        GroupStage(_PACK, 1_000),
        crowd("busy", strangers).with_columns(swarming=False),
        crowd("v", users, at_s=40),
        later(70),
    )
    (alert,) = alerts(outputs)
    group = group_of(alert)
    assert [(key.key, key.members, key.users) for key in group.keys] == [("v", 5, 5)]
    limited, young = group.traits
    assert (limited.name, limited.share, limited.usual) == ("limited", 3 / 4, 3 / (28 + 4))
    assert (young.share, young.usual) == (0.0, 0.0)
    assert group.statement.endswith("; 75% of them were over a limit, usual 9.4%")


def test_nothing_is_said_of_what_is_not_known() -> None:
    users = [f"u{user}" for user in range(5)]
    unknown = crowd("v", users).with_columns(
        trait_limited=pl.lit(None, dtype=pl.Boolean),
        trait_young=pl.lit(None, dtype=pl.Boolean),
        audience=pl.lit(None, dtype=pl.Int64),
    )
    (alert,) = alerts(said(GroupStage(_PACK, 1_000), unknown, later(30)))
    group = group_of(alert)
    assert (group.traits, group.keys[0].users) == ((), None)
    assert "of them" not in group.statement


def test_the_founder_of_a_key_is_named() -> None:
    """Though no trace of theirs is sent: nobody had met them then. Without the name, the hash."""
    users = [f"u{user}" for user in range(5)]
    (alert,) = alerts(said(GroupStage(_PACK, 1_000), crowd("v", users), later(30)))
    assert {member.user_id for member in group_of(alert).members} == set(users)
    unnamed = crowd("v", users).with_columns(founder_id=pl.lit(None, dtype=pl.String))
    (alert,) = alerts(said(GroupStage(_PACK, 1_000), unnamed, later(30)))
    founder = f"#{int(hash_strings(pl.Series(['u0']))[0]):016x}"
    assert {member.user_id for member in group_of(alert).members} == {founder, *users[1:]}


def test_equal_keys_of_different_spaces_hold_nobody_together() -> None:
    """A video and a device of one name, each with a crowd of its own: two campaigns."""
    one, other = [f"a{user}" for user in range(6)], [f"b{user}" for user in range(6)]
    outputs = said(
        GroupStage(_PACK, 1_000),
        crowd("x", one),
        crowd("x", other, at_s=1, space=_DEVICE),
        later(30),
    )
    found = {tuple(key.key_space for key in group_of(a).keys): a for a in alerts(outputs)}
    assert set(found) == {("asset",), ("device",)}
    assert {m.user_id for m in group_of(found["asset",]).members} == set(one)
    assert {m.user_id for m in group_of(found["device",]).members} == set(other)


def test_decisions_are_about_core_members_only() -> None:
    """Who was on one key of many is named, and left alone."""
    core = [f"core-{user}" for user in range(6)]
    waves = [crowd(f"v{wave}", core, at_s=wave) for wave in range(5)]
    outputs = said(GroupStage(_PACK, 1_000), *waves, crowd("v0", ["core-5", "guest"]), later(30))
    (alert,) = alerts(outputs)
    members = {member.user_id: member for member in group_of(alert).members}
    assert not members["guest"].core
    decisions = [output for output in outputs if isinstance(output, Decision)]
    assert {decision.user_id for decision in decisions} == set(core)
    assert len({decision.decision_id for decision in decisions}) == len(core)
    for decision in decisions:
        assert (decision.kind, decision.scope) == ("throttle", "all")
        assert decision.alert_id == alert.alert_id
        assert decision.expires_ms == alert.time_ms + 600_000


def test_a_crowd_beyond_the_bounds_is_counted_and_a_hundred_are_decided_about() -> None:
    """A rule that errs should not stop a platform."""
    users = [f"u{user}" for user in range(130)]
    outputs = said(GroupStage(_PACK, 1_000), crowd("v", users), later(300))
    newest = alerts(outputs)[-1]
    group = group_of(newest)
    assert len(group.members) == 100
    assert group.members_left_out == 30
    assert newest.summary.startswith("Users act together: 130 users; ")
    decisions = [output for output in outputs if isinstance(output, Decision)]
    about = [one.user_id for one in decisions if one.alert_id == newest.alert_id]
    assert len(set(about)) == len(about) == 100


def test_a_campaign_that_grows_is_one_incident_told_again() -> None:
    """After the cooldown, as a newer version with everybody in it; then silence closes it."""
    stage = GroupStage(_PACK, 1_000)
    users = [f"u{user}" for user in range(12)]
    first = alerts(said(stage, crowd("v", users[:6]), later(30)))
    second = alerts(said(stage, crowd("v", users[5:], at_s=60), later(180)))
    assert [len(group_of(alert).members) for alert in (*first, *second)] == [6, 12]
    assert len({alert.incident_id for alert in (*first, *second)}) == 1
    assert [alert.sequence for alert in (*first, *second)] == [1, 2]
    assert [group_of(alert).version for alert in (*first, *second)] == [1, 2]
    silent = stage.advance(_START_MS + 3_600_000)
    assert silent.campaigns == {"closed": 1}
    assert not alerts(silent.outputs)


def shares(seed: int, crew: Sequence[str], waves: int) -> pl.DataFrame:
    """Three hours in which many users share many videos, and a crew one new video after another."""
    rng = np.random.default_rng(seed)
    calm = 4_000
    rows = {
        "user_id": [f"user-{user}" for user in rng.integers(0, 800, calm)],
        "asset_id": [f"asset-{asset}" for asset in rng.integers(0, 500, calm)],
        "time_ms": _START_MS + rng.integers(0, 10_800_000, calm),
    }
    taking_part = [
        {
            "user_id": user,
            "asset_id": f"wave-{wave}",
            "time_ms": _START_MS + 900_000 * wave + int(rng.integers(0, 20_000)),
        }
        for wave in range(1, waves + 1)
        for user in crew
    ]
    events = pl.concat([pl.DataFrame(rows), pl.DataFrame(taking_part)]).sort("time_ms")
    return complete(
        events.with_columns(
            event_id=pl.format("event-{}", pl.int_range(len(events))),
            type=pl.lit("share.created"),
            account_created_ms=_START_MS - 86_400_000,
            tier=pl.lit("free"),
        )
    )


def test_a_crew_is_known_by_its_ties() -> None:
    """The whole chain: eight users who share nine new videos, each within seconds."""
    crew = [f"crew-{user}" for user in range(8)]
    shared, stage = SharedStage(_PACK, 10_000), GroupStage(_PACK, 20_000)
    traces = traces_of(_PACK, [EventBatch.of(shares(3, crew, 9))], 2_000)
    meetings = shared.process(traces).meetings
    assert meetings is not None
    tied = [
        alert
        for alert in alerts(stage.process(meetings).outputs)
        if "joint actions on different keys" in group_of(alert).statement
    ]
    group = group_of(tied[-1])
    assert {member.user_id for member in group.members} == set(crew)
    assert {key.key for key in group.keys} <= {f"wave-{wave}" for wave in range(1, 10)}
    assert len(group.keys) >= 4
    assert group.median_gap_s is not None
    assert 0 < group.median_gap_s <= 20
    values = {condition.column: condition.value for condition in tied[-1].evidence}
    assert values["campaign_members"] == len(crew)


@pytest.mark.parametrize("batch_rows", [1, 7, 1_000])
def test_any_batches_give_the_same_alerts(batch_rows: int) -> None:
    """And the same state to the byte; names are evicted, ticks are of event time."""
    users = [f"u{user}" for user in range(25)]
    rows = pl.concat(
        [crowd(f"v{wave}", users[wave : wave + 12], at_s=7.0 * wave) for wave in range(12)]
    ).sort("order_ms", maintain_order=True)
    once, stage, cut = GroupStage(_PACK, 20, 8), GroupStage(_PACK, 20, 8), []
    whole = once.process(rows).outputs
    edges = [*range(0, len(rows), batch_rows), len(rows)]
    for start, end in pairwise(edges):
        cut += stage.process(rows[start:end]).outputs
    assert cut == whole
    assert state_digest(stage) == state_digest(once)
    assert alerts(whole)
    assert np.diff([output.time_ms for output in alerts(whole)]).min(initial=0) >= 0
