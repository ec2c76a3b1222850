"""Recovery gets all that a generation has read of a changelog, and ends when that passes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, Final

import pytest
from faust.tables.recovery import RebalanceAgain

from monitor.kafka.app import WorkerApp, build_app
from monitor.kafka.chunks import Chunk
from monitor.kafka.settings import WorkerSettings
from monitor.kafka.topics import TopicNames

OLD: Final = 1
NEW: Final = 2


def record(offset: int, generation: int) -> Any:  # noqa: ANN401 - stands for an event of Faust
    """What recovery looks at of an event."""
    return SimpleNamespace(message=SimpleNamespace(offset=offset, generation_id=generation))


async def taken(app: WorkerApp, count: int) -> list[int]:
    """The offsets of the next ``count`` records."""
    queue = app.tables.changelog_queue
    events = [await asyncio.wait_for(queue.get(), timeout=5.0) for _ in range(count)]
    assert queue.empty()
    return [event.message.offset for event in events]


def in_app(play: Callable[[WorkerApp], Awaitable[None]]) -> None:
    """Play with the app of a worker in its second generation, its flow suspended."""

    async def main() -> None:
        settings = WorkerSettings(
            brokers=("localhost:1",),
            topics=TopicNames.with_prefix(""),
            group="group",
            stream_buffer_chunks=4,
        )
        app = build_app(settings, 1, ignored)
        app.consumer_generation_id = NEW
        try:
            await play(app)
        finally:
            app.consumer.discard()

    asyncio.run(main())


async def ignored(_: Chunk) -> None:
    """No chunk comes here."""


def test_what_standbys_have_read_survives_that_flow_resumes_once_more() -> None:
    async def play(app: WorkerApp) -> None:
        queue = app.tables.changelog_queue
        app.flow_control.resume()
        for offset in range(4):
            await queue.put(record(offset, NEW))
        waiting = asyncio.create_task(queue.put(record(4, NEW)))  # for a place
        await asyncio.sleep(0)
        app.flow_control.resume()
        assert await taken(app, 5) == [0, 1, 2, 3, 4]
        assert waiting.done()
        assert not waiting.cancelled()

    in_app(play)


def test_what_waited_for_flow_since_a_past_generation_is_left_to_be_read_again() -> None:
    async def play(app: WorkerApp) -> None:
        queue = app.tables.changelog_queue
        waiting = asyncio.create_task(queue.put(record(7, OLD)))
        await asyncio.sleep(0)
        app.flow_control.resume()
        await waiting
        for offset in range(5, 8):
            await queue.put(record(offset, NEW))
        assert await taken(app, 3) == [5, 6, 7]

    in_app(play)


def test_a_past_generation_whose_records_fill_the_queue_makes_room() -> None:
    async def play(app: WorkerApp) -> None:
        queue = app.tables.changelog_queue
        app.consumer_generation_id = OLD
        app.flow_control.resume()
        for offset in range(4):
            await queue.put(record(offset, OLD))
        waiting = asyncio.create_task(queue.put(record(4, OLD)))
        await asyncio.sleep(0)
        app.flow_control.suspend()
        app.flow_control.clear()
        app.consumer_generation_id = NEW
        app.flow_control.resume()
        taking = asyncio.create_task(taken(app, 1))
        await asyncio.wait_for(waiting, timeout=5.0)
        await queue.put(record(0, NEW))
        assert await taking == [0]

    in_app(play)


def test_a_rebalance_ends_recovery_before_its_next_step() -> None:
    async def play(app: WorkerApp) -> None:
        taken: list[str] = []

        async def step() -> None:
            taken.append("a step")

        recovery = app.tables.recovery
        await recovery._wait(step())
        recovery.signal_recovery_start.set()
        with pytest.raises(RebalanceAgain):
            await recovery._wait(step())
        assert taken == ["a step"]

    in_app(play)


def test_a_step_that_fails_since_a_rebalance_came_ends_recovery_and_not_the_worker() -> None:
    async def play(app: WorkerApp) -> None:
        recovery = app.tables.recovery

        async def step(rebalance: bool) -> None:
            if rebalance:
                recovery.signal_recovery_start.set()
            raise ValueError("Offset must be a positive integer")

        with pytest.raises(ValueError, match="Offset"):
            await recovery._wait(step(rebalance=False))
        with pytest.raises(RebalanceAgain):
            await recovery._wait(step(rebalance=True))

    in_app(play)
