"""What checkpoints need of the world: a place for blocks, the group's offsets, and a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from detectors.state import Restored, Snapshot, StateBlock

__all__ = [
    "BlockStore",
    "CommittedOffset",
    "OffsetStore",
    "PipelineSnapshot",
    "Position",
    "Restorable",
]

Position: TypeAlias = "Mapping[str, int]"
"""The next offset of each source; a source of which nothing was read yet is missing."""


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """What a consumer group keeps for a source's partition."""

    offset: int
    metadata: str


@dataclass(frozen=True, slots=True)
class PipelineSnapshot:
    """The state of a pipeline; ``merged_ms`` is how far each source had come in event time."""

    merged_ms: Mapping[str, int]
    pack_version: str
    state: Snapshot


class Restorable(Protocol):
    """A pipeline whose state can be taken and given back."""

    def snapshot(self) -> PipelineSnapshot:
        """The state, with copies of what changed since the snapshot before."""

    def restore(
        self,
        position: Position,
        merged_ms: Mapping[str, int],
        state: tuple[dict[str, Any], Iterable[StateBlock]] | None,
    ) -> Restored:
        """Go on from ``position`` with a state (layout and blocks), or with none.

        Only for a pipeline that has done nothing yet.
        """


class BlockStore(Protocol):
    """Keys and values of a compacted changelog."""

    def keys(self, partition: int) -> Collection[str]:
        """All keys that recovery has brought for a partition, and those put since."""

    def get(self, partition: int, key: str) -> bytes | None:
        """The value of a key, None if there is none."""

    async def put(self, partition: int, items: Mapping[str, bytes | None]) -> None:
        """Write values (None: a tombstone); returns when all are acknowledged, else raises."""


class OffsetStore(Protocol):
    """The committed offsets of the group, which refuses commits of older generations."""

    async def committed(self, partition: int, generation: int) -> Mapping[str, CommittedOffset]:
        """By source, where something is committed. Raises FencedError."""

    async def commit(
        self, partition: int, generation: int, offsets: Mapping[str, CommittedOffset]
    ) -> None:
        """Commit all of them or none. Raises FencedError where the generation has passed."""
