"""A pack that has changed takes over what it still keeps, by meaning, and says what it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
import pytest

from detectors.batch import EventBatch
from detectors.compiled import compile_pack
from detectors.incidents import Alert, IncidentUpdate, Output
from detectors.pack import DerivedSpec, FeatureSpec, LimitSpec, Pack, WindowSpec
from detectors.stages import UserStage
from detectors.state import Restored
from detectors.topology import Topology
from tests.support.events import REQUESTED, random_events, small_pack
from tests.support.state import Composed, check_fields

USERS: Final = 30
EVENTS: Final = EventBatch.of(random_events(5, 2_000, USERS, spacing_ms=3_000, late_share=0.0))
FIRST, SECOND = EVENTS.split([1_400])
BUSY: Final = EventBatch.of(random_events(8, 700, 5, spacing_ms=2_000, late_share=0.0))
PACK: Final = small_pack()


def stage_of(pack: Pack, max_users: int = 64) -> UserStage:
    return Topology(compile_pack(pack), max_users, block_rows=8).user_stage()


def after(pack: Pack, batch: EventBatch = FIRST) -> UserStage:
    stage = stage_of(pack)
    stage.process(batch)
    return stage


def moved(
    new: Pack, old: Pack = PACK, max_users: int = 64, batch: EventBatch = FIRST
) -> tuple[UserStage, Restored]:
    """A stage of the new pack with the state of one of the old pack after ``batch``."""
    snapshot = after(old, batch).snapshot()
    stage = stage_of(new, max_users)
    # As from a store: the layout has been JSON, blocks come in any order.
    layout = msgspec.json.decode(msgspec.json.encode(snapshot.layout))
    return stage, stage.restore(layout, reversed(snapshot.changed))


def feature(name: str, **changes: Any) -> Pack:  # noqa: ANN401 - its fields
    """The pack with one feature changed."""
    return replace(
        PACK,
        features=tuple(replace(f, **changes) if f.name == name else f for f in PACK.features),
    )


def window(name: str, **changes: Any) -> Pack:  # noqa: ANN401 - its fields
    """The pack with one window changed."""
    windows = tuple(replace(w, **changes) if w.name == name else w for w in PACK.windows)
    return replace(PACK, windows=windows)


def content(outputs: list[Output]) -> bytes:
    """Outputs as bytes, but for the version of the pack."""
    same = [replace(o, pack_version="") if isinstance(o, Alert) else o for o in outputs]
    return msgspec.json.encode(same)


def test_order_and_names_mean_nothing() -> None:
    """Features, windows and limits in another order, folded SQL, a new name: nothing is lost."""
    renamed = replace(PACK.features[3], name="renamed", where="type  =\n  'generation.requested'")
    kept = replace(PACK.features[3], windows=("1m", "1h"))
    new = replace(
        PACK,
        windows=PACK.windows[::-1],
        features=(renamed, kept, *PACK.features[4:], *PACK.features[2::-1]),
        limits=replace(PACK.limits, limits=PACK.limits.limits[::-1]),
    )
    stage, restored = moved(new)
    assert restored.dropped == ()
    assert not restored.complete
    assert not check_fields(stage, restored, after(new))
    assert content(stage.process(SECOND).outputs) == content(after(PACK).process(SECOND).outputs)


def test_features_that_come_and_go() -> None:
    """A new one starts empty, one that is gone is dropped, all else goes on; both are said."""
    added = (
        FeatureSpec("blocked", "count", ("1m", "1h"), "type = 'generation.blocked'"),
        FeatureSpec("seen_assets", "distinct", ("1h",), "true", "asset_id"),
        FeatureSpec("share_gap", "gap", ("1h",), "type = 'share.created'"),
    )
    gone = {"young", "addresses", "generation_gap"}
    rules = tuple(rule for rule in PACK.rules if rule.id != "steady")
    kept = tuple(f for f in PACK.features if f.name not in gone)
    new = replace(PACK, features=(*added[:1], *kept, *added[1:]), rules=rules)
    stage, restored = moved(new)
    empty = check_fields(stage, restored, after(new))
    assert empty == {
        "feature blocked_1m",
        "feature blocked_1h",
        "feature seen_assets",
        "feature share_gap_1h",
        "feature share_gap (time of the last event)",
    }
    dropped = {said for said in restored.dropped if said.endswith("dropped")}
    assert dropped == {
        f"feature {name}: is not kept any more: dropped"
        for name in (
            "young_1h",
            "addresses",
            "generation_gap_1m",
            "generation_gap_1h",
            "generation_gap (time of the last event)",
        )
    }


@pytest.mark.parametrize(
    ("new", "empty", "said"),
    [
        (
            window("1m", panes=5),
            ["cost_1m", "generation_gap_1m", "generations_1m", "limited_1m"],
            "feature generations_1m: pane_ms is 12000 now, was 10000: starts empty",
        ),
        (
            window("10s", length_ms=12_000, panes=6),
            ["generations_10s"],
            "feature generations_10s: panes is 6 now, was 5: starts empty",
        ),
        (
            feature("cost", of="cost * 3"),
            ["cost_1h", "cost_1m"],
            "feature cost_1m: of is cost * 3 now, was cost * 2: starts empty",
        ),
        (
            feature("limited", where="not limited"),
            ["limited_1m"],
            "feature limited_1m: where is not limited now, was limited: starts empty",
        ),
        (
            feature("addresses", of="device_id"),
            ["addresses"],
            "feature addresses: of is device_id now, was ip: starts empty",
        ),
        (
            feature("young", kind="sum", of="cost"),
            ["young_1h"],
            "feature young_1h: kind is sum now, was count: starts empty",
        ),
        (
            feature("prompts", capacity=5),
            ["prompts"],
            "feature prompts: has room for 5 now, had 8: starts empty",
        ),
    ],
)
def test_features_that_mean_something_else(new: Pack, empty: list[str], said: str) -> None:
    """Another window, SQL, column or kind, fewer entries: that feature alone starts empty."""
    stage, restored = moved(new)
    assert sorted(check_fields(stage, restored, after(new))) == [f"feature {n}" for n in empty]
    assert said in restored.dropped


def test_a_name_that_changes_hands() -> None:
    """Meaning counts, not the name: whose values are no longer wanted is said."""
    young, share = "account_age_days < 3", "type = 'share.created'"
    one = feature("young", where=share)
    old = replace(one, features=(*one.features, FeatureSpec("other", "count", ("1h",), young)))
    stage, restored = moved(PACK, old)
    assert restored.dropped == ("feature young_1h: is not kept any more: dropped",)
    assert not check_fields(stage, restored, after(PACK))
    assert values(stage, ["young_1h"]).equals(values(after(PACK), ["young_1h"]))


def test_a_derived_column_is_part_of_what_reads_it() -> None:
    """Where the definition changes, directly or further down, the count starts empty."""
    for changed in ("days", "created"):
        chain = [
            DerivedSpec("created", "account_created_ms / 1000.0"),
            DerivedSpec("days", "(time_ms / 1000.0 - created) / 86400.0"),
        ]
        features = (*PACK.features, FeatureSpec("new", "count", ("1h",), "days < 9"))
        old = replace(PACK, derived=(*PACK.derived, *chain), features=features)
        other = tuple(
            replace(d, sql=f"{d.sql} + 1.0") if d.name == changed else d for d in old.derived
        )
        new = replace(old, derived=other)
        stage, restored = moved(new, old)
        assert check_fields(stage, restored, after(new)) == {"feature new_1h"}
        [said] = restored.dropped
        assert said.startswith(f"feature new_1h: definition of {changed} is ")


def values(stage: UserStage, columns: list[str], batch: EventBatch = SECOND) -> pl.DataFrame:
    """Features at each event of a batch."""
    made = stage._columns(batch, batch.times_ms, stage.process(batch.slice(0, 0)))
    return made.frame.select(columns)


def test_a_larger_sketch_takes_the_smaller_one() -> None:
    """Counts go on as estimates, and are exact once nothing is left of the time it was small."""
    new = feature("prompts", capacity=64)
    stage, restored = moved(new)
    oracle = after(new)
    assert restored.dropped == ()
    got, exact = (values(one, ["prompts_1h"])["prompts_1h"].to_numpy() for one in (stage, oracle))
    assert exact.max() > 8
    assert (got != exact).any()
    assert got.mean() == pytest.approx(exact.mean(), rel=0.1)
    later = EventBatch.of(
        random_events(6, 1_000, USERS, spacing_ms=3_000, late_share=0.0).with_columns(
            pl.col("time_ms") + 14_400_000
        )
    )
    assert values(stage, ["prompts_1h"], later).equals(values(oracle, ["prompts_1h"], later))


def test_a_sketch_of_a_longer_window_goes_on() -> None:
    """Its short windows are exact at once, the long one fills up; that is said."""
    old = feature("addresses", windows=("1m",))
    new = feature("addresses", windows=("1m", "1h"))
    stage, restored = moved(new, old)
    assert restored.dropped == (
        "feature addresses: reaches back 3,600 s now, 60 s before: goes on with what there is",
    )
    got, exact = (values(one, ["addresses_1m", "addresses_1h"]) for one in (stage, after(new)))
    assert got["addresses_1m"].to_list() == exact["addresses_1m"].to_list()
    assert (got["addresses_1h"] <= exact["addresses_1h"]).all()
    stage, restored = moved(old, new)
    assert restored.dropped == ()
    assert values(stage, ["addresses_1m"]).equals(values(after(old), ["addresses_1m"]))


def limits(*changed: LimitSpec, **named: Any) -> Pack:  # noqa: ANN401 - fields
    """The pack with other limits."""
    return replace(PACK, limits=replace(PACK.limits, limits=changed or PACK.limits.limits, **named))


def test_limits_that_change() -> None:
    """What is allowed may change; the action, the quantity, the period and the name may not."""
    minute, hour = PACK.limits.limits
    allow = {"free": 7.0, "plus": 9.0}
    cases: list[tuple[Pack, list[str]]] = [
        (limits(replace(minute, allow={"free": 8.0, "pro": 3.0}), hour), []),
        (limits(hour, replace(minute, allow=allow), tiers=("plus", "free", "pro")), []),
        (limits(hour), ["limit generations_per_minute: is not kept any more: dropped"]),
        (
            limits(replace(minute, period_ms=30_000), hour),
            [
                "limit generations_per_minute: period_ms is 30000 now, was 60000: starts empty",
            ],
        ),
        (
            limits(minute, replace(hour, quantity="cost + 1")),
            ["limit credits_per_hour: quantity is cost + 1 now, was cost: starts empty"],
        ),
        (
            limits(actions={"generation": "request_id is not null"}),
            [
                f"limit {name}: where is request_id is not null now, was {REQUESTED}: starts empty"
                for name in ("generations_per_minute", "credits_per_hour")
            ],
        ),
    ]
    for new, said in cases:
        stage, restored = moved(new)
        assert list(restored.dropped) == said
        old_stage = after(PACK)
        used = len(stage.keys)
        names = [limit.name for limit in PACK.limits.limits]
        for column, limit in enumerate(new.limits.limits):
            got = stage.limiter.arrival_ns[:used, column]
            if any(text.startswith(f"limit {limit.name}: ") for text in said):
                assert not got.any()
            else:
                was = old_stage.limiter.arrival_ns[:used, names.index(limit.name)]
                assert got.any()
                assert np.array_equal(got, was)
        assert np.array_equal(
            stage.limiter.throttled_until_ms[:used], old_stage.limiter.throttled_until_ms[:used]
        )


def test_an_action_that_is_gone() -> None:
    """Its limits and what it throttles are dropped, and that is said; a new one starts empty."""
    [limit, *_] = PACK.limits.limits
    spec = replace(PACK.limits, actions={"share": "type = 'share.created'"}, limits=())
    new = replace(PACK, limits=replace(spec, limits=(replace(limit, action="share"),)))
    _, restored = moved(new)
    assert set(restored.dropped) == {
        "throttles of action share: is new: starts empty",
        "throttles of action generation: is not kept any more: dropped",
        "limit generations_per_minute: action is share now, was generation: starts empty",
        "limit credits_per_hour: is not kept any more: dropped",
    }


def rules(**changes: Any) -> Pack:  # noqa: ANN401 - its fields
    """The pack with its first rule changed."""
    return replace(PACK, rules=(replace(PACK.rules[0], **changes), *PACK.rules[1:]))


def updates(outputs: list[Output], rule_id: str) -> list[IncidentUpdate]:
    return [o for o in outputs if isinstance(o, IncidentUpdate) and o.rule_id == rule_id]


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (replace(PACK, rules=PACK.rules[1:]), "is gone"),
        (rules(when="generations_1m >= 9"), "is another version now"),
        (rules(mode="shadow"), "is another version now"),
    ],
)
def test_incidents_of_a_rule_that_was_removed_or_changed(new: Pack, said: str) -> None:
    """They stay open, get no more findings and close when due; the new version opens its own."""
    old_stage = stage_of(PACK)
    old = {u.incident_id: u for u in updates(old_stage.process(BUSY).outputs, "burst")}
    version = old_stage.pack.rules.rules[0].version
    snapshot = old_stage.snapshot()
    stage = stage_of(new)
    restored = stage.restore(snapshot.layout, snapshot.changed)
    count = f"{len(old):,} open incidents get no more findings and close when their time comes"
    assert restored.dropped == (f"rule burst: {said}: {count}",)
    more = EventBatch.of(
        random_events(9, 700, 5, spacing_ms=2_000, late_share=0.0).with_columns(
            pl.col("time_ms") + 1_400_000
        )
    )
    outputs = updates(stage.process(more).outputs, "burst")
    opened = {u.incident_id for u in outputs if u.state == "opened"}
    assert bool(opened) == ("version" in said)
    assert not opened & old.keys()
    outputs += updates(stage.advance(10**14).outputs, "burst")
    closed = {u.incident_id: u for u in outputs if u.state == "closed"}
    assert closed.keys() == old.keys() | opened
    for incident_id, before in old.items():
        assert closed[incident_id].rule_version == before.rule_version == version
        assert closed[incident_id].mode == "live"
        assert closed[incident_id].alerts == before.alerts


def test_incidents_of_a_rule_with_another_title_go_on_under_it() -> None:
    """The version is the same; the blocks with the old title are written again."""
    stage, restored = moved(rules(title="Another title", severity="critical"), batch=BUSY)
    assert (restored.dropped, restored.complete) == ((), True)
    changed = stage.snapshot()
    assert [block.name for block in changed.changed] == ["incidents/0"]
    [closed, *_] = updates(stage.advance(10**14).outputs, "burst")
    assert (closed.title, closed.severity) == ("Another title", "critical")


def test_less_room_keeps_the_keys_that_would_be_evicted_last() -> None:
    """Protected ones first, each group by last use; their rows come along, the rest is said."""
    room = 27
    old = stage_of(PACK, max_users=USERS)
    old.process(FIRST)
    snapshot = old.snapshot()
    stage = stage_of(PACK, max_users=room)
    restored = stage.restore(snapshot.layout, snapshot.changed)
    stamps = old.keys.row_arrays["stamp"][: len(old.keys)].astype(np.int64)
    assert len(stamps) == USERS
    assert 0 < (stamps & 1).sum() < room, "some are protected, not all"
    best = sorted(range(len(stamps)), key=lambda row: (stamps[row] & 1, stamps[row]))[-room:]
    assert stage.keys.keys.tolist() == [int(old.keys.keys[row]) for row in sorted(best)]
    for new_row, row in enumerate(sorted(best)):
        for part in ("features", "limiter"):
            before, now = (getattr(one, part).row_arrays for one in (old, stage))
            assert all(np.array_equal(now[name][new_row], before[name][row]) for name in before)
    assert (restored.rows, restored.complete) == (room, False)
    [said] = restored.dropped
    forgotten = len(old.keys) - room
    assert said == (
        f"keys: there is room for {room} of {len(old.keys)}; the {forgotten} that would have been "
        "evicted next are forgotten"
    )


def test_more_room_changes_nothing_else() -> None:
    """All keys are there, and what follows is as if there had been more room all along."""
    stage, restored = moved(PACK, max_users=500)
    assert (restored.dropped, restored.complete) == ((), True)
    assert content(stage.process(SECOND).outputs) == content(after(PACK).process(SECOND).outputs)


def test_after_a_change_the_state_is_written_whole() -> None:
    """And then in parts again; a stage restored from that is the same."""
    new = window("1m", panes=5)
    stage, restored = moved(new)
    assert not restored.complete
    composed = Composed.of(stage.snapshot())
    for part in SECOND.split([50, 300]):
        stage.process(part)
        composed.add(stage.snapshot())
    assert composed.digest() == Composed.of(stage.snapshot(full=True)).digest()
    again = stage_of(new)
    snapshot = composed.snapshot()
    assert again.restore(snapshot.layout, snapshot.changed).complete


def test_two_windows_of_one_length_keep_their_own_history() -> None:
    """Of two columns with one meaning, each takes the one of its own name."""
    twin = WindowSpec("60s", 60_000, 6)
    old = replace(PACK, windows=(*PACK.windows, twin))
    both = replace(old.features[0], windows=("10s", "1m", "1h", "60s"))
    old = replace(old, features=(both, *old.features[1:]))
    stage = stage_of(old)
    stage.process(FIRST)
    # As if one of them had been added only now.
    young = next(f for f in stage.features.fields if f.label == "feature generations_60s")
    [(start, step, count)] = young.spans["panes"]
    stage.features.state.panes[:, start : start + step * count : step] = 0
    snapshot = stage.snapshot()
    new = stage_of(replace(old, windows=(twin, *PACK.windows)))
    assert new.restore(snapshot.layout, snapshot.changed).dropped == ()
    columns = ["generations_1m", "generations_60s"]
    first, expected = (values(one, columns, SECOND.slice(0, 20)) for one in (new, stage))
    assert first.equals(expected)
    assert first[columns[0]].to_list() != first[columns[1]].to_list()
