"""Wherever a stage is stopped and restored, everything is as if it had not been."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.batch import EventBatch
from detectors.compiled import CompiledPack, compile_pack
from detectors.incidents import Output
from detectors.pressure import AlertBound, AlertBudget
from detectors.stages import UserStage
from detectors.state import state_digest
from detectors.topology import Topology
from monitor.packs import load_pack
from tests.support.events import random_events, small_pack
from tests.support.state import Composed

EVENTS = 1_200
SMALL = compile_pack(small_pack())
DEFAULT = compile_pack(load_pack("default"))

cuts = st.lists(st.integers(0, EVENTS), max_size=8)


def new_stage(topology: Topology) -> UserStage:
    """A stage with a bound on alerts and on incidents that a thousand events can exceed."""
    stage = topology.user_stage()
    stage.incidents.capacity = 20
    ids = [rule.spec.id for rule in topology.pack.rules.rules]
    stage.alert_budget = AlertBudget.of(ids, AlertBound(per_minute=10, burst=15))
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


def check(
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
    check(SMALL, events, max_users, block_rows, snapshots, stops)


@given(events=st.tuples(st.integers(0, 10_000), st.just(15)), snapshots=cuts, stops=cuts)
@settings(max_examples=10, deadline=None)
def test_stops_leave_no_trace_in_the_default_pack(
    events: tuple[int, int], snapshots: list[int], stops: list[int]
) -> None:
    """The same for the pack that users run."""
    check(DEFAULT, events, 10, 4, snapshots, stops)
