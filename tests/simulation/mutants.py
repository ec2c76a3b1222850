"""What the simulation has to notice: the protocol with one thing wrong, as a bug would have it.

Several of these are bugs that it found. Each mutant comes with the kind of world that it shows in,
and with the first seed that is known to show it: from there on others do as well.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final
from unittest.mock import patch

from aiokafka.errors import UnknownMemberIdError

from detectors.state import StateBlock
from monitor.checkpoint.partition import PartitionCheckpoints
from monitor.kafka.block_table import BlockMemory, KafkaBlocks
from monitor.merge import Merged, Merger
from monitor.trace_merge import TraceMerge
from monitor.trace_messages import TraceMessage
from tests.simulation.faults import RandomFaults
from tests.simulation.group import Group
from tests.simulation.knobs import NEVER_S, Knobs
from tests.simulation.run import World, simulate
from tests.simulation.verdict import Verdict

__all__ = ["MUTANTS", "Mutant"]


_PLAIN: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "partitions": 1,
        "events": 120,
        "span_s": 120.0,
        "restart_s": 3.0,
        "stages": 1,
        "swap_every_s": NEVER_S,
    }
)


@dataclass(frozen=True)
class Mutant:
    """``replacements`` of attributes that make the code wrong, and where that shows."""

    replacements: tuple[tuple[Any, str, Callable[..., Any] | property], ...]
    knobs: Mapping[str, Any] = field(default_factory=dict)
    worker: Mapping[str, Any] = field(default_factory=dict)
    first_seed: int = 0
    kill_rate: float = 0.02
    pause_rate: float = 0.0

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The code is wrong while this lasts."""
        with ExitStack() as stack:
            for owner, name, replacement in self.replacements:
                stack.enter_context(patch.object(owner, name, replacement))
            yield

    def simulate(self, seed: int) -> Verdict:
        """Run a small world of the kind that this mutant shows in."""
        knobs = Knobs.drawn(random.Random(f"mutant {seed}"))
        knobs = replace(
            knobs,
            **{**_PLAIN, **self.knobs},
            worker=replace(knobs.worker, **self.worker),
        )
        faults = RandomFaults(
            random.Random(f"mutant faults {seed}"),
            kill_rate=self.kill_rate,
            pause_rate=self.pause_rate,
            rebalance_rate=0.01,
            longest_pause_s=30.0,
            most_kills=40,
        )
        return simulate(seed, faults, knobs)


async def _commit_nothing(_checkpoints: PartitionCheckpoints) -> None:
    """Publish before the order that it depends on is durable."""


async def _published_early(checkpoints: PartitionCheckpoints) -> None:
    checkpoints._order.publish()
    await _COMMIT_ORDER(checkpoints)


async def _put_without_waiting(
    blocks: KafkaBlocks, partition: int, items: Mapping[str, bytes | None]
) -> None:
    putting = asyncio.create_task(_PUT(blocks, partition, items))
    putting.add_done_callback(lambda done: done.cancelled() or done.exception())


def _anybody(group: Group, member: str, _generation: int) -> Any:  # noqa: ANN401 - a member
    known = next(iter(group._members.values()), None)
    if known is None:
        raise UnknownMemberIdError(member)
    return replace(known, process=member.partition("/")[0])


def _forget_times(
    merger: Merger, position: Mapping[str, int], _taken_ms: Mapping[str, int]
) -> None:
    _START(merger, position, {})


def _always_in_order(
    merger: Merger,
    idle: Collection[str],
    limit: int,
    bound: Mapping[str, int] | None = None,
) -> Merged:
    merged = _TAKE(merger, idle, limit, bound)
    return replace(merged, in_order=True)


def _beyond_the_bound(
    merger: Merger,
    idle: Collection[str],
    limit: int,
    bound: Mapping[str, int] | None = None,
) -> Merged:
    merged = _TAKE(merger, idle, limit, bound)
    ends = {name: source.applied for name, source in merger._sources.items()}
    return replace(merged, applied={name: at for name, at in ends.items() if at is not None})


def _newest_models(checkpoints: PartitionCheckpoints, wanted: str, used: str) -> str | None:
    return None if _SWITCH(checkpoints, wanted, used) is None else wanted


def _name_of_its_own(checkpoints: PartitionCheckpoints) -> str:
    return f"{checkpoints.generation}-{checkpoints._writer}"


def _take_again(merge: TraceMerge, message: TraceMessage, received_ms: int) -> None:
    source = merge._sources.get(message.source)
    if source is not None:
        source.next = min(source.next, message.start)
    _ADD(merge, message, received_ms)


def _block_without_rows(merge: TraceMerge) -> StateBlock:
    kept = merge._waiting, merge._rows
    merge._waiting, merge._rows = {}, 0
    block = _BLOCK(merge)
    merge._waiting, merge._rows = kept
    return block


_ADD: Final = TraceMerge.add
_BLOCK: Final = TraceMerge.block
_COMMIT_ORDER: Final = PartitionCheckpoints.commit_order
_PUT: Final = KafkaBlocks.put
_START: Final = Merger.start
_SWITCH: Final = PartitionCheckpoints.switch
_TAKE: Final = Merger.take

MUTANTS: Final[Mapping[str, Mutant]] = MappingProxyType(
    {
        "publishes before the order is committed": Mutant(
            ((PartitionCheckpoints, "commit_order", _commit_nothing),),
            {"lag": 0.3},
            {"merge_wait_ms": 50},
            first_seed=4,
        ),
        "takes every merge for one in order": Mutant(
            ((Merger, "take", _always_in_order),),
            {"lag": 0.3},
            {"merge_wait_ms": 50},
            first_seed=37,
        ),
        "marks as published what is only about to be": Mutant(
            ((PartitionCheckpoints, "commit_order", _published_early),),
        ),
        "commits before the blocks are acknowledged": Mutant(
            ((KafkaBlocks, "put", _put_without_waiting),),
        ),
        "lets a paused worker commit after its time": Mutant(
            ((Group, "_check", _anybody),),
            {"nodes": 2, "static": False},
            kill_rate=0.0,
            pause_rate=0.02,
            first_seed=6,
        ),
        "forgets how far each source had come in time": Mutant(
            ((Merger, "start", _forget_times),),
            {"lag": 0.3},
            first_seed=43,
        ),
        "uses the keys of blocks again": Mutant(
            ((World, "new_writer", lambda _world: "writer"),),
            {"nodes": 1, "static": True, "restart_s": 0.2},
            first_seed=12,
        ),
        "takes what it wrote for all there is": Mutant(
            ((BlockMemory, "wrote", BlockMemory.apply),),
            {"nodes": 2, "static": False, "restart_s": 0.2},
            kill_rate=0.0,
            pause_rate=0.03,
            first_seed=4,
        ),
        "goes beyond the bound on its way back": Mutant(
            ((Merger, "take", _beyond_the_bound),),
            {"malformed_share": 0.1},
            first_seed=6,
        ),
        "scores with the newest model on its way back": Mutant(
            ((PartitionCheckpoints, "switch", _newest_models),),
            {"swap_every_s": 5.0},
        ),
        "tells the next stage under a name of its own": Mutant(
            ((PartitionCheckpoints, "lineage", property(_name_of_its_own)),),
            {"stages": 2},
        ),
        "takes a trace again that comes again": Mutant(
            ((TraceMerge, "add", _take_again),),
            {"stages": 2},
        ),
        "forgets the traces that wait for another source": Mutant(
            ((TraceMerge, "block", _block_without_rows),),
            {"stages": 2, "partitions": 2},
        ),
    }
)
"""By what is wrong."""
