"""What the workers left behind: the newest valid checkpoint of each partition, from outside.

The committed offsets say which checkpoint it is, the changelog topic holds its blocks; a stage is
restored from them as a worker would do it, in this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from detectors.stages import UserStage
from detectors.topology import Topology
from monitor.checkpoint.codec import (
    block_keys,
    checksum,
    decode_block,
    decode_manifest,
    manifest_key,
)
from monitor.checkpoint.contract import CommittedOffset
from monitor.checkpoint.order import parse_committed
from monitor.pipeline import PartitionPipeline
from tests.chaos.errors import ChaosError
from tests.chaos.place import Place
from tests.chaos.reading import committed_offsets, read_partition

__all__ = ["FinalState", "read_final_state"]


@dataclass(frozen=True, slots=True)
class FinalState:
    """``position`` is the committed offset of each topic; ``cuts`` what was taken beyond it.

    ``leftover`` are keys in the changelog that belong to no valid checkpoint.
    """

    stage: UserStage
    position: Mapping[str, int]
    cuts: int
    leftover: int
    changelog_records: int
    changelog_bytes: int


def read_final_state(topology: Topology, place: Place, partition: int) -> FinalState:
    """The state of a partition. Raises ChaosError where there is no whole checkpoint."""
    committed = {
        topic: CommittedOffset(offset, metadata)
        for (topic, number), (offset, metadata) in committed_offsets(
            place.bootstrap, place.group
        ).items()
        if number == partition and topic in place.names.inputs
    }
    progress = parse_committed(committed)
    if progress.checkpoint is None:
        raise ChaosError(f"partition {partition}: no checkpoint is committed ({committed})")
    records = read_partition(place.bootstrap, place.names.checkpoints(place.group), partition)
    values = {record.key.decode(): record.value for record in records}
    there = {key: value for key, value in values.items() if value is not None}
    key = manifest_key(partition, progress.checkpoint)
    if key not in there:
        raise ChaosError(f"the changelog has no {key}, which the committed offsets name")
    manifest = decode_manifest(progress.checkpoint, there[key])
    blocks, named = [], {key}
    for name, entry in manifest.blocks.items():
        keys = block_keys(partition, name, entry)
        data = b"".join(there.get(key, b"") for key in keys)
        if checksum(data) != entry.checksum:
            raise ChaosError(f"the changelog has no {keys} with checksum {entry.checksum}")
        named.update(keys)
        blocks.append(decode_block(name, data))
    pipeline = PartitionPipeline(topology, place.names.inputs)
    pipeline.restore(progress.position, manifest.merged_ms, (manifest.layout, blocks))
    return FinalState(
        pipeline.stage,
        progress.position,
        cuts=len(progress.cuts),
        leftover=len(there.keys() - named),
        changelog_records=len(records),
        changelog_bytes=sum(len(record.value or b"") for record in records),
    )
