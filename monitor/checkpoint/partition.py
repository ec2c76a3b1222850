"""The checkpoints of one partition while one worker has it: restore, order, write, forget."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from monitor.checkpoint.codec import (
    Manifest,
    block_items,
    checkpoint_id,
    encode_block,
    encode_manifest,
    generation_of,
    manifest_key,
)
from monitor.checkpoint.errors import CheckpointError
from monitor.checkpoint.order import Progress, TakenOrder, parse_committed
from monitor.checkpoint.restoring import ValidCheckpoint, find_manifest, restore_state
from monitor.failpoints import no_failpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from detectors.state import Restored, StateBlock
    from monitor.checkpoint.contract import (
        BlockStore,
        OffsetStore,
        PipelineSnapshot,
        Position,
        Restorable,
    )
    from monitor.failpoints import Failpoint

__all__ = [
    "CheckpointContext",
    "CheckpointObserver",
    "CheckpointSettings",
    "PartitionCheckpoints",
    "offload_to_thread",
]

_log = logging.getLogger(__name__)

_BLOCKS_AT_ONCE: Final = 16
_FULL_ORDER: Final = 0.5
_TURNS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """How often: every ``interval_s``, or less often if writing would take more than ``share``.

    ``share`` bounds the part of the worker's time that goes into copying and compressing state.
    A block of more than ``piece_bytes`` takes several keys: a message has a greatest size.
    """

    interval_s: float = 10.0
    share: float = 0.08
    piece_bytes: int = 4 << 20


class CheckpointObserver(Protocol):
    """Told of checkpoints: return at once, never raise."""

    def checkpoint_written(
        self, partition: int, *, elapsed_s: float, blocks: int, stored_bytes: int
    ) -> None:
        """A checkpoint is valid, ``elapsed_s`` after its snapshot was taken."""

    def restored(self, partition: int, *, elapsed_s: float, rows: int, replayed: int) -> None:
        """State was restored; ``replayed`` cuts of the order taken follow it."""


async def offload_to_thread(work: Callable[[], Any]) -> Any:  # noqa: ANN401 - as asyncio's
    """Do ``work`` while the event loop goes on."""
    return await asyncio.to_thread(work)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointContext:
    """What the checkpoints of all partitions of a worker share."""

    blocks: BlockStore
    offsets: OffsetStore
    observer: CheckpointObserver
    settings: CheckpointSettings = field(default_factory=CheckpointSettings)
    offload: Callable[[Callable[[], Any]], Awaitable[Any]] = offload_to_thread
    failpoint: Failpoint = no_failpoint
    clock: Callable[[], float] = time.monotonic
    new_writer: Callable[[], str] = lambda: uuid.uuid4().hex[:8]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whose snapshot is in memory: one at a time, as it may be as large as the state itself."""


class PartitionCheckpoints:
    """Durable progress of one partition in one generation of the group; one task uses it.

    After ``restore``, ``bound`` is where the merge has to stop next, None once all that was
    taken before is taken again. While ``suppressing``, what comes out has been published before.
    """

    def __init__(
        self, partition: int, generation: int, pipeline: Restorable, context: CheckpointContext
    ) -> None:
        self.partition = partition
        self.generation = generation
        self._pipeline = pipeline
        self._blocks = context.blocks
        self._offsets = context.offsets
        self._settings = context.settings
        self._observer = context.observer
        self._offload = context.offload
        self._failpoint = context.failpoint
        self._clock = context.clock
        self._turn = context.turn
        self._order = TakenOrder(Progress({}))
        self._bounds: list[Position] = []
        self._published_bounds = 0
        self._switches: list[tuple[Position, str]] = []
        self._at: Position = {}
        self._written = ValidCheckpoint()
        self._garbage: set[str] = set()
        # A static member that comes back gets the generation it had: that alone is no name.
        self._writer = context.new_writer()
        self._sequence = 0
        self._committed: object = None
        self._anchored = False
        self._committing = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None
        self._busy_s = 0.0
        self._started_s = context.clock()

    # -- restoring

    async def restore(self) -> Position:
        """Bring the pipeline to the newest valid checkpoint; returns where to read from.

        Raises CheckpointError where it is not complete, FencedError where the partition has
        gone to somebody else, StateError where this version cannot use it.
        """
        started_s = self._clock()
        committed = await self._offsets.committed(self.partition, self.generation)
        progress = parse_committed(committed)
        rows = 0
        self._anchored = bool(progress.position)
        if progress.checkpoint is None:
            if not self._anchored:
                self._require_beginning()
            self._pipeline.restore(progress.position, {}, None)
            if progress.position:
                _log.warning(
                    "partition %d: no checkpoint at %s, windows start empty",
                    self.partition,
                    dict(progress.position),
                )
        else:
            restored = await self._restore(progress.checkpoint, progress.position)
            rows = restored.rows
            for sentence in restored.dropped:
                _log.warning("partition %d: %s", self.partition, sentence)
        self._order = TakenOrder(progress, f"{self.generation}-{self._writer}")
        self._bounds, self._published_bounds = _bounds(progress)
        self._switches = [
            (progress.cuts[cuts - 1] if cuts else progress.position, models)
            for cuts, models in progress.switches
        ]
        self._reached(progress.position)
        self._garbage = set(self._unreferenced())
        now_s = self._clock()
        # Partitions take turns: their first checkpoints come at different times.
        self._started_s = now_s - self._settings.interval_s * (self.partition % _TURNS) / _TURNS
        self._observer.restored(
            self.partition,
            elapsed_s=now_s - started_s,
            rows=rows,
            replayed=len(self._bounds),
        )
        return progress.position

    def _require_beginning(self) -> None:
        """Raises CheckpointError where the group has no offsets, but there are blocks.

        Before the first block of a partition is written, its offsets are committed.
        """
        keys = self._blocks.keys(self.partition)
        written = {key.split("/")[1] for key in keys}
        left = sorted(name for name in written if generation_of(name) <= self.generation)
        if left:
            raise CheckpointError(
                f"partition {self.partition}: the group has no committed offsets, but the "
                f"changelog has blocks of {len(left)} checkpoints ({left[-1]}). Were the offsets "
                "deleted, or did they expire (offsets.retention.minutes)? To begin without state, "
                "set those of all input topics (kafka-consumer-groups --reset-offsets)"
            )

    async def _restore(self, checkpoint: str, position: Position) -> Restored:
        partition = self.partition
        manifest = find_manifest(partition, self.generation, checkpoint, position, self._blocks)
        restored: Restored = await self._offload(
            lambda: restore_state(partition, manifest, position, self._blocks, self._pipeline)
        )
        self._written = ValidCheckpoint(checkpoint, dict(manifest.blocks))
        return restored

    def _unreferenced(self) -> Iterator[str]:
        """Keys that no valid checkpoint names or will name: of this and older generations."""
        named = self._written.keys(self.partition)
        for key in self._blocks.keys(self.partition):
            checkpoint = key.split("/")[1]
            if key not in named and generation_of(checkpoint) <= self.generation:
                yield key

    # -- the order taken

    @property
    def bound(self) -> Position | None:
        """Up to where the sources were taken before as one stretch; None if all of it is done."""
        return self._bounds[0] if self._bounds else None

    @property
    def suppressing(self) -> bool:
        """Whether the next outputs were published, and acknowledged, before."""
        return self._published_bounds > 0

    def switch(self, wanted: str, used: str) -> str | None:
        """The models to score with from here on, if they are others than those ``used``.

        On the way to where it was before they are what they were then; after that they are the
        ``wanted`` ones. The switch becomes durable with the order taken.
        """
        if self._switches and self._passed(self._switches[0][0]):
            return self._switches.pop(0)[1]
        if self._bounds or self._switches or wanted == used or not self._order.may_switch:
            return None
        self._order.switched(wanted)
        return wanted

    @property
    def lineage(self) -> str:
        """The name of the run of this partition since it last started without state."""
        return self._order.lineage

    @property
    def begun(self) -> bool:
        """Whether it is known where the sources begin: from then on the lineage can be durable."""
        return bool(self._order.base)

    def begins(self, source: str, offset: int) -> None:
        """Note that ``source``, of which nothing was committed, has its first record here."""
        self._order.begins(source, offset)

    def took(self, position: Position, *, in_order: bool) -> None:
        """Note that the pipeline has taken its sources up to ``position``."""
        if self._bounds:
            self._reached(position)
        else:
            self._order.took(position, in_order=in_order)

    def _reached(self, position: Position) -> None:
        self._at = {**self._order.base, **position}
        while self._bounds and self._passed(self._bounds[0]):
            self._bounds.pop(0)
            self._published_bounds = max(0, self._published_bounds - 1)

    def _passed(self, position: Position) -> bool:
        return all(self._at[source] >= end for source, end in position.items())

    async def commit_order(self) -> None:
        """Make the order taken durable; what depends on it may be published then.

        Raises FencedError: it must not be.
        """
        async with self._committing:
            await self._commit()
        self._failpoint("cuts-committed")

    async def confirm(self) -> None:
        """Raises FencedError if the partition has gone to somebody else."""
        async with self._committing:
            self._committed = None
            await self._commit()

    def published(self) -> None:
        """Note that all outputs up to the present position are acknowledged."""
        if not self._bounds:
            self._order.publish()
        self._failpoint("alerts-acknowledged")

    async def _commit(self) -> None:
        offsets = self._order.committed()
        if offsets and offsets != self._committed:
            await self._offsets.commit(self.partition, self.generation, offsets)
            self._committed = offsets

    # -- writing

    @property
    def full(self) -> bool:
        """Whether no more may be taken before the checkpoint that is being written is done."""
        return self._order.fill >= 1.0

    def due(self) -> bool:
        """Whether it is time for a checkpoint, and there is something to write."""
        if self._writing is not None or self._bounds or not self._order.moved:
            return False
        if self._turn.locked():
            return False
        pause_s = max(self._settings.interval_s, self._busy_s / self._settings.share)
        return self._clock() - self._started_s >= pause_s or self._order.fill >= _FULL_ORDER

    async def begin(self) -> None:
        """Take a snapshot, once it is our turn, and write it while work goes on; see ``check``."""
        await self._turn.acquire()
        try:
            self._started_s = self._clock()
            snapshot = self._pipeline.snapshot()
        except BaseException:
            self._turn.release()
            raise
        self._busy_s = self._clock() - self._started_s
        self._sequence += 1
        checkpoint = checkpoint_id(self.generation, self._writer, self._sequence)
        cuts = self._order.close()
        write = self._write(checkpoint, snapshot, self._order.position, cuts)
        self._writing = asyncio.create_task(write, name=f"checkpoint-{self.partition}")
        self._writing.add_done_callback(lambda _: self._turn.release())

    def check(self) -> None:
        """Raise what writing a checkpoint ended with, if it ended with an error."""
        if self._writing is not None and self._writing.done():
            writing, self._writing = self._writing, None
            writing.result()

    async def written(self) -> None:
        """Wait until the checkpoint that is being written is valid."""
        if self._writing is not None:
            await asyncio.wait({self._writing})
            self.check()

    async def finish(self) -> None:
        """Write a last checkpoint, so that whoever comes next has nothing to do again."""
        await self.written()
        if self._order.moved and not self._bounds:
            await self.begin()
            await self.written()

    async def abandon(self) -> None:
        """Stop writing. What was written so far is not part of any checkpoint."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _write(
        self, checkpoint: str, snapshot: PipelineSnapshot, position: dict[str, int], cuts: int
    ) -> None:
        started_s = self._clock()
        names = set(snapshot.state.names)
        entries = {n: e for n, e in self._written.blocks.items() if n in names}
        stored_bytes = 0
        if not self._anchored:  # else lost offsets could not be told from none (see ``restore``)
            async with self._committing:
                await self._commit()
            self._anchored = True
        for group in _grouped(snapshot.state.changed, _BLOCKS_AT_ONCE):
            encoded = await self._encode(group)
            items: dict[str, bytes | None] = {}
            for name, data in encoded.items():
                entries[name], pieces = block_items(
                    self.partition, checkpoint, name, data, self._settings.piece_bytes
                )
                items.update(pieces)
                stored_bytes += len(data)
            await self._blocks.put(self.partition, items)
        self._failpoint("blocks-acknowledged")
        if entries.keys() != names:
            raise CheckpointError(f"blocks without content: {sorted(names - entries.keys())}")
        manifest = Manifest(
            checkpoint=checkpoint,
            pack_version=snapshot.pack_version,
            position=position,
            merged_ms=dict(snapshot.merged_ms),
            layout=dict(snapshot.state.layout),
            blocks=entries,
        )
        key = manifest_key(self.partition, checkpoint)
        await self._blocks.put(self.partition, {key: encode_manifest(manifest)})
        self._failpoint("manifest-acknowledged")
        async with self._committing:
            self._order.rebase(checkpoint, cuts)
            await self._commit()
        self._failpoint("checkpoint-committed")
        self._observer.checkpoint_written(
            self.partition,
            elapsed_s=self._clock() - started_s,
            blocks=len(snapshot.state.changed),
            stored_bytes=stored_bytes,
        )
        await self._forget(ValidCheckpoint(checkpoint, entries))

    async def _encode(self, blocks: Sequence[StateBlock]) -> dict[str, bytes]:
        started_s = self._clock()
        encoded: dict[str, bytes] = await self._offload(
            lambda: {block.name: encode_block(block) for block in blocks}
        )
        self._busy_s += self._clock() - started_s
        return encoded

    async def _forget(self, now: ValidCheckpoint) -> None:
        """Tombstone what only the checkpoint before ``now`` needed, and what nobody did."""
        before, self._written = self._written, now
        garbage = before.keys(self.partition) | self._garbage
        self._garbage = set()
        unneeded = sorted(garbage - now.keys(self.partition))
        await self._blocks.put(self.partition, dict.fromkeys(unneeded))
        self._failpoint("tombstones-acknowledged")


def _bounds(progress: Progress) -> tuple[list[Position], int]:
    """Where the merge has to stop on its way, and how many of these precede new outputs.

    These are the cuts, and the position up to which outputs were published.
    """
    cuts = list(progress.cuts)
    published = progress.published
    if published is None:
        return cuts, 0
    done = [cut for cut in cuts if all(cut[s] <= at for s, at in published.items())]
    ahead = cuts[len(done) :]
    if done[-1:] != [published]:
        done.append(published)
    return [*done, *ahead], len(done)


def _grouped(blocks: Iterable[StateBlock], size: int) -> Iterator[tuple[StateBlock, ...]]:
    remaining = iter(blocks)
    while group := tuple(islice(remaining, size)):
        yield group
