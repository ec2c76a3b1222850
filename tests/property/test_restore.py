"""A stage that is stopped and restored goes on as if it had not been; also with another pack."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.batch import EventBatch
from detectors.compiled import CompiledPack, compile_pack
from detectors.incidents import Output
from detectors.pack import FeatureSpec, LimitsSpec, Pack, RuleSpec, WindowSpec
from detectors.pressure import AlertBound, AlertBudget
from detectors.stages import UserStage
from detectors.state import state_digest
from detectors.topology import Topology
from monitor.packs import load_pack
from tests.support.events import REQUESTED, random_events, small_pack
from tests.support.state import Composed, check_fields

EVENTS = 1_200
SMALL = compile_pack(small_pack())
DEFAULT = compile_pack(load_pack("default"))

cuts = st.lists(st.integers(0, EVENTS), max_size=8)


def new_stage(topology: Topology) -> UserStage:
    """A stage with a bound on alerts and on incidents that a thousand events can exceed."""
    stage = topology.user_stage()
    stage.incidents.capacity = 20
    stage.incidents._places.block_size = 3
    ids = [rule.spec.id for rule in topology.pack.rules.rules]
    stage.alerting.budget = AlertBudget.of(ids, AlertBound(per_minute=10, burst=15))
    return stage


def in_one_go(topology: Topology, batch: EventBatch) -> tuple[bytes, str]:
    """All outputs as bytes, and the final state, without a stop."""
    stage = new_stage(topology)
    outputs = list(stage.process(batch).outputs)
    return msgspec.json.encode(outputs), state_digest(stage)


def with_stops(
    topology: Topology, batch: EventBatch, snapshots: list[int], stops: list[int]
) -> tuple[bytes, str]:
    """The same with snapshots of what changed, and a new stage restored at each stop."""
    stage = new_stage(topology)
    composed = Composed()
    outputs: list[Output] = []
    position = 0
    for position_next in sorted({*snapshots, *stops, EVENTS}):
        result = stage.process(batch.slice(position, position_next - position))
        outputs += result.outputs
        position = position_next
        composed.add(stage.snapshot())
        if position in stops:
            stage = new_stage(topology)
            snapshot = composed.snapshot()
            restored = stage.restore(snapshot.layout, reversed(snapshot.changed))
            assert (restored.dropped, restored.complete) == ((), True)
    assert state_digest(stage) == state_digest(new_stage_of(topology, composed))
    return msgspec.json.encode(outputs), state_digest(stage)


def new_stage_of(topology: Topology, composed: Composed) -> UserStage:
    """A stage restored from all snapshots so far."""
    stage = new_stage(topology)
    snapshot = composed.snapshot()
    stage.restore(snapshot.layout, snapshot.changed)
    return stage


def check_stops(
    pack: CompiledPack,
    events: tuple[int, int],
    max_users: int,
    block_rows: int,
    snapshots: list[int],
    stops: list[int],
) -> None:
    """Stops change neither outputs nor the final state."""
    seed, users = events
    batch = EventBatch.of(random_events(seed, EVENTS, users, spacing_ms=20_000 // users))
    topology = Topology(pack, max_users, block_rows)
    assert with_stops(topology, batch, snapshots, stops) == in_one_go(topology, batch)


@given(
    events=st.tuples(st.integers(0, 10_000), st.sampled_from([3, 12, 60])),
    max_users=st.sampled_from([1, 2, 8, 40, 100]),
    block_rows=st.sampled_from([1, 4, 32, 512]),
    snapshots=cuts,
    stops=cuts,
)
@settings(max_examples=60, deadline=None)
def test_stops_leave_no_trace(
    events: tuple[int, int],
    max_users: int,
    block_rows: int,
    snapshots: list[int],
    stops: list[int],
) -> None:
    """Late events, evictions, storms of alerts: outputs and every byte of the state are equal."""
    check_stops(SMALL, events, max_users, block_rows, snapshots, stops)


@given(events=st.tuples(st.integers(0, 10_000), st.just(15)), snapshots=cuts, stops=cuts)
@settings(max_examples=10, deadline=None)
def test_stops_leave_no_trace_in_the_default_pack(
    events: tuple[int, int], snapshots: list[int], stops: list[int]
) -> None:
    """The same for the pack that users run."""
    check_stops(DEFAULT, events, 10, 4, snapshots, stops)


WHERE = (REQUESTED, "type = 'share.created'", "verified")
GEOMETRIES = {
    "10s": ((10_000, 5), (10_000, 2), (12_000, 6)),
    "1m": ((60_000, 6), (60_000, 4), (72_000, 6)),
    "60s": ((60_000, 6), (60_000, 5)),
    "5m": ((300_000, 5),),
}
FEATURES = (
    *(FeatureSpec(f"count_{i}", "count", ("10s", "1m"), where) for i, where in enumerate(WHERE)),
    *(FeatureSpec(f"twin_{i}", "count", ("1m", "60s"), where) for i, where in enumerate(WHERE)),
    *(
        FeatureSpec(f"cost_{i}", "sum", ("1m", "10s"), where, "cost")
        for i, where in enumerate(WHERE)
    ),
    *(FeatureSpec(f"gap_{i}", "gap", ("60s", "10s"), where) for i, where in enumerate(WHERE)),
    *(FeatureSpec(f"ip_{i}", "distinct", ("5m",), where, "ip") for i, where in enumerate(WHERE)),
    FeatureSpec("assets", "distinct", ("5m",), WHERE[1], "asset_id", 24),
)
NEVER = RuleSpec("never", "Never", "user_id = ''", "low", 60_000, "docs/runbooks/burst.md")


@st.composite
def packs(draw: st.DrawFn) -> Pack:
    """Some of the features in some order, over windows that are cut one way or another."""
    windows = [WindowSpec(name, *draw(st.sampled_from(cut))) for name, cut in GEOMETRIES.items()]
    features = draw(st.lists(st.sampled_from(FEATURES), min_size=1, unique=True))
    order = draw(st.permutations(windows))
    return Pack("drawn", tuple(order), tuple(features), (), (NEVER,), LimitsSpec())


@given(old=packs(), new=packs(), seed=st.integers(0, 1_000))
@settings(max_examples=40, deadline=None)
def test_columns_are_never_mixed(old: Pack, new: Pack, seed: int) -> None:
    """Whatever the packs: a feature has its own values, or none and that is said."""
    batch = EventBatch.of(random_events(seed, 300, 6, spacing_ms=1_500, late_share=0.0))
    before, oracle, stage = (
        Topology(compile_pack(pack), 8, 4).user_stage() for pack in (old, new, new)
    )
    before.process(batch)
    oracle.process(batch)
    snapshot = before.snapshot()
    restored = stage.restore(snapshot.layout, snapshot.changed)
    empty = check_fields(stage, restored, oracle)
    same = {window.name for window in old.windows if window in new.windows}
    kept = {spec.name for spec in old.features} & {spec.name for spec in new.features}
    for name in kept:
        for window in same:
            assert f"feature {name}_{window}" not in empty
