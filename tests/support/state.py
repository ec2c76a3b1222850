"""Snapshots put together, as a store of blocks does it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from detectors.state import Layout, Snapshot, StateBlock

__all__ = ["Composed"]


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
