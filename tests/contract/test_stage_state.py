"""Every stage: a snapshot holds all of its state, and a stage restored from it goes on exactly.

A stage that is added to ``detectors`` fails here until there is a workload for it; an attribute
that is added to a stage fails here until it is restored, or the workload is told that it never
changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import msgspec
import polars as pl
import pytest

from detectors.batch import EventBatch
from detectors.stages import Stage, StageOutputs, UserStage
from detectors.state import Layout, Restored, Snapshot, StateBlock, state_digest
from tests.contract.walk import differences, same_attributes
from tests.contract.workloads import WORKLOADS, Workload, stage_classes
from tests.support.state import Composed

every_stage = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=lambda w: w.made.__name__)


def restored(workload: Workload, snapshot: Snapshot) -> Stage:
    """A stage made from a full snapshot."""
    stage = workload.make()
    result = stage.restore(snapshot.layout, snapshot.changed)
    assert (result.dropped, result.complete) == ((), True)
    return stage


def encoded(results: Iterable[StageOutputs]) -> bytes:
    """All that stages said, as bytes."""
    return msgspec.json.encode(list(results), enc_hook=pl.DataFrame.rows)


def test_every_stage_has_a_workload() -> None:
    """What is not tried here is not known to survive a crash."""
    assert set(stage_classes()) == set(WORKLOADS)


@every_stage
def test_the_workload_changes_all_that_a_stage_keeps(workload: Workload) -> None:
    """Else the tests below would say nothing about what stays as it was made."""
    stage = workload.make()
    for batch in workload.batches(1):
        stage.snapshot()
        stage.process(batch)
    assert same_attributes(workload.make(), stage) == workload.constants


@every_stage
@pytest.mark.parametrize("seed", [1, 2])
def test_a_restored_stage_goes_on_exactly(workload: Workload, seed: int) -> None:
    """Wherever it is cut: the same state in every attribute, then the same outputs and state."""
    batches = workload.batches(seed)
    for cut in range(0, len(batches) + 1, 3):
        stage = workload.make()
        for batch in batches[:cut]:
            stage.process(batch)
        copy = restored(workload, stage.snapshot())
        assert not differences(stage, copy)
        later = [stage.process(batch) for batch in batches[cut:]]
        assert encoded(copy.process(batch) for batch in batches[cut:]) == encoded(later)
        assert not differences(stage, copy)
        end_ms = 10**15
        assert encoded([copy.advance(end_ms)]) == encoded([stage.advance(end_ms)])
        assert not differences(stage, copy)


@every_stage
def test_incremental_snapshots_compose_to_the_full_one(workload: Workload) -> None:
    """The newest version of each block is the state; a restored stage continues the series."""
    batches = workload.batches(3)
    stage = workload.make()
    composed = Composed()
    for number, batch in enumerate(batches):
        stage.process(batch)
        full = stage.snapshot(full=True)
        composed.add(stage.snapshot())
        assert composed.digest() == Composed.of(full).digest()
        if number == len(batches) // 2:
            stage = restored(workload, composed.snapshot())
            assert not stage.snapshot().changed
    assert state_digest(stage) == state_digest(restored(workload, composed.snapshot()))


@every_stage
def test_a_snapshot_holds_only_what_changed(workload: Workload) -> None:
    """Nothing without events; and less than everything after a few."""
    stage = workload.make()
    for batch in workload.batches(4):
        stage.process(batch)
    first = stage.snapshot()
    assert {block.name for block in first.changed} == set(first.names)
    assert not stage.snapshot().changed
    stage.process(workload.batches(4)[-1].slice(0, 1))
    assert 0 < len(stage.snapshot().changed) < len(first.names)


@every_stage
def test_a_snapshot_is_a_copy_and_leaves_no_trace(workload: Workload) -> None:
    """It does not change while the stage goes on; nor does the stage care whether it was taken."""
    watched, unwatched = workload.make(), workload.make()
    for batch in workload.batches(5):
        changed = watched.snapshot().changed
        arrays = [array for block in changed for array in block.arrays.values()]
        assert all(array.flags.c_contiguous for array in arrays)
        held = [array.tobytes() for array in arrays]
        watched.process(batch)
        unwatched.process(batch)
        assert [array.tobytes() for array in arrays] == held
    assert state_digest(watched) == state_digest(unwatched)


class Forgetful(UserStage):
    """Keeps something that it does not checkpoint."""

    batches = 0

    def process(self, batch: EventBatch) -> StageOutputs:
        """Count batches."""
        self.batches = self.batches + 1  # its own attribute from the first batch on
        return super().process(batch)


class Careless(UserStage):
    """Forgets to restore one of its parts."""

    def restore(self, layout: Layout, blocks: Iterable[StateBlock]) -> Restored:
        """All but the bounds on alerts."""
        kept = self.alerting.budget.state()
        result = super().restore(layout, blocks)
        self.alerting.budget.restore(kept)
        return result


@pytest.mark.parametrize("made", [Forgetful, Careless])
def test_a_stage_that_does_not_restore_everything_is_caught(made: type[UserStage]) -> None:
    """That the tests above can fail."""
    workload = replace(WORKLOADS[UserStage], made=made)
    with pytest.raises(AssertionError, match=r"batches|alerting.budget"):
        test_a_restored_stage_goes_on_exactly(workload, 1)
