"""From a committed offset to the state it points to, or to the reason why that cannot be had."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from monitor.checkpoint.codec import (
    BlockEntry,
    block_keys,
    checksum,
    decode_block,
    decode_manifest,
    generation_of,
    manifest_key,
)
from monitor.checkpoint.errors import CheckpointError, FencedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from detectors.state import Restored, StateBlock
    from monitor.checkpoint.codec import Manifest
    from monitor.checkpoint.contract import BlockStore, Position, Restorable

__all__ = ["ValidCheckpoint", "find_manifest", "restore_state"]


@dataclass(slots=True)
class ValidCheckpoint:
    """A checkpoint that the group's offset points to (or will), and the blocks it names."""

    checkpoint: str | None = None
    blocks: dict[str, BlockEntry] = field(default_factory=dict)

    def keys(self, partition: int) -> set[str]:
        """The changelog keys without which it could not be restored."""
        if self.checkpoint is None:
            return set()
        keys = {manifest_key(partition, self.checkpoint)}
        for name, entry in self.blocks.items():
            keys.update(block_keys(partition, name, entry))
        return keys


def find_manifest(
    partition: int, generation: int, checkpoint: str, position: Position, store: BlockStore
) -> Manifest:
    """The manifest of ``checkpoint``, all of whose blocks are there.

    Raises CheckpointError where it is not complete or does not stand at ``position``, FencedError
    where it is of a newer generation than ours.
    """
    data = store.get(partition, manifest_key(partition, checkpoint))
    if data is None:
        if generation_of(checkpoint) > generation:
            raise FencedError(f"checkpoint {checkpoint} is of a newer generation")
        raise CheckpointError(
            f"partition {partition}: the group's committed offset names checkpoint {checkpoint}, "
            "but its manifest is not in the changelog; was the changelog topic deleted? To start "
            "without state, move the group's offsets of all input topics "
            "(kafka-consumer-groups --reset-offsets)"
        )
    manifest = decode_manifest(checkpoint, data)
    if any(position.get(source) != at for source, at in manifest.position.items()):
        raise CheckpointError(
            f"partition {partition}: checkpoint {checkpoint} stands at {manifest.position}, the "
            f"group's committed offsets at {dict(position)}"
        )
    missing = [n for n, e in manifest.blocks.items() if _stored(partition, n, e, store) is None]
    if missing:
        raise CheckpointError(
            f"partition {partition}: checkpoint {checkpoint} is not complete: {len(missing)} of "
            f"{len(manifest.blocks)} blocks are missing or damaged ({', '.join(missing[:5])}); its "
            "changelog topic has lost records, or recovery broke off: start the worker again, and "
            "if that does not help, reset the offsets of all input topics to start without state"
        )
    return manifest


def restore_state(
    partition: int,
    manifest: Manifest,
    position: Position,
    store: BlockStore,
    pipeline: Restorable,
) -> Restored:
    """Give ``pipeline`` the state of ``manifest``, a block at a time. Callable from any thread."""

    def blocks() -> Iterator[StateBlock]:
        for name, entry in manifest.blocks.items():
            data = _stored(partition, name, entry, store)
            assert data is not None, name  # found before, and nobody else writes
            yield decode_block(name, data)

    return pipeline.restore(position, manifest.merged_ms, (manifest.layout, blocks()))


def _stored(partition: int, name: str, entry: BlockEntry, store: BlockStore) -> bytes | None:
    pieces = [store.get(partition, key) for key in block_keys(partition, name, entry)]
    data = b"".join(piece or b"" for piece in pieces)
    return data if checksum(data) == entry.checksum else None
