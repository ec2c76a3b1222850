"""Snapshots put together, as a store of blocks does it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np

from detectors.stages import UserStage
from detectors.state import Layout, Restored, Snapshot, StateBlock

__all__ = ["Composed", "check_fields"]


@dataclass(slots=True)
class Composed:
    """The newest version of each block of a series of snapshots."""

    layout: Layout = field(default_factory=dict)
    blocks: dict[str, StateBlock] = field(default_factory=dict)

    @staticmethod
    def of(snapshot: Snapshot) -> Composed:
        """A single snapshot, which must be full."""
        composed = Composed()
        composed.add(snapshot)
        return composed

    def add(self, snapshot: Snapshot) -> None:
        """Take over what changed, and forget what is gone."""
        self.layout = snapshot.layout
        changed = {block.name: block for block in snapshot.changed}
        known = {**self.blocks, **changed}
        self.blocks = {name: known[name] for name in snapshot.names}
        assert changed.keys() <= self.blocks.keys(), "changed blocks are blocks of the state"

    def snapshot(self) -> Snapshot:
        """The state as a full snapshot."""
        return Snapshot(self.layout, tuple(self.blocks), tuple(self.blocks.values()))

    def digest(self) -> str:
        """A digest over layout, names and bytes."""
        digest = hashlib.blake2b(json.dumps(self.layout, sort_keys=True).encode())
        for name, block in self.blocks.items():
            for array_name, array in block.arrays.items():
                digest.update(f"{name} {array_name} {array.dtype.str} {array.shape};".encode())
                digest.update(array.tobytes())
        return digest.hexdigest()


def check_fields(stage: UserStage, restored: Restored, oracle: UserStage) -> set[str]:
    """Each field holds what it does in a stage that always had this pack, or nothing if so said.

    Returns the labels of those that start empty.
    """
    used = len(stage.keys)
    assert stage.keys.keys.tolist() == oracle.keys.keys.tolist()
    said_empty = set()
    fresh = UserStage(stage.pack, stage.keys.capacity)
    for part in ("features", "limiter"):
        getattr(fresh, part).clear_rows(slice(0, used))
        for kept in getattr(stage, part).fields:
            prefix = f"{kept.label}: "
            empty = any(
                said.startswith(prefix) and said.endswith("starts empty")
                for said in restored.dropped
            )
            said_empty |= {kept.label} if empty else set()
            for name, spans in kept.spans.items():
                got, expected = (
                    getattr(one, part).row_arrays[name][:used].reshape(used, -1)
                    for one in (stage, fresh if empty else oracle)
                )
                for start, step, count in spans:
                    columns = range(start, start + step * count, step)
                    assert np.array_equal(got[:, columns], expected[:, columns]), kept.label
    assert np.array_equal(
        stage.features.state.newest_pane[:used], oracle.features.state.newest_pane[:used]
    )
    return said_empty
