"""Checkpoints of a partition: what is written, restored, refused and forgotten.

The deterministic simulation (tests/simulation) drives all of this through crashes; here are the
single steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from detectors.state import Restored, Snapshot, StateBlock
from monitor.checkpoint.codec import decode_manifest, encode_manifest, manifest_key
from monitor.checkpoint.contract import CommittedOffset, PipelineSnapshot
from monitor.checkpoint.errors import CheckpointError, FencedError
from monitor.checkpoint.partition import (
    CheckpointContext,
    CheckpointSettings,
    PartitionCheckpoints,
)
from monitor.kafka.observer import IgnoringObserver
from monitor.kafka.topics import MAX_BLOCK_BYTES


class Counters:
    """A pipeline that counts, in two blocks; only what changed is in a snapshot."""

    def __init__(self) -> None:
        self.counts = {"even": 0, "odd": 0}
        self.position: dict[str, int] = {}
        self._changed = {"even", "odd"}

    def apply(self, offset: int) -> None:
        name = "odd" if offset % 2 else "even"
        self.counts[name] += 1
        self._changed.add(name)

    def snapshot(self) -> PipelineSnapshot:
        blocks = [
            StateBlock(n, {"count": np.array([self.counts[n]])}) for n in sorted(self._changed)
        ]
        self._changed = set()
        return PipelineSnapshot({"in": 9}, "pack", Snapshot({}, ("even", "odd"), tuple(blocks)))

    def restore(
        self,
        position: Mapping[str, int],
        merged_ms: Mapping[str, int],
        state: tuple[dict[str, Any], Iterable[StateBlock]] | None,
    ) -> Restored:
        self.position = dict(position)
        if state is not None:
            assert merged_ms == {"in": 9}
            self.counts = {block.name: int(block.arrays["count"][0]) for block in state[1]}
            self._changed = set()
        return Restored(2, (), complete=True)


@dataclass
class World:
    """The broker: blocks that were acknowledged, offsets that were accepted."""

    blocks: dict[str, bytes] = field(default_factory=dict)
    offsets: dict[str, CommittedOffset] = field(default_factory=dict)
    newest_generation: int = 1
    log: list[str] = field(default_factory=list)

    def keys(self, partition: int) -> list[str]:
        return [key for key in self.blocks if key.startswith(f"{partition}/")]

    def get(self, partition: int, key: str) -> bytes | None:
        assert key.startswith(f"{partition}/")
        return self.blocks.get(key)

    async def put(self, partition: int, items: Mapping[str, bytes | None]) -> None:
        assert all(key.startswith(f"{partition}/") for key in items)
        for key, value in items.items():
            self.log.append(("put " if value is not None else "tombstone ") + key)
            if value is None:
                self.blocks.pop(key, None)
            else:
                assert key not in self.blocks, "a key is written once"
                self.blocks[key] = value

    async def committed(self, partition: int, generation: int) -> Mapping[str, CommittedOffset]:
        assert partition == 0
        self.newest_generation = max(generation, self.newest_generation)
        return self.offsets

    async def commit(
        self, partition: int, generation: int, offsets: Mapping[str, CommittedOffset]
    ) -> None:
        assert partition == 0
        if generation < self.newest_generation:
            raise FencedError("newer")
        self.log.append("commit")
        self.offsets = dict(offsets)


async def _inline(work: Callable[[], Any]) -> Any:  # noqa: ANN401 - as offload_to_thread
    return work()


def start(
    world: World, generation: int = 1, *, piece_bytes: int = 4_000, **settings: float
) -> tuple[Counters, PartitionCheckpoints]:
    pipeline = Counters()
    context = CheckpointContext(
        blocks=world,
        offsets=world,
        observer=IgnoringObserver(),
        settings=CheckpointSettings(piece_bytes=piece_bytes, **settings),
        offload=_inline,
        new_writer=lambda: "w",
    )
    return pipeline, PartitionCheckpoints(0, generation, pipeline, context)


def apply(pipeline: Counters, checkpoints: PartitionCheckpoints, first: int, end: int) -> None:
    checkpoints.begins("in", first)
    for offset in range(first, end):
        pipeline.apply(offset)
    checkpoints.took({"in": end}, in_order=True)


def with_one_checkpoint(piece_bytes: int = 4_000) -> World:
    async def run() -> World:
        world = World()
        pipeline, checkpoints = start(world, piece_bytes=piece_bytes)
        await checkpoints.restore()
        apply(pipeline, checkpoints, 0, 5)
        await checkpoints.finish()
        return world

    return asyncio.run(run())


def test_a_checkpoint_is_restored_by_the_next_generation() -> None:
    world = with_one_checkpoint()
    # The first commit is what the blocks belong to: see the next but one.
    written = ["put 0/1-w-1/even", "put 0/1-w-1/odd", "put 0/1-w-1/manifest"]
    assert world.log == ["commit", *written, "commit"]

    async def run() -> Counters:
        pipeline, checkpoints = start(world, generation=2)
        assert await checkpoints.restore() == {"in": 5}
        assert checkpoints.bound is None
        return pipeline

    pipeline = asyncio.run(run())
    assert pipeline.counts == {"even": 3, "odd": 2}
    assert pipeline.position == {"in": 5}


def test_a_crash_before_the_first_checkpoint_is_valid_is_a_beginning() -> None:
    async def run() -> Counters:
        world = World()
        pipeline, checkpoints = start(world)
        await checkpoints.restore()
        apply(pipeline, checkpoints, 0, 5)
        put, writing = world.put, world.put

        async def crash(partition: int, items: Mapping[str, bytes | None]) -> None:
            await put(partition, items)
            raise ConnectionError

        world.put = crash  # type: ignore[method-assign]
        with pytest.raises(ConnectionError):
            await checkpoints.finish()
        world.put = writing  # type: ignore[method-assign]
        pipeline, checkpoints = start(world, generation=2)
        assert await checkpoints.restore() == {"in": 0}
        return pipeline

    assert asyncio.run(run()).counts == {"even": 0, "odd": 0}


def test_offsets_that_are_gone_are_not_taken_for_a_beginning() -> None:
    """Else a coordinator that forgets, or retention, would empty every window in silence."""
    world = with_one_checkpoint()
    world.offsets.clear()

    async def run() -> None:
        _, checkpoints = start(world, generation=2)
        await checkpoints.restore()

    with pytest.raises(CheckpointError, match=r"no committed offsets.*1 checkpoints \(1-w-1\)"):
        asyncio.run(run())


def test_only_what_changed_is_written_and_only_what_nobody_needs_is_forgotten() -> None:
    world = with_one_checkpoint()
    world.blocks["0/1-w-9/even"] = b"of a checkpoint that never became valid"
    world.blocks["0/7-w-1/even"] = b"of a newer generation: not ours to forget"

    async def run() -> None:
        pipeline, checkpoints = start(world, generation=2)
        await checkpoints.restore()
        apply(pipeline, checkpoints, 5, 6)
        world.log.clear()
        await checkpoints.finish()

    asyncio.run(run())
    assert world.log == [
        "put 0/2-w-1/odd",
        "put 0/2-w-1/manifest",
        "commit",
        "tombstone 0/1-w-1/manifest",
        "tombstone 0/1-w-1/odd",
        "tombstone 0/1-w-9/even",
    ]
    assert sorted(world.blocks) == [
        "0/1-w-1/even",
        "0/2-w-1/manifest",
        "0/2-w-1/odd",
        "0/7-w-1/even",
    ]


def test_many_checkpoints_leave_no_more_keys_than_one() -> None:
    async def run() -> set[int]:
        world = World()
        sizes = set()
        for generation in range(1, 6):
            pipeline, checkpoints = start(world, generation)
            at = (await checkpoints.restore()).get("in", 0)
            for step in range(at, at + 20, 2):
                apply(pipeline, checkpoints, step, step + 2)
                await checkpoints.begin()
                await checkpoints.written()
                sizes.add(len(world.blocks))
        return sizes

    assert asyncio.run(run()) == {3}


def test_outputs_that_were_acknowledged_are_suppressed_when_taken_again() -> None:
    async def run() -> None:
        world = World()
        pipeline, checkpoints = start(world)
        await checkpoints.restore()
        apply(pipeline, checkpoints, 0, 5)
        await checkpoints.commit_order()
        checkpoints.published()
        apply(pipeline, checkpoints, 5, 8)
        await checkpoints.commit_order()  # and now it crashes

        _, again = start(world, generation=2)
        assert await again.restore() == {"in": 0}
        assert (again.bound, again.suppressing) == ({"in": 5}, True)
        again.took({"in": 3}, in_order=True)
        assert again.suppressing
        again.took({"in": 5}, in_order=True)
        assert (again.bound, again.suppressing) == ({"in": 8}, False)
        assert not again.due()
        again.took({"in": 8}, in_order=True)
        assert again.bound is None

    asyncio.run(run())


def test_who_comes_from_an_older_generation_can_write_but_nothing_points_to_it() -> None:
    async def run() -> None:
        world = prepared
        pipeline, zombie = start(world, generation=2)
        await zombie.restore()
        apply(pipeline, zombie, 5, 7)
        _, successor = start(world, generation=3)
        await successor.restore()
        before = dict(world.offsets)
        with pytest.raises(FencedError):
            await zombie.finish()
        with pytest.raises(FencedError):
            await zombie.commit_order()
        assert world.offsets == before

    prepared = with_one_checkpoint()
    asyncio.run(run())


def test_a_static_member_that_comes_back_in_its_generation_writes_under_other_keys() -> None:
    """Kafka lets it go on in the same generation; the one before may still be writing."""
    world = with_one_checkpoint()
    before = set(world.blocks)

    async def run() -> None:
        pipeline = Counters()
        context = CheckpointContext(
            blocks=world, offsets=world, observer=IgnoringObserver(), offload=_inline
        )
        again = PartitionCheckpoints(0, 1, pipeline, context)
        await again.restore()
        apply(pipeline, again, 5, 6)
        await again.begin()
        await again.written()

    asyncio.run(run())
    assert world.blocks.keys() - before, "World refuses a key that is written twice"
    assert all(key.split("/")[1] != "1-w-1" for key in world.blocks.keys() - before)


def restore_fails(world: World, generation: int = 2) -> str:
    async def run() -> None:
        await start(world, generation)[1].restore()

    with pytest.raises(CheckpointError) as caught:
        asyncio.run(run())
    return str(caught.value)


def test_a_missing_block_is_refused_by_name() -> None:
    world = with_one_checkpoint()
    del world.blocks["0/1-w-1/odd"]
    message = restore_fails(world)
    assert "1 of 2 blocks are missing or damaged (odd)" in message
    assert "reset the offsets" in message


def test_a_damaged_block_is_refused_by_name() -> None:
    world = with_one_checkpoint()
    world.blocks["0/1-w-1/odd"] = world.blocks["0/1-w-1/even"]
    assert "missing or damaged (odd)" in restore_fails(world)


def test_a_block_too_large_for_a_message_is_stored_in_pieces() -> None:
    world = with_one_checkpoint(piece_bytes=30)
    odd = [key for key in world.blocks if key.startswith("0/1-w-1/odd")]
    assert odd == ["0/1-w-1/odd", "0/1-w-1/odd~1"]
    assert all(len(world.blocks[key]) <= 30 for key in odd)

    async def run() -> Counters:
        pipeline, checkpoints = start(world, generation=2)
        await checkpoints.restore()
        counts = dict(pipeline.counts)
        apply(pipeline, checkpoints, 5, 6)
        await checkpoints.finish()
        assert counts == {"even": 3, "odd": 2}
        return pipeline

    asyncio.run(run())
    assert sorted(world.blocks) == [
        "0/1-w-1/even",
        "0/1-w-1/even~1",
        "0/2-w-1/manifest",
        "0/2-w-1/odd",
    ]
    del world.blocks["0/1-w-1/even~1"]
    assert "missing or damaged (even)" in restore_fails(world, generation=3)


def test_a_piece_fits_into_a_message_of_the_changelog() -> None:
    assert 2 * CheckpointSettings().piece_bytes <= MAX_BLOCK_BYTES


def test_a_missing_manifest_is_refused_but_not_one_of_a_newer_generation() -> None:
    world = with_one_checkpoint()
    del world.blocks["0/1-w-1/manifest"]
    assert "its manifest is not in the changelog" in restore_fails(world)

    async def run() -> None:
        await start(world, generation=0)[1].restore()

    with pytest.raises(FencedError):
        asyncio.run(run())


def test_a_manifest_of_a_newer_version_is_refused() -> None:
    world = with_one_checkpoint()
    key = manifest_key(0, "1-w-1")
    manifest = decode_manifest("1-w-1", world.blocks[key])
    newer = type(manifest)(**{**_fields(manifest), "format": 2})
    world.blocks[key] = encode_manifest(newer)
    assert "has format 2, this version reads 1" in restore_fails(world)


def test_an_offset_that_was_moved_is_refused() -> None:
    world = with_one_checkpoint()
    world.offsets = {"in": replace(world.offsets["in"], offset=3)}
    assert "stands at {'in': 5}, the group's committed offsets at {'in': 3}" in restore_fails(world)


def test_checkpoints_are_due_by_interval_and_share() -> None:
    async def run() -> list[bool]:
        now_s = 0.0
        world = World()
        pipeline = Counters()
        context = CheckpointContext(
            blocks=world,
            offsets=world,
            observer=IgnoringObserver(),
            settings=CheckpointSettings(interval_s=10.0, share=0.1),
            offload=_inline,
            clock=lambda: now_s,
        )
        checkpoints = PartitionCheckpoints(0, 1, pipeline, context)
        await checkpoints.restore()
        due = []
        now_s = 11.0
        due.append(checkpoints.due())  # nothing to write
        apply(pipeline, checkpoints, 0, 1)
        due.append(checkpoints.due())
        await checkpoints.begin()
        due.append(checkpoints.due())  # one is being written
        await checkpoints.written()
        apply(pipeline, checkpoints, 1, 2)
        now_s = 20.9
        due.append(checkpoints.due())
        now_s = 21.1
        due.append(checkpoints.due())
        return due

    assert asyncio.run(run()) == [False, True, False, False, True]


def _fields(manifest: Any) -> dict[str, Any]:  # noqa: ANN401 - a msgspec struct
    return {name: getattr(manifest, name) for name in manifest.__struct_fields__}


def test_other_models_are_taken_to_again_where_they_were_the_first_time() -> None:
    """What was scored with which model is part of the order taken."""

    async def run() -> list[tuple[int, str | None]]:
        world = World()
        pipeline, checkpoints = start(world)
        await checkpoints.restore()
        assert checkpoints.switch("old+", "") == "old+"
        apply(pipeline, checkpoints, 0, 5)
        assert checkpoints.switch("new+", "old+") == "new+"
        apply(pipeline, checkpoints, 5, 7)
        assert checkpoints.switch("newest+", "new+") is None, "no room before a checkpoint"
        await checkpoints.commit_order()
        checkpoints.published()
        await checkpoints.commit_order()

        _, checkpoints = start(world, generation=2)
        await checkpoints.restore()
        seen: list[tuple[int, str | None]] = [(0, checkpoints.switch("newest+", ""))]
        for offset in range(7):
            checkpoints.took({"in": offset + 1}, in_order=True)
            seen.append((offset + 1, checkpoints.switch("newest+", "x")))
        return seen

    seen = asyncio.run(run())
    assert [(at, models) for at, models in seen if models] == [(0, "old+"), (5, "new+")]


def test_a_checkpoint_forgets_the_models_before_it() -> None:
    async def run() -> str:
        world = World()
        pipeline, checkpoints = start(world)
        await checkpoints.restore()
        checkpoints.switch("old+", "")
        apply(pipeline, checkpoints, 0, 5)
        await checkpoints.begin()
        await checkpoints.written()
        assert checkpoints.switch("new+", "old+") == "new+"
        apply(pipeline, checkpoints, 5, 6)
        await checkpoints.commit_order()
        return world.offsets["in"].metadata

    assert '"switches":[[0,"new+"]]' in asyncio.run(run())


def test_a_lineage_lasts_until_a_partition_starts_without_state() -> None:
    """It is durable before anything is published under it; then whoever comes next has it."""

    def lineage(world: World, generation: int) -> str:
        async def run() -> str:
            pipeline, checkpoints = start(world, generation)
            position = await checkpoints.restore()
            first = position.get("in", 0)
            apply(pipeline, checkpoints, first, first + 2)
            await checkpoints.commit_order()
            return checkpoints.lineage

        return asyncio.run(run())

    world = World()
    assert lineage(world, 4) == "4-w"
    assert '"lineage":"4-w"' in world.offsets["in"].metadata
    assert lineage(world, 5) == "4-w", "after a crash before the first checkpoint"
    world = with_one_checkpoint()
    assert lineage(world, 6) == "1-w", "after a checkpoint"
    world.offsets = {"in": CommittedOffset(3, "")}  # an operator moved the group
    assert lineage(world, 7) == "7-w"
    assert lineage(world, 8) == "7-w"
